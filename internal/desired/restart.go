package desired

import (
	"errors"
	"fmt"

	"tund/config"
)

// NeedsRestart refuses changes that a running instance cannot make. It names all of them at once.
func NeedsRestart(old, next *config.Config) error {
	var errs []error
	refuse := func(key string, differs bool) {
		if differs {
			errs = append(errs, fmt.Errorf("%s: %s changed: restart the instance to apply it", next.Path, key))
		}
	}
	refuse("[tun]", (old.Tun == nil) != (next.Tun == nil))
	refuse("[tap]", (old.Tap == nil) != (next.Tap == nil))
	refuse("[agent]", (old.Agent == nil) != (next.Agent == nil))
	if old.Agent != nil && next.Agent != nil {
		refuse("agent.user", old.Agent.User != next.Agent.User)
	}
	if old.Tun != nil && next.Tun != nil {
		refuse("tun.device", old.Tun.Device != next.Tun.Device)
	}
	if old.Tap != nil && next.Tap != nil {
		refuse("tap.device", old.Tap.Device != next.Tap.Device)
	}
	o, n := &old.Tunnel, &next.Tunnel
	refuse("tunnel.offload", o.Offload != n.Offload)
	refuse("tunnel.udp_offload", o.UDPOffload != n.UDPOffload)
	refuse("tunnel.bind_device", o.BindDevice != n.BindDevice)
	refuse("tunnel.lanes", Lanes(old) != Lanes(next))
	refuse("tunnel.inner_checksum", o.VerifyInnerChecksum != n.VerifyInnerChecksum)
	return errors.Join(errs...)
}
