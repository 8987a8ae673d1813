package sysctl

import (
	"slices"
	"testing"

	"tund/internal/testnet"
)

func TestSetting_names(t *testing.T) {
	t.Parallel()
	for s, want := range map[Setting]string{
		SrcValidMark:        "net.ipv4.conf.all.src_valid_mark=1",
		Forward4:            "net.ipv4.ip_forward=1",
		Forward6:            "net.ipv6.conf.all.forwarding=1",
		AcceptRA("eth0"):    "net.ipv6.conf.eth0.accept_ra=2",
		AcceptRA("eth0.10"): "net.ipv6.conf.eth0/10.accept_ra=2", // as sysctl(8) takes it
	} {
		if got := s.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	s := Set("").With(Forward4).With(SrcValidMark).With(Forward4)
	if got := s.List(); !slices.Equal(got, []Setting{Forward4, SrcValidMark}) || !s.Has(Forward4) || s.Has(Forward6) {
		t.Errorf("%v", got)
	}
	if s.Without(Forward4) != Set("").With(SrcValidMark) || s.Without(Forward4).Without(SrcValidMark) != "" {
		t.Error("Without leaves something")
	}
	if s.Union(Set("").With(Forward6)) != s.With(Forward6) {
		t.Error("Union differs from With")
	}
}

// A link that accepts no router advertisements (0) is none that begins to because this host
// forwards.
func TestFiles_setAndRead(t *testing.T) {
	t.Parallel()
	ns := testnet.New(t)
	ns.Run(t, "sh", "-c", "for d in d0 d1; do ip link add $d type bridge; done; sysctl -qw net.ipv6.conf.d0.accept_ra=1 net.ipv6.conf.d1.accept_ra=0")
	var f *Files
	ns.Do(func() { f = Open([]string{"d0", "d1", "gone"}) })
	defer func() { _ = f.Close() }()
	links := []Setting{AcceptRA("d0"), AcceptRA("d1")}
	want := func(when string, on bool) {
		t.Helper()
		state, err := f.Read(links)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []Setting{Forward4, Forward6, AcceptRA("d0")} {
			if is, there := state[s]; !there || is != on {
				t.Errorf("%s: %s is there: %t, on: %t", when, s, there, is)
			}
		}
		if _, there := state[AcceptRA("d1")]; there {
			t.Errorf("%s: d1 accepts no router advertisements", when)
		}
	}
	want("before", false)
	for _, to := range []bool{true, false} {
		for _, s := range []Setting{Forward4, Forward6, AcceptRA("d0")} {
			if err := f.Set(s, to); err != nil {
				t.Error(err)
			}
		}
		want("after", to)
	}
}
