package desired

import (
	"errors"
	"fmt"
	"net"

	"tund/config"
	"tund/internal/resolve"
	"tund/route"
)

// Plan returns what a start of the instance, or a reload if it runs, would change in the kernel (in
// order, one line each, in the syntax of ip(8)) and the warnings that it would give. It changes
// nothing. It looks up no names: an automatic MTU is that of the paths to endpoints given by
// address, and if the device exists already, its MTU is kept.
func Plan(c *config.Config) (changes, warnings []string, err error) {
	m, err := route.New(c.Instance)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, m.Release()) }()
	mtu := 0
	if c.Tun != nil {
		_, missing := net.InterfaceByName(c.Tun.Device)
		if c.Tun.MTU != 0 || missing != nil {
			known := resolve.New(resolve.Options{}) // only endpoints given by address
			mtu = TunMTU(c, LookUpPaths(m, known, Pointers(c.Peers), nil, m.Mark(State(c, nil, 0, 0))).Least)
		}
	}
	state := State(c, nil, mtu, TapMTU(c))
	for _, dev := range state.Devices {
		if _, err := net.InterfaceByName(dev.Name); err != nil {
			kind := "TUN"
			if c.Tap != nil && dev.Name == c.Tap.Device {
				kind = "TAP"
			}
			changes = append(changes, fmt.Sprintf("add device %s (%s)", dev.Name, kind))
		}
	}
	more, warnings, err := m.Preview(state)
	return append(changes, more...), warnings, err
}
