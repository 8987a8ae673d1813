package route

import (
	"errors"

	"golang.org/x/sys/unix"
)

// ErrClosed is returned by a Manager after Close.
var ErrClosed = errors.New("route: manager closed")

// OpError is one change that the kernel refused. Apply and Close join all of theirs; errors.As
// finds the first.
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

// newOpError wraps err with the object, whose name is given, and with the next step for an
// operator. o may be nil.
func newOpError(op, name string, o object, err error) *OpError {
	return &OpError{Op: op, Object: name, Err: err, hint: hintFor(op, o, err)}
}

// hintFor returns the next step for an operator who reads only this line, "" when there is none.
func hintFor(op string, o object, err error) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return "needs CAP_NET_ADMIN: run as root or by the tund@ service"
	case errors.Is(err, unix.ENODEV):
		return "the device is gone: see `ip link`"
	case op == string(doRemove):
		return "remove it by hand with ip(8) or nft(8), or run `tund --cleanup`"
	}
	if a, ok := o.(advisor); ok {
		if advice := a.advice(err); advice != "" {
			return advice
		}
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return "this kernel lacks it: see `dmesg`, `modprobe`, and the kernel's configuration"
	}
	return ""
}
