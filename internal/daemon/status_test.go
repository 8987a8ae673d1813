package daemon

import (
	"slices"
	"testing"

	"go.uber.org/zap"

	"tund/config"
	"tund/internal/control"
	"tund/route"
	"tund/tunnel/udp"
)

// fakeConn is a socket that says of itself what a test wants.
type fakeConn struct {
	udp.Conn
	gso, gro, v6 bool
	fallbacks    uint64
}

func (c fakeConn) GSO() bool         { return c.gso }
func (c fakeConn) GRO() bool         { return c.gro }
func (c fakeConn) IPv6() bool        { return c.v6 }
func (c fakeConn) Fallbacks() uint64 { return c.fallbacks }

func TestUnderlay_isWhatEverySocketCan(t *testing.T) {
	t.Parallel()
	all := fakeConn{gso: true, gro: true, v6: true, fallbacks: 2}
	some := fakeConn{gro: true, fallbacks: 3}
	for _, test := range []struct {
		conns []udp.Conn
		want  []string
	}{
		{nil, nil}, {[]udp.Conn{all}, []string{"gso", "gro", "ipv6"}}, {[]udp.Conn{all, some}, []string{"gro"}},
	} {
		if got := underlay(test.conns); !slices.Equal(got, test.want) {
			t.Errorf("%+v: %q, want %q", test.conns, got, test.want)
		}
	}
	if got := fallbacks([]udp.Conn{all, some}); got != 5 {
		t.Errorf("%d fallbacks, want 5", got)
	}
}

func TestProblems_areWarningsUntilTheyAreOver(t *testing.T) {
	t.Parallel()
	d := newDaemon(Options{Log: zap.NewNop(), Config: &config.Config{Warnings: []config.Warning{{File: "a.toml", Line: 1, Col: 2, Msg: "hm"}}}})
	d.applied = route.Applied{Warnings: []string{"no nftables"}}
	said := func() (all []string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, w := range d.warnings() {
			all = append(all, w.Kind+" "+w.Subject+": "+w.Message)
		}
		slices.Sort(all)
		return all
	}
	always := []string{"config a.toml: a.toml:1:2: warning: hm", "network : no nftables"}
	if got := said(); !slices.Equal(got, always) {
		t.Errorf("at first %q", got)
	}
	d.note("network", "", "refused")
	first := d.problems[problemKey("network", "")].since
	d.note("network", "", "refused")
	if d.problems[problemKey("network", "")].since != first {
		t.Error("the same problem begins again")
	}
	d.note(loopProblem, "berlin", "loop")
	d.note(loopProblem, "paris", "loop")
	d.forget(loopProblem, func(peer string) bool { return peer == "paris" })
	want := append([]string{always[0], "network : no nftables", "network : refused"}, "routing-loop berlin: loop")
	if got := said(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	d.solved("network", "")
	d.forget(loopProblem, func(string) bool { return true })
	if got := said(); !slices.Equal(got, always) {
		t.Errorf("afterwards %q", got)
	}
	var _ control.Backend = d
}
