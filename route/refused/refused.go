// Package refused says what the kernel refused of an instance's network configuration, and what an
// operator can do about it. It asks nobody: whoever knows an object better gives advice.
package refused

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Remove is the operation whose failure leaves something of ours in the kernel.
const Remove = "remove"

// Error is one change that the kernel refused. Apply and Close of a route.Manager join all of
// theirs; errors.As finds the first.
type Error struct {
	Op     string // "add", "change", "remove", "read"
	Object string // the object in the words of ip(8): "route 10.20.0.0/16 dev office"
	Err    error  // usually a unix.Errno
	hint   string // what an operator can do next, "" when nobody knows
}

// New returns the error of an operation on an object. advice is the next step for this object, ""
// when there is none; causes that concern the whole instance come first.
func New(op, object string, err error, advice string) *Error {
	return &Error{Op: op, Object: object, Err: err, hint: hintFor(op, err, advice)}
}

// Error returns one line: what was tried, what the kernel said, and the next step.
func (e *Error) Error() string {
	text := e.Op + " " + e.Object + ": " + e.Err.Error()
	if e.hint != "" {
		text += " (" + e.hint + ")"
	}
	return text
}

// Unwrap returns the kernel's error.
func (e *Error) Unwrap() error { return e.Err }

// Nothing reports whether a removal failed because there was nothing to remove.
func Nothing(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ESRCH) ||
		errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// hintFor returns the next step for an operator who reads only this line, "" when there is none.
func hintFor(op string, err error, advice string) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return "needs CAP_NET_ADMIN: run as root or by the tund@ service"
	case errors.Is(err, unix.ENODEV):
		return "the device is gone: see `ip link`"
	case op == Remove:
		return "remove it by hand with ip(8) or nft(8), or run `tund --cleanup`"
	case advice != "":
		return advice
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
		return "this kernel lacks it: see `dmesg`, `modprobe`, and the kernel's configuration"
	}
	return ""
}
