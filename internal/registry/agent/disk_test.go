package agent

import (
	"bytes"
	"io"
	"sync"
)

// memory is a disk.
type memory struct {
	mu    sync.Mutex
	files map[string][]byte
	saves int // of the status
	full  error
}

// fail makes writing fail.
func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = err
}

func (m *memory) Open(name string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if data, there := m.files[name]; there {
		return io.NopCloser(bytes.NewReader(data)), nil
	}
	return nil, nil
}

func (m *memory) Save(name string, write func(io.Writer) error) error {
	var data bytes.Buffer
	if err := write(&data); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full == nil {
		m.files[name] = data.Bytes()
	}
	if name == StatusName {
		m.saves++
	}
	return m.full
}

func (m *memory) Append(name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full == nil {
		m.files[name] = append(m.files[name], data...)
	}
	return m.full
}
