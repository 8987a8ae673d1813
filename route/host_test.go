package route

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/netwatch"
)

func TestManager_aNetworkOfTheHostKeepsItsRoute(t *testing.T) {
	t.Parallel()
	m, k := fakeManager()
	s := testStates()[1].state
	has := func(dst string) bool {
		return slices.ContainsFunc(apply(t, m, s).Devices[0].Routes, func(r Route) bool { return r.Dst.String() == dst })
	}
	warnings := func() string { return strings.Join(apply(t, m, s).Warnings, "\n") }
	for _, address := range []string{"10.20.0.1/16", "fd20::1/48"} {
		o := addrObject{"eth0", prefixes(address)[0]}
		network := o.addr.Masked().String()
		if !has(network) || warnings() != "" {
			t.Errorf("%s: without the LAN: %q", network, warnings())
		}
		k.locked(func() { k.addrs[o] = true })
		if has(network) || !strings.Contains(warnings(), network+" is an allowed IP and also the network of eth0") {
			t.Errorf("%s: with the LAN: %q", network, warnings())
		}
		k.locked(func() { _ = k.setLink("eth0", func(l *link) { l.up = false }) })
		if !has(network) || warnings() != "" {
			t.Errorf("%s: with the LAN down: %q", network, warnings())
		}
		k.locked(func() {
			_ = k.setLink("eth0", func(l *link) { l.up = true })
			delete(k.addrs, o)
		})
	}
}

func TestWatch_tellsWhenTheStateMeansSomethingElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, testStates()[1].state)
		defer w.stop()
		lan := addrObject{"eth0", prefixes("10.20.0.1/16")[0]}
		eth0, office := w.k.links["eth0"].index, w.k.links["office"].index
		changed := func(n netwatch.Notice) bool {
			w.source.batches <- []netwatch.Notice{n}
			return slices.ContainsFunc(w.pass(2*settle), func(e Event) bool { return e.Changed })
		}
		for _, c := range []struct {
			what string
			n    netwatch.Notice
			want bool
		}{
			{"another network", netwatch.Notice{Kind: netwatch.Addr, Index: eth0, Prefix: prefixes("10.21.0.1/16")[0]}, false},
			{"a link without such a network", netwatch.Notice{Kind: netwatch.Link, Index: eth0, Name: "eth0"}, false},
			{"our own address", netwatch.Notice{Kind: netwatch.Addr, Index: office, Prefix: prefixes("10.20.0.1/16")[0]}, false},
			{"a competing route that went", netwatch.Notice{
				Kind: netwatch.Route, Del: true, Index: eth0, Prefix: prefixes("10.20.0.0/16")[0], Protocol: unix.RTPROT_STATIC,
			}, true},
			{"the network of a route", netwatch.Notice{Kind: netwatch.Addr, Index: eth0, Prefix: lan.addr}, true},
		} {
			if got := changed(c.n); got != c.want {
				t.Errorf("%s: changed %t, want %t", c.what, got, c.want)
			}
		}
		w.k.locked(func() { w.k.addrs[lan] = true })
		apply(t, w.m, testStates()[1].state)
		if !changed(netwatch.Notice{Kind: netwatch.Link, Index: eth0, Name: "eth0"}) {
			t.Error("the link with the network of a route went down or up, and nobody is told")
		}
	})
}

func TestWatch_triesAgainWhatApplyWasRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := startWatch(t, State{})
		defer w.stop()
		refuse := true
		w.k.locked(func() {
			w.k.fail = func(_ int, c change) error {
				if o, ok := c.o.(addrObject); ok && refuse && o.addr.Addr().Is6() {
					return unix.EACCES
				}
				return nil
			}
		})
		if _, err := w.m.Apply(context.Background(), testStates()[1].state); err == nil {
			t.Fatal("Apply succeeded")
		}
		w.lose()
		if events := w.pass(5 * time.Minute); len(events) != 1 || len(events[0].Lost) != 5 || events[0].Err != nil || events[0].Changed {
			t.Errorf("events = %+v, want the routes and their guards back, and no word of what was never there", events)
		}
		w.k.locked(func() { refuse = false })
		if events := w.pass(retryMost); len(events) != 1 || !events[0].Changed || len(events[0].Lost) > 0 {
			t.Errorf("events = %+v, want one that the kernel accepted it", events)
		}
		if text := w.k.text(t); !strings.Contains(text, "address fd09::1/64 dev office") {
			t.Errorf("no address in\n%s", text)
		}
	})
}
