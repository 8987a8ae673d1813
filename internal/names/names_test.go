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

func TestSharedStation(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"00:00:5e:00:01:07": true, "00:00:5e:00:02:ff": true, "00:00:5e:00:03:07": false, "00:00:5e:00:00:07": false,
		"02:00:5e:00:01:07": false, "00:00:0c:07:ac:01": true, "00:00:0c:07:ad:01": false, "00:00:0c:9f:f0:01": true,
		"00:00:0c:9f:ff:01": true, "00:00:0c:9f:ef:01": false, "00:05:73:a0:00:01": true, "00:05:73:a0:0f:ff": true,
		"00:05:73:a0:10:00": false, "00:07:b4:00:01:02": true, "00:07:b4:03:ff:ff": true, "00:07:b4:04:00:00": false,
		"02:00:00:00:00:01": false,
	} {
		mac, err := Station(text)
		if err != nil || SharedStation(mac) != want {
			t.Errorf("%s: %t, %v, want %t", text, !want, err, want)
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
