package offload

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"tund/internal/drop"
	"tund/internal/testnet"
	"tund/tunnel/tundev"
)

// rig is a kernel between two devices: what is written to one is forwarded (TUN) or bridged (TAP)
// to the other.
type rig struct {
	t        *testing.T
	link     Link
	in, out  tundev.Queue
	offloads bool // out may give superpackets
	buf      []byte
	split    Splitter
	packets  [][]byte // what came out, cut
	reads    int
	refused  int
}

func newRig(t *testing.T, link Link, offloads bool) *rig {
	ns := testnet.New(t)
	r := &rig{t: t, link: link, offloads: offloads, buf: make([]byte, tundev.MaxRead, tundev.MaxRead+MaxPadding)}
	kind := tundev.TUN
	if link == Ethernet {
		kind = tundev.TAP
	}
	ns.Do(func() {
		for i, name := range []string{"offa", "offb"} {
			d, err := tundev.Open(tundev.Options{Name: name, Kind: kind, Offload: i == 0 || offloads})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = d.Close() })
			if f := d.Features(); i == 0 && !f.USO {
				t.Skipf("needs Linux 6.2 for UDP superpackets on a device, have %+v", f)
			}
			if i == 0 {
				r.in = d.Queues()[0]
			} else {
				r.out = d.Queues()[0]
			}
		}
	})
	ns.Run(t, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
	if link == IP {
		for dev, addresses := range map[string][2]string{"offa": {"10.0.0.254/24", "fd09::fe/64"}, "offb": {"10.1.0.254/24", "fd0a::fe/64"}} {
			ns.Run(t, "ip", "address", "add", addresses[0], "dev", dev)
			ns.Run(t, "ip", "address", "add", addresses[1], "dev", dev, "nodad")
		}
	} else {
		ns.Run(t, "ip", "link", "add", "br0", "type", "bridge")
		ns.Run(t, "ip", "link", "set", "br0", "up")
		ns.Run(t, "ip", "link", "set", "offa", "master", "br0")
		ns.Run(t, "ip", "link", "set", "offb", "master", "br0")
	}
	for _, dev := range []string{"offa", "offb"} {
		ns.Run(t, "ip", "link", "set", dev, "up", "txqueuelen", "2000")
	}
	return r
}

// write hands a frame to the kernel and takes what it forwards.
func (r *rig) write(frame []byte) {
	var h VirtioHeader
	h.Decode(frame)
	if err := r.in.Write(frame); err != nil {
		r.refused++
		r.t.Errorf("the kernel refused %+v and %d bytes: %v", h, len(frame), err)
	}
	r.drain()
}

func (r *rig) drain() {
	for {
		n, err := r.out.Read(r.buf, false)
		if err != nil {
			r.t.Fatal(err)
		}
		if n == 0 {
			return
		}
		frame := r.buf[:n]
		if at, version := network(frame[VirtioHeaderLen:], r.link); !ours(frame[VirtioHeaderLen+at:], version) {
			continue // the kernel's own: router solicitations, reports
		}
		var h VirtioHeader
		h.Decode(frame)
		if reason := r.split.Begin(frame, r.link, 0, 0); reason != drop.None {
			r.t.Fatalf("%v: %+v, %d bytes: %x", reason, h, n, frame[:min(n, 120)])
		}
		r.reads++
		for range r.split.Count() {
			b, length := r.split.Next()
			r.packets = append(r.packets, append([]byte(nil), b[:length]...))
		}
	}
}

// ours says whether an IP packet is from the tests' source addresses.
func ours(ip []byte, version uint8) bool {
	return version == 4 && ip[12] == 10 && ip[15] < 100 || version == 6 && ip[8] == 0xfd && ip[23] < 100
}

// hop undoes one hop of forwarding.
func hop(p []byte) []byte {
	if p[0]>>4 == 6 {
		p[7]++
		return p
	}
	p[8]++
	n := int(p[0]&15) * 4
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^slowSum(p[:n], 0))
	return p
}

// TestKernel_forwardsWhatIsJoined lets Linux be the judge of both halves. Trains are joined and
// written to a device; Linux forwards or bridges them to another one, cut into packets by itself or
// still whole and cut by Splitter. Either way the packets that come out are those that went in.
func TestKernel_forwardsWhatIsJoined(t *testing.T) {
	testnet.Require(t)
	for _, link := range []Link{IP, Ethernet} {
		for _, offloads := range []bool{false, true} {
			t.Run(fmt.Sprintf("link=%d,offloads=%v", link, offloads), func(t *testing.T) {
				r := newRig(t, link, offloads)
				prefix := 0
				if link == Ethernet {
					prefix = 4
				}
				written := 0
				c := NewCoalescer(link, prefix, allFeatures, func(f []byte, _ uint32) { written++; r.write(f) })
				g := newTraffic(rand.New(rand.NewPCG(21, uint64(link))), link, false)
				for i := range g.flows {
					g.flows[i].udp = i >= 3
				}
				var in [][]byte
				for len(in) < 1500 {
					p := g.nextWhole(t)
					feed(t, c, p)
					in = append(in, p)
				}
				c.Flush()
				testnet.Await(t, "the last packet", 5*time.Second, func() bool { r.drain(); return len(r.packets) >= len(in) })
				if link == IP {
					for i := range r.packets {
						r.packets[i] = hop(r.packets[i])
					}
				}
				comparePackets(t, "through the kernel", link, r.packets, in)
				if written > len(in)/3 || offloads && r.reads > written || !offloads && r.reads != len(in) {
					t.Errorf("%d packets in %d writes and %d reads", len(in), written, r.reads)
				}
				t.Logf("%d packets in %d writes and %d reads", len(in), written, r.reads)
			})
		}
	}
}

// nextWhole is the next packet of some flow, odd at times but one that a router forwards.
func (g *traffic) nextWhole(t testing.TB) []byte {
	r := g.r
	if r.IntN(12) == 0 {
		g.last = r.IntN(len(g.flows))
	}
	f := &g.flows[g.last]
	s := *f
	*f = after(s)
	switch r.IntN(40) {
	case 0:
		s.flags |= []uint8{tcpFIN, tcpPSH, tcpCWR, 0x40}[r.IntN(4)]
	case 1:
		s.payload = s.payload[:r.IntN(len(s.payload))]
		f.seq = s.seq + uint32(len(s.payload))
	case 2:
		f.stamp = r.Uint64() | 1
	case 3:
		f.payload = randomBytes(r, 1+r.IntN(1400))
	}
	return s.build(t)
}
