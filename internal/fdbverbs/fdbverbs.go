// Package fdbverbs carries out what an operator wants of the forwarding database: it reads MAC
// addresses and VLANs as the control API gives them, and returns its errors with the codes that
// clients expect. What the switch makes of it is decided in tunnel/l2.
//
// The package keeps nothing. Its functions may be called from several goroutines.
package fdbverbs

import (
	"errors"

	"tund/internal/control"
	"tund/internal/names"
	"tund/tunnel"
	"tund/tunnel/l2"
)

// Switch is the forwarding database of an instance, as *tunnel.Tunnel has it.
type Switch interface {
	FlushFDB(filter l2.Filter, port string) (int, error)
	PinFDB(vlan uint16, mac l2.MAC, port string) error
}

// Flush removes the entries that f selects and returns their number. Its errors are those of
// control.Backend.
func Flush(s Switch, f control.FDBFilter) (int, error) {
	filter := l2.Filter{Static: f.Static}
	if f.MAC != "" {
		mac, err := station(f.MAC)
		if err != nil {
			return 0, err
		}
		filter.MAC = &mac
	}
	if f.VLAN != nil {
		vlan := uint16(*f.VLAN)
		filter.VLAN = &vlan
	}
	n, err := s.FlushFDB(filter, f.Port)
	return n, coded(err, f.Port)
}

// Pin adds a static entry, or moves one. Its errors are those of control.Backend.
func Pin(s Switch, p control.FDBPin) error {
	mac, err := station(p.MAC)
	if err != nil {
		return err
	}
	return coded(s.PinFDB(uint16(p.VLAN), mac, p.Port), p.Port)
}

func station(text string) (l2.MAC, error) {
	mac, err := names.Station(text)
	if err != nil {
		return 0, invalid(err)
	}
	return l2.MACFromBytes(mac[:]), nil
}

func invalid(err error) error {
	return &control.Error{Code: control.CodeInvalid, Message: err.Error()}
}

// coded gives an error of the switch about a port the code that clients expect.
func coded(err error, port string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tunnel.ErrNoEthernet):
		return &control.Error{Code: control.CodeUnsupported, Message: "this instance has no [tap], and so no forwarding database"}
	case errors.Is(err, l2.ErrNoPort):
		return &control.Error{Code: control.CodeNotFound, Message: "no peer or device is called " + port}
	}
	return invalid(err)
}
