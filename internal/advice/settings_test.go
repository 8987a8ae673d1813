package advice

import (
	"net/netip"
	"testing"

	"go.uber.org/zap"

	"tund/config"
	"tund/internal/hostcheck"
)

// What somebody switches off that the configuration needs is switched on again, once; what it does
// not need, and what never was on, is left alone.
func TestAdviser_settingsThatAreSwitchedOff(t *testing.T) {
	t.Parallel()
	full := []config.Peer{{AllowedIPs: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}}
	on := hostcheck.Host{Forward4: true, Forward6: true, ValidMark: true}
	for _, c := range []struct {
		name   string
		config config.Config
		hosts  []hostcheck.Host // at one check after another
		want   int
	}{
		{"all stays on", config.Config{Tun: &config.Tun{Forward: true}}, []hostcheck.Host{on, on}, 0},
		{"IPv4", config.Config{Tun: &config.Tun{Forward: true}}, []hostcheck.Host{on, {Forward6: true}, {Forward6: true}}, 1},
		{"IPv6", config.Config{Tun: &config.Tun{Forward: true}}, []hostcheck.Host{on, {Forward4: true}}, 1},
		{"twice", config.Config{Tun: &config.Tun{Forward: true}}, []hostcheck.Host{on, {}, on, {}}, 2},
		{"it was never on", config.Config{Tun: &config.Tun{Forward: true}}, []hostcheck.Host{{}, {}}, 0},
		{"nobody needs it", config.Config{Tun: &config.Tun{}}, []hostcheck.Host{on, {}}, 0},
		{"no TUN device", config.Config{}, []hostcheck.Host{on, {}}, 0},
		{"marks", config.Config{Tun: &config.Tun{Routes: true}, Peers: full}, []hostcheck.Host{on, {}}, 1},
		{"marks, and routes in another table", config.Config{Tun: &config.Tun{Routes: true, Table: 5}, Peers: full}, []hostcheck.Host{on, {}}, 0},
	} {
		got := 0
		a := New(Instance{Log: zap.NewNop(), Reapply: func() { got++ }})
		for _, h := range c.hosts {
			a.checkSettings(&c.config, h)
		}
		if got != c.want {
			t.Errorf("%s: applied again %d times, want %d", c.name, got, c.want)
		}
	}
}
