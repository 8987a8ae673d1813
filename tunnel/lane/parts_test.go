package lane

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"tund/crypto/session"
	"tund/crypto/wire"
	"tund/internal/boottime"
	"tund/internal/drop"
	"tund/internal/watchdog"
	"tund/tunnel/offload"
	"tund/tunnel/peer"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
	"tund/tunnel/udp"
)

// catcher is a socket that keeps what is sent.
type catcher struct {
	*hole
	datagrams [][]byte
}

func (c *catcher) NewSender() udp.Sender { return c }

func (c *catcher) Send(runs []udp.Run) {
	for i := range runs {
		for rest := runs[i].Buf; len(rest) > 0; {
			n := min(runs[i].Segment, len(rest))
			c.datagrams = append(c.datagrams, bytes.Clone(rest[:n]))
			rest = rest[n:]
		}
	}
	c.hole.Send(runs)
}

// tagger gives every frame to one peer in several forms: as it is, and with a tag of the VLAN that
// is the number of the form.
type tagger struct {
	Forwarder
	peer  *peer.Peer
	forms []int
}

func (f *tagger) Route(to []Recipient, p *Outgoing) ([]Recipient, drop.Reason) {
	p.IP = p.Packet[14:]
	for _, form := range f.forms {
		to = append(to, Recipient{Peer: f.peer, Form: form})
	}
	return to, drop.None
}

func (f *tagger) Reshape(mem, buf []byte, form int) []byte {
	if form == 0 {
		return buf
	}
	var h offload.VirtioHeader
	h.Decode(buf)
	h.CsumStart += Headroom
	out := mem[:Headroom+len(buf)]
	frame := out[offload.VirtioHeaderLen:]
	copy(frame, buf[offload.VirtioHeaderLen:][:12])
	binary.BigEndian.PutUint32(frame[12:], 0x8100<<16|uint32(form))
	h.Encode(out)
	return out
}

func (f *tagger) Flush(boottime.Time) {}

// inEthernet puts an IP packet, its virtio header before it, into an Ethernet frame.
func inEthernet(ip []byte) []byte {
	var h offload.VirtioHeader
	h.Decode(ip)
	h.CsumStart, h.HdrLen = h.CsumStart+14, h.HdrLen+14
	frame := append(make([]byte, offload.VirtioHeaderLen), "\x02aaaaa\x02bbbbb\x08\x00"...)
	h.Encode(frame)
	return append(frame, ip[offload.VirtioHeaderLen:]...)
}

// A superpacket that goes out in parts, and in several forms, is the same in each as one that goes
// out whole.
func TestSendLoop_partsHaveTheirFormToo(t *testing.T) {
	for _, forms := range [][]int{{0}, {5}, {0, 5}, {5, 0}, {5, 6, 0}} {
		b := newBench(t, tundev.Features{Checksum: true, TSO: true, USO: true})
		conn := &catcher{hole: newHole()}
		b.lane = New(0, conn, new(watchdog.Progress))
		b.dev.Link, b.dev.Prefix = offload.Ethernet, 4
		b.dev.NewForwarder = func(*Lane, tundev.Queue) Forwarder { return &tagger{peer: b.peer, forms: forms} }
		b.out = NewSendLoop(b.env, b.lane, b.dev, 0)

		const segments, size = 450, 88
		ip := tundevtest.TCPSuper(netip.MustParseAddr("10.9.0.1"), b.inner, segments, size)
		for i := range segments * size {
			ip[offload.VirtioHeaderLen+40+i] = byte(i*7 + i>>8)
		}
		b.send(inEthernet(ip))

		first := binary.BigEndian.Uint32(ip[offload.VirtioHeaderLen+24:])
		next := map[int]uint32{} // sequence number, by form
		for _, d := range conn.datagrams {
			plain := make([]byte, len(d)-wire.TransportOverhead)
			n, ok := b.far.Open(plain, d, new(session.Scratch))
			if !ok {
				t.Fatal("a datagram does not open")
			}
			p, form := plain[4:n], 0
			if p[12] == 0x81 {
				form, p = int(p[15]), p[4:]
			}
			seq := binary.BigEndian.Uint32(p[14+24:]) - first
			if length := binary.BigEndian.Uint16(p[16:]); length != 40+size || !bytes.Equal(p[14+40:14+40+size],
				ip[offload.VirtioHeaderLen+40+int(seq)%(segments*size):][:size]) {
				t.Fatalf("forms %v: form %d, sequence number %d: length %d or payload is wrong", forms, form, seq, length)
			}
			if seq != next[form]%(segments*size) {
				t.Fatalf("forms %v: form %d has sequence number %d, want %d", forms, form, seq, next[form])
			}
			next[form] = seq + size
		}
		if len(conn.datagrams) != segments*len(forms) {
			t.Errorf("forms %v: %d datagrams, want %d; drops %v", forms, len(conn.datagrams), segments*len(forms), b.env.Drops.Snapshot())
		}
	}
}

// A superpacket that met congestion is marked in every form.
func TestSendLoop_marksCongestionInEveryForm(t *testing.T) {
	for _, forms := range [][]int{{0}, {5}, {0, 5}, {5, 0}} {
		b := newBench(t, tundev.Features{Checksum: true, TSO: true, USO: true})
		conn := &catcher{hole: newHole()}
		b.lane = New(0, conn, new(watchdog.Progress))
		b.dev.Link, b.dev.Prefix = offload.Ethernet, 4
		b.dev.NewForwarder = func(*Lane, tundev.Queue) Forwarder { return &tagger{peer: b.peer, forms: forms} }
		b.out = NewSendLoop(b.env, b.lane, b.dev, 0)
		ip := tundevtest.TCPSuper(netip.MustParseAddr("10.9.0.1"), b.inner, 10, 1000)
		ip[offload.VirtioHeaderLen+1] = 2 // ECN-capable: codepoint 10 (RFC 3168 §5)
		n := copy(b.mem[Headroom:], inEthernet(ip))
		b.out.now = still{}.Now()
		b.out.carry(b.mem, n, true)
		b.out.Flush()
		for _, d := range conn.datagrams {
			plain := make([]byte, len(d)-wire.TransportOverhead)
			if _, ok := b.far.Open(plain, d, new(session.Scratch)); !ok {
				t.Fatal("a datagram does not open")
			}
			p := plain[4:]
			if p[12] == 0x81 {
				p = p[4:]
			}
			if p[15]&3 != 3 {
				t.Fatalf("forms %v: ECN %d of a packet that met congestion", forms, p[15]&3)
			}
		}
		if len(conn.datagrams) != 10*len(forms) {
			t.Errorf("forms %v: %d datagrams", forms, len(conn.datagrams))
		}
	}
}
