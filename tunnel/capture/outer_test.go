package capture

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"tund/internal/capture/stream"
)

// The headers made for datagrams are those that an independent reader expects, checksums included.
func TestSet_datagramsHaveTrueHeaders(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ local, remote, src, dst string }{
		{"192.0.2.1", "198.51.100.2:4000", "192.0.2.1:51820", "198.51.100.2:4000"},
		{"2001:db8::1", "[2001:db8::2]:4000", "[2001:db8::1]:51820", "[2001:db8::2]:4000"},
		{"fe80::1%eth0", "[fe80::2%3]:4000", "[fe80::1]:51820", "[fe80::2]:4000"},
		{"", "198.51.100.2:4000", "0.0.0.0:51820", "198.51.100.2:4000"},
		{"", "[2001:db8::2]:4000", "[::]:51820", "[2001:db8::2]:4000"},
	} {
		for _, in := range []bool{false, true} {
			var taps Taps
			s := begin(t, &taps, options(MaxSnap))
			d := Datagram{Data: []byte("odd"), Remote: netip.MustParseAddrPort(c.remote), Port: 51820, In: in, Class: 3}
			if c.local != "" {
				d.Local = netip.MustParseAddr(c.local)
			}
			taps.Load().Datagram(0, &d, true)
			list, payloads := records(t, s)
			if len(list) != 1 || list[0].Interface != 1 || int(list[0].Length) != len(payloads[0]) || (list[0].Flags&stream.In != 0) != in {
				t.Errorf("%+v: %+v", c, list)
				continue
			}
			first := gopacket.Decoder(layers.LayerTypeIPv4)
			if payloads[0][0]>>4 == 6 {
				first = layers.LayerTypeIPv6
			}
			packet := gopacket.NewPacket(payloads[0], first, gopacket.Default)
			network, udp := packet.NetworkLayer(), packet.TransportLayer().(*layers.UDP)
			src := netip.AddrPortFrom(addr(network.NetworkFlow().Src()), uint16(udp.SrcPort)).String()
			dst := netip.AddrPortFrom(addr(network.NetworkFlow().Dst()), uint16(udp.DstPort)).String()
			if in {
				src, dst = dst, src
			}
			if src != c.src || dst != c.dst || string(udp.Payload) != "odd" || packet.ErrorLayer() != nil {
				t.Errorf("%+v, in %v: %s to %s, %q", c, in, src, dst, udp.Payload)
			}
			again := gopacket.NewSerializeBuffer()
			_ = udp.SetNetworkLayerForChecksum(network)
			sum := udp.Checksum
			_ = gopacket.SerializeLayers(again, gopacket.SerializeOptions{ComputeChecksums: true}, network.(gopacket.SerializableLayer), udp, gopacket.Payload("odd"))
			if sum != 0 {
				if string(again.Bytes()) != string(payloads[0]) {
					t.Errorf("%+v: wrong checksum:\n%x\n%x", c, payloads[0], again.Bytes())
				}
			} else if string(again.Bytes()[:20]) != string(payloads[0][:20]) {
				t.Errorf("%+v: wrong checksum of the header:\n%x\n%x", c, payloads[0][:20], again.Bytes()[:20])
			}
		}
	}
}

func addr(e gopacket.Endpoint) netip.Addr {
	a, _ := netip.AddrFromSlice(e.Raw())
	return a
}
