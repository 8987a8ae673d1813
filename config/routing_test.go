package config

import (
	"strings"
	"testing"
)

// With routing = "system", allowed IPs say what a peer may send: several may have the same ones,
// and no route is made for them.
func TestRouting_systemLetsPeersShareAllowedIPs(t *testing.T) {
	t.Parallel()
	file := func(tun string) string {
		src := tunnelSection + "listen_port = 1\n[tun]\n" + tun + "\n"
		for _, key := range []string{pubB, pubC} {
			src += "[[peer]]\npublic_key = \"" + key + "\"\nallowed_ips = [\"0.0.0.0/0\", \"::/0\"]\n"
		}
		return src
	}
	c := mustLoad(t, file(`routing = "system"`))
	if !c.Tun.SystemRouting || c.Tun.Routes || len(c.Peers[1].AllowedIPs) != 2 {
		t.Errorf("%+v, %v", c.Tun, c.Peers[1].AllowedIPs)
	}
	for tun, want := range map[string]string{"": "0.0.0.0/0 is also an allowed IP", `routing = "bgp"`: `want "allowed_ips" or "system", not "bgp"`} {
		_, err := load("office.toml", testHost(map[string]string{"office.toml": file(tun), "office.key": privA}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", tun, err, want)
		}
	}
}
