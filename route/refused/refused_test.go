package refused

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestError_saysTheNextStep(t *testing.T) {
	t.Parallel()
	const object = "route 10.20.0.0/16 dev office"
	for _, test := range []struct {
		op     string
		err    error
		advice string
		want   string
	}{
		{"add", unix.EPERM, "advice", "add " + object + ": operation not permitted (needs CAP_NET_ADMIN: run as root or by the tund@ service)"},
		{"add", unix.ENODEV, "", "add " + object + ": no such device (the device is gone: see `ip link`)"},
		{Remove, unix.EBUSY, "advice", "remove " + object + ": device or resource busy (remove it by hand with ip(8) or nft(8), or run `tund --cleanup`)"},
		{"add", unix.EEXIST, "choose another metric", "add " + object + ": file exists (choose another metric)"},
		{"add", unix.EOPNOTSUPP, "", "add " + object + ": operation not supported (this kernel lacks it: see `dmesg`, `modprobe`, and the kernel's configuration)"},
		{"read", unix.EIO, "", "read " + object + ": input/output error"},
	} {
		err := New(test.op, object, test.err, test.advice)
		if err.Error() != test.want || !errors.Is(err, test.err) {
			t.Errorf("got %q, want %q", err, test.want)
		}
	}
}

func TestInPart(t *testing.T) {
	t.Parallel()
	err := InPart(errors.Join(errors.New("one"), errors.New("two")))
	const want = "the new configuration is in force, but the kernel refused a part of it, which will be tried again " +
		"when the network changes; not applied:\n  one\n  two"
	if err.Error() != want || !errors.Is(err, ErrInPart) || errors.Is(errors.New("other"), ErrInPart) {
		t.Errorf("got %q, want %q", err, want)
	}
}
