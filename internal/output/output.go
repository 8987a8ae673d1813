// Package output is the standard output of a program that has to say when it could not write it:
// what goes to a full disk must not end with success, even where nobody looks at the error of a
// single line.
//
// It neither buffers nor repeats anything. A Writer may be used from several goroutines if what it
// writes to may.
package output

import (
	"io"
	"sync"
)

// Writer passes everything on, and remembers the first error.
type Writer struct {
	to  io.Writer
	mu  sync.Mutex
	err error // guarded by mu
}

// New returns a Writer that writes to w.
func New(w io.Writer) *Writer { return &Writer{to: w} }

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.err == nil {
			w.err = err
		}
	}
	return n, err
}

// Err returns the first error that a Write has returned, or nil.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
