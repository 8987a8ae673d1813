package linkbench

import (
	"errors"

	"golang.org/x/sys/unix"
)

// absent is the error of what this kernel does not have.
type absent struct{ what string }

func (a *absent) Error() string { return "not in this kernel: " + a.what }

func isAbsent(err error) bool {
	var a *absent
	return errors.As(err, &a)
}

// lacks reports whether the kernel says by an error that it does not have something at all.
func lacks(err error) bool {
	for _, no := range []unix.Errno{unix.EOPNOTSUPP, unix.ENOENT, unix.ENODEV, unix.ENXIO, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

const unixRoute = unix.NETLINK_ROUTE
