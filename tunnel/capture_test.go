package tunnel

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"tund/internal/capture"
	"tund/tunnel/l2"
	"tund/tunnel/udp"
	"tund/tunnel/udp/udptest"
)

// captured is a capture that a test reads like tunctl.
type captured struct {
	stop func()
	done chan struct{}
	file bytes.Buffer
	sum  capture.Summary
	err  error
}

// captures begins a capture of e.
func (e *end) captures(o CaptureOptions) *captured {
	e.t.Helper()
	if o.SnapLength == 0 {
		o.SnapLength = 200
	}
	s, err := e.tun.Capture(o)
	if err != nil {
		e.t.Fatal(err)
	}
	in, out := io.Pipe()
	go func() {
		err := s.Stream(context.Background(), func(b []byte) error {
			_, err := out.Write(b)
			return err
		}, func() error { return nil })
		out.CloseWithError(err)
	}()
	c := &captured{stop: func() { s.Stop("") }, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.sum, c.err = capture.Save(in, capture.Output{Packets: &c.file}, capture.Limits{}, func() bool { return false })
	}()
	return c
}

// contents ends a capture and checks that its file is whole.
func (c *captured) contents(t *testing.T) (file string) {
	t.Helper()
	c.stop()
	<-c.done
	if c.err != nil || c.sum.Lost != 0 {
		t.Errorf("%+v, %v", c.sum, c.err)
	}
	r, err := pcapgo.NewNgReader(bytes.NewReader(c.file.Bytes()), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for ; err == nil; n++ {
		_, _, err = r.ReadPacketData()
	}
	if err != io.EOF || n-1 != c.sum.Packets {
		t.Errorf("%d packets, %v; %+v", n-1, err, c.sum)
	}
	return c.file.String()
}

func TestTunnel_captureShowsPeersDirectionsAndDrops(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		name := "berlin"
		a.knows(b, true, func(p *PeerChange) { p.Name = &name })
		everything, dropped := a.captures(CaptureOptions{}), a.captures(CaptureOptions{Filter: "dropped and not peer berlin"})
		outer := a.captures(CaptureOptions{Filter: "peer berlin", Outer: true, Secrets: true})
		a.sends(b, 100) // waits for a session
		time.Sleep(time.Second)
		b.sends(a, 100)
		time.Sleep(time.Second)
		a.queue.Inject(packet(a.inner, netip.MustParseAddr("10.77.0.1"), 10))
		time.Sleep(time.Second)
		b.queue.Inject(packet(netip.MustParseAddr("10.66.0.1"), a.inner, 10)) // a lying peer
		time.Sleep(time.Second)
		a.queue.InjectFrame(udpSuper(a.inner, b.inner, 3, 500))
		time.Sleep(time.Second)
		synctest.Wait()

		rest := everything.contents(t)
		for _, want := range []string{"to peer berlin, waits for a session", "from peer berlin", "dropped: no-peer", "from peer berlin, dropped: foreign-source", "to peer berlin, 3 segments"} {
			if _, after, ok := strings.Cut(rest, want); ok {
				rest = after
			} else {
				t.Errorf("no packet %q at its place", want)
			}
		}
		if everything.sum.Packets != 5 {
			t.Errorf("%d packets", everything.sum.Packets)
		}
		if file := dropped.contents(t); dropped.sum.Packets != 1 || !strings.Contains(file, "dropped: no-peer") {
			t.Errorf("%+v", dropped.sum)
		}
		// The packets but the one without a peer, an initiation, its response, and what carries the
		// rest.
		if file := outer.contents(t); outer.sum.Packets != 4+8 || strings.Count(file, "LOCAL_EPHEMERAL_PRIVATE_KEY = ") != 1 {
			t.Errorf("datagrams: %+v, %d keys", outer.sum, strings.Count(file, "LOCAL_EPHEMERAL_PRIVATE_KEY"))
		}
		if a.tun.env.Taps.Load() != nil {
			t.Error("captures run on")
		}
	})
}

// Keys leave the daemon only while a capture asks for them, and only those of sessions made then.
func TestTunnel_captureOfKeysCanMakeNewSessions(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		a.sends(b, 10)
		b.sends(a, 10)
		time.Sleep(10 * time.Second)
		plain, old := a.captures(CaptureOptions{Outer: true}), a.captures(CaptureOptions{Outer: true, Secrets: true})
		a.sends(b, 10)
		time.Sleep(time.Second)
		if file := old.contents(t); strings.Contains(file, "PRIVATE_KEY") {
			t.Error("keys of a session that was there before")
		}
		w.ears.take()
		other := b.captures(CaptureOptions{Outer: true, Secrets: true})
		renewed := a.captures(CaptureOptions{Outer: true, Secrets: true, Rekey: true})
		time.Sleep(time.Second)
		a.sends(b, 10)
		time.Sleep(time.Second)
		if i, r, _, _, _ := w.ears.take(); i != 1 || r != 1 {
			t.Errorf("%d initiations, %d responses", i, r)
		}
		initiator, responder := renewed.contents(t), other.contents(t)
		for who, file := range map[string]string{"initiator": initiator, "responder": responder} {
			if strings.Count(file, "LOCAL_EPHEMERAL_PRIVATE_KEY = ") != 1 || strings.Count(file, "LOCAL_STATIC_PRIVATE_KEY = ") != 1 {
				t.Errorf("%s: no keys", who)
			}
		}
		if file := plain.contents(t); strings.Contains(file, "PRIVATE_KEY") {
			t.Error("keys for a capture that did not ask for them")
		}
	})
}

func TestTunnel_captureEndsWithTheTunnel(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		c := a.captures(CaptureOptions{})
		a.sends(b, 10)
		if err := a.tun.Configure(Change{ReplacePeers: true}); err != nil { // while it runs
			t.Fatal(err)
		}
		a.sends(b, 10)
		a.tun.Close()
		<-c.done
		if c.err != nil || c.sum.Ended != captureEnds || c.sum.Packets != 2 {
			t.Errorf("%+v, %v", c.sum, c.err)
		}
		if _, err := a.tun.Capture(CaptureOptions{SnapLength: 100}); err == nil {
			t.Error("a closed tunnel begins a capture")
		}
	})
}

func TestTunnel_captureSaysWhatIsWrongWithIt(t *testing.T) {
	inBubble(t, func(w *world) {
		a, _ := w.pair()
		for want, o := range map[string]CaptureOptions{
			"no peer has this name":   {Filter: "peer rome", SnapLength: 100},
			"no device":               {Devices: []string{"test", "eth7"}, SnapLength: 100},
			"snap length 3":           {SnapLength: 3},
			"only with the datagrams": {SnapLength: 100, Secrets: true},
		} {
			if _, err := a.tun.Capture(o); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v, want %q", o, err, want)
			}
		}
	})
}

// What is no packet of ours harms no capture.
func TestTunnel_captureOfGarbage(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.pair()
		c := a.captures(CaptureOptions{Outer: true, Filter: "not port 1"})
		a.sends(b, 10)
		liar := netip.MustParseAddrPort("192.0.2.77:7")
		w.ears.ignore(liar)
		conn, err := w.net.Open(liar)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for n := range 200 {
			junk := bytes.Repeat([]byte{byte(n), 0, 0, 0}, n/2)
			conn.NewSender().Send([]udp.Run{{Buf: junk, To: udp.Endpoint{Addr: a.addr}}})
			a.queue.Inject(append(make([]byte, 10), junk...))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if c.contents(t); c.sum.Packets < 200 {
			t.Errorf("%+v", c.sum)
		}
	})
}

// What is dropped before it can be decrypted, or after it was encrypted, is shown with the reason
// among the datagrams.
func TestTunnel_captureSaysWhyDatagramsAreDropped(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		name := "berlin"
		b.knows(a, false, func(p *PeerChange) { p.Name = &name })
		c := b.captures(CaptureOptions{Outer: true, Filter: "dropped"})
		s := w.stranger(elsewhere)
		send := func(msg []byte) {
			s.sends(b.addr, msg)
			passes(time.Second)
		}
		good := a.sealed(b, 100, packet(a.inner, b.inner, 12))
		send(good)
		send(good)
		forged := bytes.Clone(good)
		forged[len(forged)-1] ^= 1
		send(forged)
		unknown := bytes.Clone(good)
		unknown[4] ^= 1
		send(unknown)
		send([]byte("no message"))
		hello := initiation(w, newKey(t), b.key.Public(), w.clock.Wall())
		send(hello)
		send(hello)
		send(initiation(w, newKey(t), newKey(t).Public(), w.clock.Wall()))
		send(initiation(w, a.key, b.key.Public(), w.clock.Wall().Add(-time.Hour)))
		w.net.Filter(func(d udptest.Datagram) error {
			if d.From == b.addr {
				return unix.ENOBUFS
			}
			return nil
		})
		b.sends(a, 10)
		passes(time.Second)
		w.net.Filter(nil)

		rest := c.contents(t)
		for _, want := range []string{
			"from peer berlin, dropped: replay", "from peer berlin, dropped: bad-tag", "dropped: unknown-index", "dropped: malformed",
			"dropped: handshake-failed", "dropped: duplicate-initiation", "dropped: bad-mac1",
			"from peer berlin, dropped: handshake-failed", "to peer berlin, dropped: send-error",
		} {
			if _, after, ok := strings.Cut(rest, want); ok {
				rest = after
			} else {
				t.Errorf("no datagram %q at its place", want)
			}
		}
		if c.sum.Packets != 9 {
			t.Errorf("%d datagrams", c.sum.Packets)
		}
	})
}

// A hub shows frames that it passes from one peer to another: from the one, to the other.
func TestEthernet_captureOnAHub(t *testing.T) {
	o := EthernetOptions{Switch: l2.Config{BroadcastLimit: -1}}
	a, b := newWired(t, o), newWired(t, o)
	o.Switch.Hub = true
	hub := newWired(t, o)
	joined(t, a, hub, l2.PortConfig{}, l2.PortConfig{})
	joined(t, b, hub, l2.PortConfig{}, l2.PortConfig{})
	b.carry(t, ethernetFrame(l2.Broadcast, hostB, 0, 10, 1), hub)
	a.take(hub.conn)
	s, err := hub.tun.Capture(CaptureOptions{SnapLength: 200, Filter: "tcp"})
	if err != nil {
		t.Fatal(err)
	}
	a.carry(t, ethernetFrame(hostB, hostA, 0, 100, 1), hub)
	s.Stop("")
	var records, file bytes.Buffer
	if err := s.Stream(context.Background(), func(b []byte) error { records.Write(b); return nil }, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	sum, err := capture.Save(&records, capture.Output{Packets: &file}, capture.Limits{}, func() bool { return false })
	if err != nil || sum.Packets != 2 || strings.Count(file.String(), "from peer") != 1 || strings.Count(file.String(), "to peer") != 1 {
		t.Errorf("%+v, %v: %q", sum, err, file.String())
	}
}
