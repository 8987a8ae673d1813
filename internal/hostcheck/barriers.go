package hostcheck

import (
	"fmt"
	"slices"
)

// barriers finds firewalls that keep the networks of a gateway from the tunnel. A policy counts
// less than a rule about the device: container engines and hypervisors forward for the bridges that
// they make, and set the policy to drop for everybody else.
func (t *Tunnel) barriers(h Host) (list []Finding) {
	lans := t.served(h)
	certain := t.Forwards || slices.ContainsFunc(lans, func(l *Link) bool { return !l.Bridge })
	for _, r := range t.Barriers {
		if r.Policy && !certain || len(lans) == 0 && !t.Forwards {
			continue
		}
		if r.managed() != "" && slices.ContainsFunc(list, func(x Finding) bool { return x.Remedy == r.managed() }) {
			continue
		}
		list = append(list, Finding{
			Kind: Forwarding, Subject: r.Table + " " + r.Chain,
			Message: fmt.Sprintf("the firewall of this host drops what is forwarded between %s and other networks (%s)", t.Device, r),
			Remedy:  r.Remedy(),
		})
	}
	return list
}

// Gateway reports whether networks of the host are to use the tunnel, as far as can be known: the
// kernel forwards between it and one of them, and peers have networks.
func (t *Tunnel) Gateway(h Host) bool { return len(t.served(h)) > 0 }

// served returns the networks of the host between which and the tunnel the kernel forwards, if
// peers have networks.
func (t *Tunnel) served(h Host) (list []*Link) {
	return append(t.servedBy(h, false), t.servedBy(h, true)...)
}

// servedBy is served for one address family.
func (t *Tunnel) servedBy(h Host, v6 bool) (list []*Link) {
	tun := h.link(t.Device)
	if tun == nil || !t.wide(tun, v6) {
		return nil
	}
	for _, lan := range t.lans(h, v6) {
		if v6 && h.Forward6 || !v6 && tun.Forward4 && lan.Forward4 {
			list = append(list, lan)
		}
	}
	return list
}
