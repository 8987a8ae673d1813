package config

import (
	"bytes"
	"compress/flate"
	"io"
)

// packed is the compressed text of a file. A Config keeps it as long as the daemon runs, for a
// reload that does not last. It is a structure, and held by a pointer, so that fmt shows nothing of
// it.
type packed struct{ data []byte }

func pack(text []byte) *packed {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		return nil // an invalid level
	}
	_, _ = w.Write(text) // a Buffer takes everything
	_ = w.Close()
	return &packed{bytes.Clone(out.Bytes())}
}

// Source returns the text that was read, for Parse; nil if there was none. It may hold secrets.
func (c *Config) Source() []byte {
	if c.text == nil {
		return nil
	}
	text, err := io.ReadAll(flate.NewReader(bytes.NewReader(c.text.data)))
	if err != nil {
		return nil // pack makes nothing that cannot be read
	}
	return text
}
