package hostcheck

import (
	"fmt"
	"net/netip"
)

// addresses finds other links that have an address of the TUN device, or a network that its own is
// a part of: the kernel has two ways to the same hosts then, and takes one of them.
func (t *Tunnel) addresses(h Host) (list []Finding) {
	tun := h.link(t.Device)
	if tun == nil || !tun.Up {
		return nil
	}
	for i := range h.Links {
		l := &h.Links[i]
		if l.Name == t.Device || !l.Up {
			continue
		}
		for _, a := range tun.Addrs {
			for _, b := range l.Addrs {
				if f := shared(t.Device, l.Name, a, b); f != nil && len(list) < maxNamed {
					list = append(list, *f)
					break
				}
			}
		}
	}
	return list
}

// shared compares an address of the TUN device with one of another link. It returns nil if both can
// be used.
func shared(tun, link string, a, b netip.Prefix) *Finding {
	if a.Addr().IsLinkLocalUnicast() {
		return nil
	}
	f := &Finding{Kind: Address, Subject: a.String() + " " + link}
	switch {
	case a.Addr() == b.Addr():
		f.Message = fmt.Sprintf("%v is an address of %s and of %s: which of them answers for it, and where its packets go, is left to chance",
			a.Addr(), tun, link)
		f.Remedy = "give one of the two another address"
	case a.IsSingleIP() || b.Bits() > a.Bits() || !b.Masked().Contains(a.Addr()):
		return nil
	default:
		f.Message = fmt.Sprintf("%v, the network of %s, is also in that of %s (%v): hosts there that have an address in both are not reached by %s",
			a.Masked(), tun, link, b.Masked(), link)
		f.Remedy = "use a network of its own for the tunnel, or give " + tun + " a longer prefix: address = [\"" + single(a.Addr()) + "\"]"
	}
	return f
}

// single is an address as the only one of its network.
func single(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }
