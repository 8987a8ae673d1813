package ethernet

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/names"
	"tund/internal/testnet"
	"tund/test/instance"
	"tund/tunnel/l2"
)

// startLimit bounds a start, a stop and the first session.
const startLimit = instance.Limit

// wan is the underlay of a test: every site has one cable to it.
type wan struct {
	t     testing.TB
	ns    *testnet.NS
	sites int
}

func newWAN(t testing.TB) *wan {
	t.Helper()
	w := &wan{t: t, ns: testnet.New(t)}
	w.ns.Run(t, "ip", "link", "add", "wan", "type", "bridge")
	w.ns.Run(t, "ip", "link", "set", "wan", "up")
	return w
}

// plug gives a namespace the next address of the underlay.
func (w *wan) plug(ns *testnet.NS) (addr, device string) {
	w.t.Helper()
	w.sites++
	addr = fmt.Sprintf("192.0.2.%d", w.sites)
	mine, theirs := testnet.Veth(w.t, w.ns, ns, nil, []string{addr + "/24"})
	w.ns.Run(w.t, "ip", "link", "set", mine, "master", "wan")
	return addr, theirs
}

// peer is one [[peer]] of a site.
type peer struct {
	name     string
	key      keys.PublicKey
	endpoint string // "": none
	plain    bool   // without ethernet = true
	allowed  string // of allowed_ips; "": none
	lines    []string
}

// site is one instance of tund with its namespace, its bridge and its files.
type site struct {
	instance.Instance
	wan  *wan
	addr string // on the underlay

	tunnel, tun, tap []string // lines of the sections
	agent            []string // those of [agent]; nil: no such section
	noTap            bool
	peers            []*peer
}

// site makes a namespace with a bridge, and an instance in it that is not started.
func (w *wan) site(name string) *site {
	w.t.Helper()
	s := &site{Instance: instance.New(w.t, testnet.New(w.t), name), wan: w}
	s.addr, _ = w.plug(s.NS)
	s.NS.Run(w.t, "ip", "link", "add", "br0", "type", "bridge")
	s.NS.Run(w.t, "ip", "link", "set", "br0", "up")
	return s
}

// knows makes other an Ethernet peer of s, and returns its section.
func (s *site) knows(other *site, lines ...string) *peer {
	p := &peer{name: other.Name, key: other.Key.Public(), endpoint: other.addr + ":51820", lines: lines}
	s.peers = append(s.peers, p)
	return p
}

// mesh makes all sites peers of each other.
func mesh(sites ...*site) {
	for _, s := range sites {
		for _, other := range sites {
			if s != other {
				s.knows(other)
			}
		}
	}
}

// twoSites makes two sites that know each other and are not started.
func twoSites(t testing.TB) (berlin, paris *site) {
	t.Helper()
	w := newWAN(t)
	berlin, paris = w.site("berlin"), w.site("paris")
	mesh(berlin, paris)
	return berlin, paris
}

// write writes the configuration and the key.
func (s *site) write() {
	s.T.Helper()
	var b strings.Builder
	section := func(name string, lines ...string) {
		fmt.Fprintf(&b, "[%s]\n%s\n", name, strings.Join(lines, "\n"))
	}
	section("tunnel", append([]string{`private_key_file = "own.key"`, "listen_port = 51820"}, s.tunnel...)...)
	if s.tun != nil {
		section("tun", append([]string{`device = "tun0"`}, s.tun...)...)
	}
	if !s.noTap {
		section("tap", append([]string{`device = "tap0"`, `bridge = "br0"`}, s.tap...)...)
	}
	if s.agent != nil {
		section("agent", s.agent...)
	}
	for _, p := range s.peers {
		section("[peer]", append([]string{fmt.Sprintf("name = %q\npublic_key = %q", p.name, p.key)}, p.lines...)...)
		if !p.plain {
			fmt.Fprintln(&b, "ethernet = true")
		}
		if p.endpoint != "" {
			fmt.Fprintf(&b, "endpoint = %q\n", p.endpoint)
		}
		if p.allowed != "" {
			fmt.Fprintf(&b, "allowed_ips = [%q]\n", p.allowed)
		}
	}
	s.WriteConfig(b.String())
}

// start writes the configuration, starts the process and waits until it is ready.
func (s *site) start() {
	s.T.Helper()
	s.write()
	s.Launch()
	s.Ready()
}

// reloads writes the configuration again, which must be taken.
func (s *site) reloads() {
	s.T.Helper()
	if err := s.reload(); err != nil {
		s.T.Fatalf("reload of %s: %v", s.Name, err)
	}
}

// reload writes the configuration again and asks for it to be read.
func (s *site) reload() error {
	s.T.Helper()
	s.write()
	return s.Reload()
}

// tunctl runs tunctl against the instance and decodes what it prints as JSON.
func (s *site) tunctl(into any, args ...string) {
	s.T.Helper()
	command := append([]string{"env", "TUND_RUN_DIR=" + s.RunDir(), testnet.Tunctl(s.T), "-i", s.Name}, args...)
	out := s.NS.Run(s.T, command...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		s.T.Fatalf("tunctl %v of %s: %v:\n%s", args, s.Name, err, out)
	}
}

// tapDevice returns the status of the TAP.
func (s *site) tapDevice() control.Device {
	s.T.Helper()
	for _, d := range s.Status().Devices {
		if d.Kind == "tap" {
			return d
		}
	}
	s.T.Fatalf("%s has no TAP", s.Name)
	return control.Device{}
}

// where returns the port of a MAC in the forwarding database; "" when it is not known.
func (s *site) where(m l2.MAC, vlan int) string {
	s.T.Helper()
	for _, e := range s.Status().FDB {
		if e.MAC == m.String() && e.VLAN == vlan {
			return e.Port
		}
	}
	return ""
}

// carries reports whether frames are sent to the peer: it has a session, and said that it carries
// Ethernet.
func carries(p control.Peer) bool {
	for _, c := range p.Capabilities {
		if c == "ethernet" {
			return p.State == control.StateUp
		}
	}
	return false
}

// start starts all sites and waits until each carries Ethernet with each of its Ethernet peers.
// Nothing but tund itself makes that happen: no packet is sent by a host.
func start(t testing.TB, sites ...*site) {
	t.Helper()
	for _, s := range sites {
		s.start()
	}
	for _, s := range sites {
		s.linked(startLimit)
	}
}

// linked waits until frames are sent to every Ethernet peer.
func (s *site) linked(limit time.Duration) {
	s.T.Helper()
	testnet.Await(s.T, s.Name+" carries Ethernet with its peers", limit, func() bool {
		for _, p := range s.Status().Peers {
			if p.Ethernet && !carries(p) {
				return false
			}
		}
		return true
	})
}

// host is a container: a namespace with one cable to the bridge of a site.
type host struct {
	t    testing.TB
	ns   *testnet.NS
	site *site
	mac  l2.MAC
	v4   string
	port string // the end of the cable at the bridge
	dev  string // its own end
}

// host makes the next host behind a site, with an address in 10.7.0.0/24 and fd07::/64 that no
// other has.
func (s *site) host(last int) *host {
	s.T.Helper()
	h := &host{t: s.T, ns: testnet.New(s.T), v4: fmt.Sprintf("10.7.0.%d", last)}
	h.attach(s, []string{h.v4 + "/24", fmt.Sprintf("fd07::%d/64", last)})
	return h
}

func (h *host) v6() string { return "fd07::" + h.v4[strings.LastIndexByte(h.v4, '.')+1:] }

// attach plugs the host's next cable into the bridge of a site.
func (h *host) attach(s *site, addrs []string) {
	h.t.Helper()
	h.site = s
	h.port, h.dev = testnet.Veth(h.t, s.NS, h.ns, nil, addrs)
	s.NS.Run(h.t, "ip", "link", "set", h.port, "master", "br0")
	h.mac = macOf(h.t, h.ns, h.dev)
}

// macOf returns the address of a device.
func macOf(t testing.TB, ns *testnet.NS, dev string) l2.MAC {
	t.Helper()
	m, err := names.Station(strings.TrimSpace(ns.Run(t, "cat", "/sys/class/net/"+dev+"/address")))
	if err != nil {
		t.Fatal(err)
	}
	return l2.MACFromBytes(m[:])
}

// pings sends echo requests, twenty a second, until count were answered, and wants each answer
// once. Answers may be late, on a busy machine, but not many of them: -c alone would wait for the
// last one no longer than two round trips.
func (h *host) pings(to string, count int, more ...string) {
	h.t.Helper()
	args := append([]string{"ping", "-n", "-c", fmt.Sprint(count), "-i", "0.05", "-w", "10"}, more...)
	out, err := h.ns.Try(append(args, to)...)
	received := 0
	if at := strings.Index(out, "transmitted, "); at >= 0 {
		_, _ = fmt.Sscan(out[at+len("transmitted, "):], &received) // 0 when there is no number
	}
	if err != nil || received < count || strings.Contains(out, "DUP!") {
		h.t.Errorf("ping %s from %s: %v, %d answers, want %d, none twice:\n%s", to, h.v4, err, received, count, out)
	}
}

// reaches waits until the host gets an answer.
func (h *host) reaches(to string, limit time.Duration) {
	h.t.Helper()
	testnet.Await(h.t, to+" answers "+h.v4, limit, func() bool {
		_, err := h.ns.Try("ping", "-n", "-c", "1", "-W", "1", to)
		return err == nil
	})
}

// unreachable expects that the host gets no answer.
func (h *host) unreachable(to string) {
	h.t.Helper()
	if out, err := h.ns.Try("ping", "-n", "-c", "3", "-i", "0.1", "-W", "1", to); err == nil {
		h.t.Errorf("ping %s from %s is answered:\n%s", to, h.v4, out)
	}
}

// l2MAC reads a MAC address.
func l2MAC(t testing.TB, text string) l2.MAC {
	t.Helper()
	m, err := names.Station(text)
	if err != nil {
		t.Fatal(err)
	}
	return l2.MACFromBytes(m[:])
}
