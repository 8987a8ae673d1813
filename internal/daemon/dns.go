package daemon

import (
	"net/netip"
	"reflect"

	"go.uber.org/zap"

	"tund/internal/desired"
	"tund/internal/resolved"
	"tund/internal/rundir"
)

// announceDNS asks for the DNS servers of the configuration in force, unless that was done before.
// Callers hold changing, or are the start.
func (d *Daemon) announceDNS() {
	if !reflect.DeepEqual(desired.DNS(d.config), d.dns) {
		d.askForDNS()
	}
}

// askAgainForDNS asks once more: systemd-resolved was started late, or has forgotten.
func (d *Daemon) askAgainForDNS() {
	d.changing.Lock()
	defer d.changing.Unlock()
	if !d.stopping {
		d.askForDNS()
	}
}

// askForDNS asks for the DNS servers of the configuration in force. Callers hold changing, or are
// the start.
func (d *Daemon) askForDNS() {
	if d.control == nil {
		return
	}
	wanted := desired.DNS(d.config)
	if err := resolved.Announce(d.runDir(), wanted); err != nil {
		d.log.Warn("cannot ask for other DNS servers", zap.Error(err))
		return
	}
	d.dns = wanted
}

// removeDNS takes back the request. The settings themselves go with the device.
func (d *Daemon) removeDNS() error {
	if d.control == nil {
		return nil
	}
	return resolved.Remove(d.runDir())
}

func (d *Daemon) runDir() string { return rundir.Instance(rundir.Path(), d.config.Instance) }

// outsideDNS returns the DNS servers outside the tunnel that systemd-resolved knows, if server is
// the stub at which resolved answers and resolved may ask servers inside: the names of endpoints
// have to be found before there is a tunnel.
func (d *Daemon) outsideDNS(server netip.Addr) []netip.Addr {
	d.mu.Lock()
	inside := desired.DNS(d.config).Servers
	d.mu.Unlock()
	if len(inside) == 0 {
		return nil
	}
	return resolved.Others(server, inside)
}
