package l2

import (
	"container/heap"
	"fmt"
	"testing"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/testnet"
)

// sim simulates a set of sites: each has a switch whose TAP is on a LAN. Several sites may share
// one LAN, which is how two sites are bridged twice. LANs are repeaters, so a loop multiplies
// frames at once.
type sim struct {
	t      testing.TB
	now    boottime.Time
	events eventHeap
	seq    int
	sites  []*site
	frames int // delivered to a TAP or a host, in total
	log    []string
	seed   int // determines the node names, and so which site is blocked
}

type site struct {
	name  string
	sw    *Switch
	lan   *lan
	peers map[PortID]*site
	next  boottime.Time
	key   [32]byte // its public key
	dead  bool     // it no longer does anything, and no peer has noticed
	away  bool     // nothing of its tunnels arrives, and no peer has noticed
	heard map[PortID]boottime.Time
	in    int // frames that arrived through the tunnel and were written to the TAP
}

type lan struct {
	sites []*site
	hosts []*simHost
	spies []func(frame []byte) // hosts that receive all broadcasts and may do anything with them
}

// simHost is a host with one address. It answers ARP requests for it.
type simHost struct {
	mac   MAC
	ip    [4]byte
	lan   *lan
	heard int // test frames (EtherType 0x1234) received
}

type simEvent struct {
	at  boottime.Time
	seq int
	do  func()
}

type eventHeap []simEvent

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(simEvent)) }
func (h *eventHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

const (
	tunnelDelay = 10 * time.Millisecond
	lanDelay    = 100 * time.Microsecond
)

func newSim(t testing.TB, seed int) *sim { return &sim{t: t, now: start, seed: seed} }

// worlds runs test in several simulations, which differ in the order of the node names. A
// simulation is one goroutine: in the order of names there is nothing for the race detector to see,
// which makes it eight times slower, and two are enough for it.
func worlds(t *testing.T, test func(t *testing.T, seed int)) {
	t.Parallel()
	seeds := 8
	if testnet.RaceDetector {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { test(t, seed) })
	}
}

func (w *sim) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.events, simEvent{w.now.Add(d), w.seq, do})
}

// run advances the simulation by d.
func (w *sim) run(d time.Duration) {
	end := w.now.Add(d)
	for len(w.events) > 0 && w.events[0].at <= end {
		e := heap.Pop(&w.events).(simEvent)
		w.now = e.at
		e.do()
		if w.frames > 5_000_000 {
			w.t.Fatal("the world is full of frames")
		}
	}
	w.now = end
}

func (w *sim) site(name string, l *lan, cfg Config) *site {
	sw, err := New(cfg, newRandom(byte(7*w.seed+len(w.sites)+1)))
	if err != nil {
		w.t.Fatal(err)
	}
	s := &site{name: name, sw: sw, lan: l, peers: map[PortID]*site{}, heard: map[PortID]boottime.Time{}}
	sw.SetHeard(func(id PortID) boottime.Time { return s.heard[id] })
	newRandom(byte(100 + 7*w.seed + len(w.sites))).Read(s.key[:])
	w.sites = append(w.sites, s)
	l.sites = append(l.sites, s)
	w.tick(s)
	return s
}

func (w *sim) host(l *lan, n int) *simHost {
	h := &simHost{mac: hostMAC(n), ip: [4]byte{10, 0, 0, byte(n)}, lan: l}
	l.hosts = append(l.hosts, h)
	return h
}

// connect makes a and b peers and gives them a session.
func (w *sim) connect(a, b *site) (PortID, PortID) {
	pa, pb := PortID(len(a.peers)+1), PortID(len(b.peers)+1)
	a.peers[pa], b.peers[pb] = b, a
	if err := a.sw.SetPort(pa, PortConfig{Name: b.name, Ethernet: true, PublicKey: b.key}); err != nil {
		w.t.Fatal(err)
	}
	if err := b.sw.SetPort(pb, PortConfig{Name: a.name, Ethernet: true, PublicKey: a.key}); err != nil {
		w.t.Fatal(err)
	}
	a.sw.SetPortUp(pa, true, w.now)
	b.sw.SetPortUp(pb, true, w.now)
	w.tick(a)
	w.tick(b)
	return pa, pb
}

// disconnect ends the session between them, as both would notice.
func (w *sim) disconnect(a, b *site) {
	for id, p := range a.peers {
		if p == b {
			a.sw.SetPortUp(id, false, w.now)
			delete(a.peers, id)
		}
	}
	for id, p := range b.peers {
		if p == a {
			b.sw.SetPortUp(id, false, w.now)
			delete(b.peers, id)
		}
	}
	w.tick(a)
	w.tick(b)
}

func (w *sim) tick(s *site) {
	if s.dead {
		return
	}
	a := s.sw.Tick(w.now)
	for _, f := range a.ToDevice {
		w.toLAN(s.lan, f, s, nil)
	}
	for _, m := range a.ToPeers {
		w.toPeer(s, m.Port, m.Payload)
	}
	for _, e := range a.Events {
		w.log = append(w.log, fmt.Sprintf("%6.2f %s: %v", w.now.Sub(start).Seconds(), s.name, e))
	}
	s.next = a.Next
	w.after(a.Next.Sub(w.now), func() {
		if w.now >= s.next {
			w.tick(s)
		}
	})
}

func (w *sim) toPeer(s *site, id PortID, payload []byte) {
	peer := s.peers[id]
	if peer == nil {
		return
	}
	var back PortID
	for i, p := range peer.peers {
		if p == s {
			back = i
		}
	}
	w.after(tunnelDelay, func() {
		if back == 0 || peer.peers[back] != s || peer.dead || s.away || peer.away {
			return
		}
		peer.heard[back] = w.now
		switch PayloadKind(payload) {
		case KindControl:
			peer.sw.Control(w.now, back, payload)
			w.tick(peer)
		case KindFrame:
			w.arrive(peer, back, payload)
		}
	})
}

func (w *sim) arrive(s *site, from PortID, payload []byte) {
	h, frame, reason := ParseFrame(payload)
	if reason != drop.None {
		w.t.Fatalf("%s: %v", s.name, reason)
	}
	var v Verdict
	if s.sw.FromPeer(w.now, from, h.Hops, Superpacket{Frame: frame}, &v) == drop.None {
		if v.ToDevice {
			s.in++
			w.toLAN(s.lan, frame, s, nil)
		}
		w.send(s, &v, frame)
	}
	if v.Wake {
		w.tick(s)
	}
}

func (w *sim) send(s *site, v *Verdict, frame []byte) {
	for _, o := range v.Out {
		b := make([]byte, FrameHeaderLen)
		PutFrameHeader(b, v.Hops, len(frame))
		w.toPeer(s, o.Port, append(b, frame...))
	}
}

// toLAN delivers a frame to everybody on the LAN except its sender.
func (w *sim) toLAN(l *lan, frame []byte, site *site, host *simHost) {
	w.frames++
	for _, s := range l.sites {
		if s != site {
			w.after(lanDelay, func() { w.fromTAP(s, frame) })
		}
	}
	for _, spy := range l.spies {
		if e, ok := Parse(frame); ok && e.Dst.Group() {
			w.after(lanDelay, func() { spy(frame) })
		}
	}
	for _, h := range l.hosts {
		if h != host {
			w.after(lanDelay, func() { w.hear(h, frame) })
		}
	}
}

func (w *sim) fromTAP(s *site, frame []byte) {
	if s.dead {
		return
	}
	var v Verdict
	s.sw.FromDevice(w.now, Superpacket{Frame: frame}, &v)
	w.send(s, &v, frame)
	if v.Reply != nil {
		w.toLAN(s.lan, append([]byte(nil), v.Reply...), s, nil)
	}
	if v.Wake {
		w.tick(s)
	}
}

func (w *sim) hear(h *simHost, frame []byte) {
	e, ok := Parse(frame)
	if !ok || e.Dst != h.mac && !e.Dst.Group() || h.lan == nil {
		return
	}
	if e.EtherType == 0x1234 {
		h.heard++
	}
	b := frame[e.Payload:]
	if e.EtherType == typeARP && len(b) >= 28 && b[7] == 1 && [4]byte(b[24:28]) == h.ip {
		w.say(h, arp(w.t, 2, e.Src, h.mac, fmt.Sprintf("%d.%d.%d.%d", h.ip[0], h.ip[1], h.ip[2], h.ip[3]), e.Src, "0.0.0.0"))
	}
}

func (w *sim) say(h *simHost, frame []byte) { w.toLAN(h.lan, frame, nil, h) }

// announce lets the host announce its address to all, as on arrival.
func (w *sim) announce(h *simHost) {
	w.say(h, gratuitous(w.t, h.mac, fmt.Sprintf("10.0.0.%d", h.ip[3])))
}

// reaches reports whether a frame from a arrives at b within a second, and how many times.
func (w *sim) reaches(a, b *simHost) int {
	before := b.heard
	w.say(a, eth(b.mac, a.mac, 0x1234))
	w.run(time.Second)
	return b.heard - before
}

func (w *sim) move(h *simHost, to *lan) {
	for i, o := range h.lan.hosts {
		if o == h {
			h.lan.hosts = append(h.lan.hosts[:i:i], h.lan.hosts[i+1:]...)
		}
	}
	to.hosts = append(to.hosts, h)
	h.lan = to
}
