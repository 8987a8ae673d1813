package route

import (
	"errors"

	"golang.org/x/sys/unix"
)

// ErrClosed is returned by a Manager after Close.
var ErrClosed = errors.New("route: manager closed")

// OpError is one change that the kernel refused. Apply and Close join all of theirs; errors.As finds the first.
type OpError struct {
	Op     string // "add", "change", "remove", "read"
	Object string // the object in the words of ip(8): "route 10.20.0.0/16 dev office"
	Err    error  // usually a unix.Errno
	hint   string // what an operator can do next, "" when nobody knows
}

// Error returns one line: what was tried, what the kernel said, and the next step.
func (e *OpError) Error() string {
	text := e.Op + " " + e.Object + ": " + e.Err.Error()
	if e.hint != "" {
		text += " (" + e.hint + ")"
	}
	return text
}

// Unwrap returns the kernel's error.
func (e *OpError) Unwrap() error { return e.Err }

// newOpError wraps err with the object and with the next step for an operator.
func newOpError(op string, object string, o any, err error) *OpError {
	return &OpError{Op: op, Object: object, Err: err, hint: hintFor(op, o, err)}
}

// hintFor names the next step: what an operator who reads only this line should look at or change.
func hintFor(op string, o any, err error) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return "needs CAP_NET_ADMIN: run as root or by the tund@ service"
	case errors.Is(err, unix.ENODEV):
		return "the device is gone: see `ip link`"
	case isMaster(o) && !errors.Is(err, unix.EBUSY):
		m := o.(masterObject)
		return "only an Ethernet device (TAP) can join a bridge, and " + m.bridge + " must be one: see `ip -d link show " + m.bridge + "`"
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
		return "this kernel lacks it: see `dmesg`, `modprobe`, and the kernel's configuration"
	case op == "remove":
		return "remove it by hand with ip(8) or nft(8), or run `tund --cleanup`"
	}
	switch o := o.(type) {
	case routeObject:
		return routeHint(o, err)
	case addrObject:
		if errors.Is(err, unix.EACCES) && o.addr.Addr().Is6() {
			return "IPv6 is switched off: sysctl net.ipv6.conf." + o.dev + ".disable_ipv6=0, or remove the address from the configuration"
		}
		if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINVAL) {
			return "IPv6 needs an MTU of at least 1280 on the device"
		}
		if errors.Is(err, unix.EEXIST) {
			return "the device has the address with another length: see `ip address show dev " + o.dev + "`"
		}
	case mtuObject:
		return "the device accepts another range: see minmtu and maxmtu in `ip -d link show dev " + o.dev + "`"
	case masterObject:
		return "another bridge or bond holds it: ip link set " + o.dev + " nomaster"
	case bridgeObject:
		if errors.Is(err, unix.EEXIST) {
			return "somebody just made a link of that name: try again"
		}
	case sysctlObject:
		return "set net.ipv4.conf.all.src_valid_mark=1 in /etc/sysctl.d, the service may not"
	}
	return ""
}

func isMaster(o any) bool { _, ok := o.(masterObject); return ok }

func routeHint(o routeObject, err error) string {
	family := "ip"
	if o.dst.Addr().Is6() {
		family = "ip -6"
	}
	switch {
	case errors.Is(err, unix.EEXIST):
		return "another route is there already: see `" + family + " route show " + o.dst.String() + " table " + tableName(o.table) +
			"`; remove it, or set another metric or table"
	case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENETUNREACH):
		return "the device is down: ip link set " + o.dev + " up"
	case errors.Is(err, unix.EACCES):
		return "IPv6 is switched off: sysctl net.ipv6.conf." + o.dev + ".disable_ipv6=0, or remove the allowed IP"
	}
	return ""
}
