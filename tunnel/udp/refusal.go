package udp

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Unreachable reports whether err, returned by a send, means that no datagram can reach that
// address for now. The errors for a datagram that is too large or a full queue do not mean that.
func Unreachable(err error) bool {
	return err != nil && !errors.Is(err, unix.EMSGSIZE) && !errors.Is(err, unix.ENOBUFS)
}

// Refusal says in words why the kernel refuses to send to an endpoint, and what to check.
func Refusal(ep netip.AddrPort, err error) string {
	text := "cannot send to " + ep.String() + ": " + err.Error()
	look := " (see: ip route get " + ep.Addr().String() + ")"
	switch {
	case errors.Is(err, unix.EPERM):
		return text + ": the firewall of this host drops it on its way out (see: nft list ruleset, hook output), " +
			"or an IPsec policy (ip xfrm policy) or IPAddressDeny= of systemd does"
	case errors.Is(err, unix.ENETUNREACH):
		return text + ": this host has no route there" + look
	case errors.Is(err, unix.EHOSTUNREACH):
		return text + ": a route of type unreachable covers it, or the next hop does not answer" + look
	case errors.Is(err, unix.EACCES):
		return text + ": a route of type prohibit covers it, or it is a broadcast address" + look
	case errors.Is(err, unix.EINVAL) && ep.Addr().IsLinkLocalUnicast() && ep.Addr().Is6() && ep.Addr().Zone() == "":
		return text + ": a link-local address needs the interface behind a percent sign"
	case errors.Is(err, unix.EINVAL):
		return text + ": a route of type blackhole covers it" + look
	case errors.Is(err, unix.ENODEV) && ep.Addr().Zone() == "":
		return text + ": the interface of bind_device in [tunnel] is gone (see: ip link)"
	case errors.Is(err, unix.ENODEV):
		return text + ": this host has no interface " + ep.Addr().Zone()
	case errors.Is(err, unix.EAFNOSUPPORT):
		return text + ": IPv6 is switched off on this host"
	}
	return text
}
