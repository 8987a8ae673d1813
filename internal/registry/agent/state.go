package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"go.uber.org/zap"

	"tund/internal/registry/view"
)

// The state on disk is a file of lines, each a JSON object: everything that was known once, and
// behind it what has changed since. Of several lines about the same the last one counts. A change
// of one site among thousands so costs one line, and not the whole file.

const (
	// savePause is the least time between two writes of the state.
	savePause = 10 * time.Second
	// stateName is the name of the state on disk.
	stateName = "state.jsonl"
	// The file is rewritten once what was added is more than what was there, and than addedLeast
	// bytes.
	addedLeast = 1 << 20
)

// line is one of the state.
type line struct {
	view.Entry
	Own *count `json:"own,omitempty"`
}

// count is that of our last record.
type count struct {
	Epoch  uint64 `json:"epoch"`
	Serial uint64 `json:"serial"`
}

// stateFile is what is known of the file.
type stateFile struct {
	whole        bool // this run has written all of it, and every change since
	size, behind int  // bytes that were written at once, and that were added
	own          count
}

// restore takes the state that an earlier run has left on disk.
func (a *Agent) restore() error {
	f, err := a.o.Disk.Open(stateName)
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	var broken error
	err = a.view.Restore(a.lines(json.NewDecoder(bufio.NewReader(f)), &broken))
	if broken != nil {
		a.o.Log.Warn("the state of the earlier run cannot be read to its end; waiting for the store", zap.Error(broken))
	}
	if err != nil {
		// Other signers may be trusted than before. Peers that tund has are not to go for that.
		a.o.Log.Warn("a part of the state of the earlier run is not used; waiting for the store", zap.Error(err))
	}
	a.remembered = err == nil && broken == nil && a.view.Sites() > 0
	return nil
}

// lines returns the entries of the state. A last line that was not written to its end, because of a
// crash, is none; any other mistake ends them.
func (a *Agent) lines(d *json.Decoder, broken *error) iter.Seq[view.Entry] {
	return func(yield func(view.Entry) bool) {
		for {
			var l line
			switch err := d.Decode(&l); {
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				return
			case err != nil:
				*broken = err
				return
			case l.Own != nil:
				a.published.epoch, a.published.serial = l.Own.Epoch, l.Own.Serial
			case !yield(l.Entry):
				return
			}
		}
	}
}

// save writes what has changed, but not often.
func (a *Agent) save(now time.Time, last bool) {
	if !last && now.Sub(a.savedAt) < savePause {
		return
	}
	a.savedAt = now
	err := a.saveStatus()
	if a.dirty && (a.listed || a.remembered) {
		stateErr := a.saveState()
		a.dirty = stateErr != nil
		err = errors.Join(err, stateErr)
	}
	a.warn("save the state", err)
}

// saveStatus writes the status, if it is another one: a disk may be a card that every write wears.
func (a *Agent) saveStatus() error {
	text, err := json.MarshalIndent(&a.status, "", "  ")
	if err != nil || bytes.Equal(text, a.savedStatus) {
		return err
	}
	err = a.o.Disk.Save(StatusName, func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
	if err == nil {
		a.savedStatus = text
	}
	return err
}

// saveState adds what has changed to the file, or rewrites it.
func (a *Agent) saveState() (err error) {
	f := &a.state
	own := count{a.published.epoch, a.published.serial}
	if !f.whole || f.behind > max(f.size, addedLeast) {
		*f = stateFile{own: own}
		err = a.o.Disk.Save(stateName, func(w io.Writer) error {
			f.size, err = writeLines(w, a.view.Snapshot(), &own)
			return err
		})
		f.whole = err == nil
		return err
	}
	var more bytes.Buffer
	changed := &own
	if own == f.own {
		changed = nil
	}
	n, err := writeLines(&more, a.view.Changes(), changed)
	if err == nil && n > 0 {
		err = a.o.Disk.Append(stateName, more.Bytes())
	}
	f.whole, f.own = err == nil, own
	f.behind += n
	return err
}

// writeLines writes entries, and a count unless it is nil. It returns how many bytes these are.
func writeLines(w io.Writer, entries iter.Seq[view.Entry], own *count) (size int, err error) {
	out := bufio.NewWriter(w)
	write := func(l line) error {
		text, err := json.Marshal(&l)
		if err != nil {
			return fmt.Errorf("encode the state: %w", err)
		}
		n, err := out.Write(append(text, '\n'))
		size += n
		return err
	}
	if own != nil {
		err = write(line{Own: own})
	}
	for e := range entries {
		if err != nil {
			break
		}
		err = write(line{Entry: e})
	}
	return size, errors.Join(err, out.Flush())
}
