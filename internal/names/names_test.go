package names

import (
	"strings"
	"testing"
)

func TestNames_whatIsAllowed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name                           string
		instance, device, kernel, peer string // "" is allowed
	}{
		{"office", "", "", "", ""},
		{"a.b_c=d+e-f", "", "", "", ""},
		{"", "is empty", "is empty", "is empty", "is empty"},
		{".", errDirectory.Error(), errDirectory.Error(), errDirectory.Error(), errDirectory.Error()},
		{"..", errDirectory.Error(), errDirectory.Error(), errDirectory.Error(), errDirectory.Error()},
		{".hidden", errHidden.Error(), "", "", ""},
		{"-f", errOption.Error(), "", "", errOption.Error()},
		{"all", "", errReserved.Error(), "", ""},
		{"default", "", errReserved.Error(), "", ""},
		{"a b", errAlphabet.Error(), errAlphabet.Error(), errKernel.Error(), errPeer.Error()},
		{"a/b", errAlphabet.Error(), errAlphabet.Error(), errKernel.Error(), errPeer.Error()},
		{"a:b", errAlphabet.Error(), errAlphabet.Error(), errKernel.Error(), ""},
		{"é@x", errAlphabet.Error(), errAlphabet.Error(), "", ""},
		{"a\x00", errAlphabet.Error(), errAlphabet.Error(), errKernel.Error(), errPeer.Error()},
		{strings.Repeat("a", 15), "", "", "", ""},
		{strings.Repeat("a", 16), "", "is longer than 15 bytes", "is longer than 15 bytes", ""},
		{strings.Repeat("a", 64), "", "is longer than 15 bytes", "is longer than 15 bytes", "is longer than 63 bytes"},
		{strings.Repeat("a", 65), "is longer than 64 bytes", "is longer than 15 bytes", "is longer than 15 bytes", "is longer than 63 bytes"},
	} {
		for _, check := range []struct {
			of   string
			err  error
			want string
		}{
			{"Instance", Instance(test.name), test.instance}, {"Device", Device(test.name), test.device},
			{"KernelDevice", KernelDevice(test.name), test.kernel}, {"Peer", Peer(test.name), test.peer},
		} {
			got := ""
			if check.err != nil {
				got = check.err.Error()
			}
			if got != check.want {
				t.Errorf("%s(%q) = %q, want %q", check.of, test.name, got, check.want)
			}
		}
	}
}

func TestStation_readsOneStation(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"02:aB:00:ff:10:01", "02-ab-00-ff-10-01", "02ab.00ff.1001"} {
		if mac, err := Station(text); err != nil || mac != [6]byte{2, 0xab, 0, 0xff, 0x10, 1} {
			t.Errorf("Station(%q) = %x, %v", text, mac, err)
		}
	}
	for text, want := range map[string]error{
		"": errMAC, "02:00:00:00:00": errMAC, "02:00:00:00:00:00:00:01": errMAC,
		"01:00:5e:00:00:01": errGroup, "ff:ff:ff:ff:ff:ff": errGroup, "00:00:00:00:00:00": errZero,
	} {
		if _, err := Station(text); err != want {
			t.Errorf("Station(%q): %v, want %v", text, err, want)
		}
	}
}
