package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// toJournal reports whether a descriptor leads to systemd's journal: systemd names the device and
// the inode of what it connected us to (systemd.exec(5), $JOURNAL_STREAM).
func toJournal(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// priority is what the journal wants to read before a line, and takes away (sd-daemon(3)).
func priority(level zapcore.Level) string {
	switch {
	case level <= zapcore.DebugLevel:
		return "<7>"
	case level == zapcore.InfoLevel:
		return "<6>"
	case level == zapcore.WarnLevel:
		return "<4>"
	}
	return "<3>"
}

// prioritized puts a priority before each line of a text that ends with one.
func prioritized(text []byte, prefix string) []byte {
	out := make([]byte, 0, len(text)+len(prefix))
	for line := range bytes.Lines(text) {
		out = append(append(out, prefix...), line...)
	}
	return out
}

// journalEncoder gives each line of a log its priority: an error may be several lines long.
type journalEncoder struct{ zapcore.Encoder }

func (e journalEncoder) Clone() zapcore.Encoder { return journalEncoder{e.Encoder.Clone()} }

func (e journalEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	b, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	text := prioritized(b.Bytes(), priority(entry.Level))
	b.Reset()
	_, err = b.Write(text)
	return b, err
}

// journalWriter gives what is not logged but printed a priority: what is wrong with the
// configuration, and why a start failed. Each write is whole lines.
type journalWriter struct {
	io.Writer
	level zapcore.Level
}

func (w journalWriter) Write(text []byte) (int, error) {
	if _, err := w.Writer.Write(prioritized(text, priority(w.level))); err != nil {
		return 0, err
	}
	return len(text), nil
}
