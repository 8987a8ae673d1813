package web

import (
	"errors"
	"net"
	"syscall"

	"go.uber.org/zap"

	"tund/config"
)

// Door is the address at which a Site is shown, and which can be changed. An address that cannot be
// opened keeps nothing else from happening: Failure tells, and Retry tries again. It belongs to one
// goroutine at a time. A nil Door is never opened, and changes nothing.
type Door struct {
	site     *Site
	wanted   config.Metrics // where it is to be, whether it could be opened or not
	failure  error          // why it could not be opened; nil: it is open, or off
	listener net.Listener   // until it is served; nil: none
	server   *Server        // nil: nothing is served
}

// NewDoor makes a Door that is shut.
func NewDoor(s *Site) *Door { return &Door{site: s} }

// Open begins to listen at an address, unless that is off. Requests are answered after Start.
func (d *Door) Open(m config.Metrics) {
	d.wanted = m
	if !m.Off() {
		if d.listener, d.failure = Listen(m); d.failure != nil {
			d.site.log.Warn("cannot serve metrics; it will be tried again", zap.Error(d.failure))
		}
	}
}

// Failure returns why the address wanted could not be opened the last time, and nil if it was, or
// if none is wanted.
func (d *Door) Failure() error {
	if d == nil {
		return nil
	}
	return d.failure
}

// Retry tries again to open an address that could not be opened: it may not have been an address of
// this host yet, or in use by another program.
func (d *Door) Retry() {
	if d.Failure() == nil {
		return
	}
	var l net.Listener
	if l, d.failure = Listen(d.wanted); d.failure == nil {
		_ = d.serve(l, d.wanted) // nothing was served before
	}
}

// String returns the address wanted, as the configuration has it.
func (d *Door) String() string { return d.wanted.String() }

// Start answers at the address that Open has opened, if it could.
func (d *Door) Start() {
	if l := d.listener; l != nil {
		d.listener = nil
		_ = d.serve(l, d.wanted) // nothing was served before
	}
}

// Close stops listening and answering.
func (d *Door) Close() error {
	var err error
	if d.listener != nil {
		err = d.listener.Close()
		d.listener = nil
	}
	return errors.Join(err, d.serve(nil, config.Metrics{}))
}

// serve answers at a new listener, nil for none, in place of the one before.
func (d *Door) serve(l net.Listener, m config.Metrics) error {
	var err error
	if d.server != nil {
		err = d.server.Close()
		d.server = nil
	}
	if l != nil {
		d.server = d.site.Serve(l, m)
		d.site.log.Info("serving metrics", zap.Stringer("listen", m))
	}
	return err
}

// Change is a change of the address that has been prepared: the new address is open, or could not
// be opened. The zero Change is none.
type Change struct {
	needed   bool
	to       config.Metrics
	listener net.Listener // nil: none
	failure  error        // why there is none
	// yielded: the old address had to be closed first, because it has the same port.
	yielded bool
}

// Prepare opens another address, if it differs from the one in use. The Change is to be committed
// or cancelled.
func (d *Door) Prepare(m config.Metrics) (c Change) {
	if d == nil || m == d.wanted && (m.Off() || d.server != nil) {
		return Change{}
	}
	c.needed, c.to = true, m
	if m.Off() {
		return c
	}
	c.listener, c.failure = Listen(m)
	if errors.Is(c.failure, syscall.EADDRINUSE) && d.server != nil && d.wanted.Listen.Port() == m.Listen.Port() {
		c.yielded = true
		_ = d.serve(nil, d.wanted)
		c.listener, c.failure = Listen(m)
	}
	return c
}

// Cancel undoes a prepared change.
func (d *Door) Cancel(c Change) error {
	var err error
	if c.listener != nil {
		err = c.listener.Close()
	}
	if c.yielded {
		l, failed := Listen(d.wanted)
		if failed != nil {
			return errors.Join(err, failed)
		}
		err = errors.Join(err, d.serve(l, d.wanted))
	}
	return err
}

// Commit makes a prepared change. The former address is no longer answered at, also if the new one
// could not be opened: Failure tells.
func (d *Door) Commit(c Change) {
	if !c.needed {
		return
	}
	d.wanted, d.failure = c.to, c.failure
	if err := d.serve(c.listener, c.to); err != nil {
		d.site.log.Debug("close the former address of metrics", zap.Error(err))
	}
}
