package tunnel

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tund/tunnel/offload"
	"tund/tunnel/tundev"
	"tund/tunnel/tundev/tundevtest"
	"tund/tunnel/udp/udptest"
)

// A peer sends packets under its own address that repeat themselves, right behind short packets of
// another peer: where the gateway joins segments, each lands over the end of what it is compared
// with. Whatever the period, nothing of it leaves under the address of the other peer.
func TestTunnel_periodicPacketsLeaveUnderTheirOwnSource(t *testing.T) {
	inBubble(t, func(w *world) {
		gateway, victim, attacker := w.end(), w.end(), w.end()
		superpackets := tundev.Features{Checksum: true, TSO: true, USO: true}
		gateway.tun.Close()
		w.startWith(gateway, w.clock, func(o *Options) {
			gateway.queue = tundevtest.New(1024, superpackets)
			o.Devices[0].Features, o.Devices[0].Queues = superpackets, []tundev.Queue{gateway.queue}
		})
		gateway.knows(victim, false)
		// The attacker has all addresses that nobody else has, so that it can write what a period
		// asks for.
		everything := func(p *PeerChange) { p.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }
		gateway.knows(attacker, false, everything)
		for _, e := range []*end{victim, attacker} {
			e.knows(gateway, true, everything)
			e.sends(gateway, 10)
		}
		gateway.expect(2, "to connect")
		// So that what is sent at one time is received at one time.
		const delay = 10 * time.Millisecond
		w.net.Set(udptest.Conditions{Latency: delay})
		for period := 1; period < 40; period++ {
			v := shortUDP(victim.inner, gateway.inner, period, 'v')
			for _, p := range [][]byte{v, repeating(v, period)} {
				from := attacker
				if p[len(p)-1] == 'v' {
					from = victim // whose last byte is its mark
				}
				from.queue.Inject(p)
				synctest.Wait()
			}
			time.Sleep(2 * delay)
			gateway.checkSources(victim.inner, period)
		}
	})
}

// shortUDP makes a UDP packet that may not be fragmented, with n bytes of payload, all of them
// mark.
func shortUDP(src, dst netip.Addr, n int, mark byte) []byte {
	p := packet(src, dst, 8+n)
	p[6], p[9] = 0x40, 17
	binary.BigEndian.PutUint32(p[20:], 1111<<16|514)
	binary.BigEndian.PutUint16(p[24:], uint16(8+n))
	binary.BigEndian.PutUint16(p[26:], 0x1234)
	for i := 28; i < len(p); i++ {
		p[i] = mark
	}
	return withHeaderSum(p)
}

// repeating makes the attacker's packet: as long as victim, and with its first period bytes again
// and again.
func repeating(victim []byte, period int) []byte {
	p := append([]byte(nil), victim...)
	for i := period; i < 24; i++ {
		if i != 2 && i != 3 { // the length has to be right
			p[i] = p[i-period]
		}
	}
	for i := 28; i < len(p); i++ {
		p[i] = 'a'
	}
	return withHeaderSum(p)
}

func withHeaderSum(p []byte) []byte {
	p[10], p[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum+sum>>16))
	return p
}

// checkSources reads what e's host got, and fails when a payload is not that of its source.
func (e *end) checkSources(victim netip.Addr, period int) {
	e.t.Helper()
	for {
		select {
		case f := <-e.queue.Written():
			var h offload.VirtioHeader
			h.Decode(f)
			p := f[offload.VirtioHeaderLen:]
			payload := string(p[28:])
			if netip.AddrFrom4([4]byte(p[12:16])) == victim && payload[len(payload)-1] != 'v' || h.GSOType != offload.GSONone {
				e.t.Errorf("period %d: %q left under the address of another peer", period, payload)
			}
		default:
			return
		}
	}
}
