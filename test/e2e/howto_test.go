package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tund/internal/testnet"
)

// The tutorial works as it is written, in a mount namespace whose /run is its own: the names of its
// network namespaces are nobody else's.
func TestTutorial(t *testing.T) {
	t.Parallel()
	testnet.Program(t, "unshare")
	testnet.Program(t, "nft")
	dir := testnet.Scratch(t)
	if err := os.Symlink(programs(t), filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	here := newShell(t, "unshare", "-mn", "bash", "-c",
		"mount -t tmpfs tmpfs /run && cd "+dir+" && export TUND_STATE_DIR=/run/state && exec bash")
	runDocument(t, "../../docs/tutorial.md", map[string]*shell{"": here})
}

// The how-tos work as they are written, on hosts that look like those of their readers.
func TestSoakHowto(t *testing.T) {
	testnet.Soak(t)
	testnet.Program(t, "nft")
	for name, build := range map[string]func(*stage){
		"site-to-site": func(s *stage) {
			s.gateways("berlin", "paris")
			s.behind("berlin", "10.20.0.1/16", "ana", "10.20.0.10/16")
			s.behind("paris", "10.30.0.1/16", "bob", "10.30.0.10/16")
		},
		"road-warrior": func(s *stage) {
			s.gateways("server", "laptop")
			s.behind("server", "10.20.0.1/16", "ana", "10.20.0.10/16")
			s.known("vpn.example.org", "203.0.113.1")
		},
		"full-tunnel": func(s *stage) {
			s.gateways("exit", "client")
			s.behind("exit", "198.51.100.1/24", "internet", "198.51.100.10/24")
			s.run("internet", "ip route delete default") // it knows public addresses only
			s.run("client", "ip route add default via 203.0.113.1")
		},
		"lan-to-lan": func(s *stage) {
			s.gateways("berlin", "paris")
			s.lan("berlin", "ana", "10.7.0.10/24", "eth1")
			s.lan("paris", "bob", "10.7.0.20/24", "eth1")
			s.run("bob", "ip link set eth0 address 52:54:00:00:00:20")
		},
		"vms-and-containers": func(s *stage) { s.gateways("berlin", "paris") },
		"moving-from-vxlan": func(s *stage) {
			s.gateways("berlin", "paris")
			for _, site := range [][3]string{{"berlin", "ana", "10.7.0.10/24"}, {"paris", "bob", "10.7.0.20/24"}} {
				s.run(site[0], "tunctl genkey >/etc/tund/wg0.key && ip link add br0 type bridge && ip link set br0 up")
				s.lan(site[0], site[1], site[2], "lan1")
				s.run(site[0], "ip link set lan1 master br0")
				s.run(site[1], "ip link set eth0 mtu 1370")
			}
		},
		"moving-from-wg-quick": func(s *stage) { s.host("server") },
		"moving-from-openvpn-tap": func(s *stage) {
			s.gateways("server", "branch")
			for _, site := range [][3]string{{"server", "ana", "10.7.0.10/24"}, {"branch", "bob", "10.7.0.20/24"}} {
				s.run(site[0], "ip link add br0 type bridge && ip link set br0 up")
				s.lan(site[0], site[1], site[2], "lan1")
				s.run(site[0], "ip link set lan1 master br0")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			build(s)
			runDocument(t, "../../docs/howto/"+name+".md", s.shells)
		})
	}
}

// gateways are two hosts that reach each other at 203.0.113.1 and .2.
func (s *stage) gateways(a, b string) {
	s.t.Helper()
	s.host(a)
	s.host(b)
	s.cable(a, "wan", "203.0.113.1/24", b, "wan", "203.0.113.2/24")
}

// behind adds a host in the LAN of a gateway, which is its default router.
func (s *stage) behind(gateway, router, name, address string) {
	s.t.Helper()
	s.host(name)
	s.cable(gateway, "lan", router, name, "eth0", address)
	via, _, _ := strings.Cut(router, "/")
	s.run(name, "ip route add default via "+via)
}

// lan adds a host at a card of a gateway that has no address.
func (s *stage) lan(gateway, name, address, card string) {
	s.t.Helper()
	s.host(name)
	s.cable(gateway, card, "", name, "eth0", address)
}
