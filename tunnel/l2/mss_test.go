package l2

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// tcpFrame returns a TCP segment whose options are raw bytes (padded), optionally tagged, over IPv4
// with options or IPv6 with an extension header.
func tcpFrame(t testing.TB, v6, syn, extra bool, options []byte, tags int) []byte {
	t.Helper()
	for len(options)%4 != 0 {
		options = append(options, 0)
	}
	tcp := make([]byte, tcpMinHeader+len(options))
	binary.BigEndian.PutUint16(tcp, 40000)
	binary.BigEndian.PutUint16(tcp[2:], 80)
	tcp[12] = byte(len(tcp)/4) << 4
	if syn {
		tcp[13] = tcpSYN
	}
	copy(tcp[tcpMinHeader:], options)
	b := ethHeader(v6, tags)
	if v6 {
		ext := []byte(nil)
		next := byte(protoTCP)
		if extra {
			ext, next = []byte{protoTCP, 0, 1, 4, 0, 0, 0, 0}, protoDestOpts
		}
		ip := serialize(t, ip6("fd00::1", "fd00::2", layers.IPProtocol(next)), gopacket.Payload(append(ext, tcp...)))
		sum := checksum(tcp, uint32(checksum(ip[8:40], 0))+uint32(len(tcp))+protoTCP)
		binary.BigEndian.PutUint16(ip[len(ip)-len(tcp)+16:], ^sum)
		return append(b, ip...)
	}
	l := ip4("10.0.0.1", "10.0.0.2", layers.IPProtocolTCP)
	if extra {
		l.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	}
	ip := serialize(t, l, gopacket.Payload(tcp))
	sum := checksum(tcp, uint32(checksum(ip[12:20], 0))+uint32(len(tcp))+protoTCP)
	binary.BigEndian.PutUint16(ip[len(ip)-len(tcp)+16:], ^sum)
	return append(b, ip...)
}

func ethHeader(v6 bool, tags int) []byte {
	typ := uint16(typeIPv4)
	if v6 {
		typ = typeIPv6
	}
	frame := eth(hostMAC(1), hostMAC(2), typ, []uint16{5, 6}[:tags]...)
	return frame[:len(frame)-46]
}

// tcpSum returns 0xffff if the TCP checksum of the frame is correct.
func tcpSum(t testing.TB, frame []byte) uint16 {
	h, _ := Parse(frame)
	b := frame[h.Payload:]
	s := segmentOf(b, h.EtherType)
	if !s.complete || s.proto != protoTCP {
		t.Fatalf("no TCP: %+v", s)
	}
	addr := b[12:20]
	if h.EtherType == typeIPv6 {
		addr = b[8:40]
	}
	return checksum(b[s.off:s.end], uint32(checksum(addr, 0))+uint32(s.end-s.off)+protoTCP)
}

func TestClampMSS_everyShape(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		for _, extra := range []bool{false, true} {
			for tags := range 3 {
				for lead := range 6 { // no-operation options in front, for odd and even offsets
					options := append(bytes.Repeat([]byte{1}, lead), 2, 4, 0x05, 0xb4, 3, 3, 7)
					frame := tcpFrame(t, v6, true, extra, options, tags)
					if tcpSum(t, frame) != 0xffff {
						t.Fatal("the test's own checksum is wrong")
					}
					if !ClampMSS(frame, 1300, 1280, false) || tcpSum(t, frame) != 0xffff {
						t.Errorf("v6 %v, extra %v, %d tags, offset %d: not clamped, or checksum %#x", v6, extra, tags, lead, tcpSum(t, frame))
					}
					want := uint16(1300)
					if v6 {
						want = 1280
					}
					at := bytes.Index(frame, []byte{2, 4, byte(want >> 8), byte(want)})
					if at < 0 {
						t.Errorf("v6 %v: MSS is not %d", v6, want)
					}
					if ClampMSS(frame, 1300, 1280, false) {
						t.Error("clamped twice")
					}
				}
			}
		}
	}
}

func TestClampMSS_partialChecksumStays(t *testing.T) {
	t.Parallel()
	frame := tcpFrame(t, false, true, false, []byte{2, 4, 0x05, 0xb4}, 0)
	sum := bytes.Clone(frame[len(frame)-8 : len(frame)-6])
	if !ClampMSS(frame, 1300, 1280, true) || !bytes.Equal(frame[len(frame)-8:len(frame)-6], sum) {
		t.Error("the sum of the pseudo-header was changed, or nothing was clamped")
	}
}

func TestClampMSS_leavesOthersAlone(t *testing.T) {
	t.Parallel()
	mss := []byte{2, 4, 0x05, 0xb4}
	fragment := tcpFrame(t, false, true, false, mss, 0)
	fragment[headerLen+7] = 1 // offset 8
	for name, frame := range map[string][]byte{
		"no SYN":            tcpFrame(t, false, false, false, mss, 0),
		"small MSS":         tcpFrame(t, false, true, false, []byte{2, 4, 2, 0}, 0),
		"no option":         tcpFrame(t, false, true, false, nil, 0),
		"broken option":     tcpFrame(t, false, true, false, []byte{3, 0, 0, 0, 2, 4, 0x05, 0xb4}, 0),
		"option at the end": tcpFrame(t, false, true, false, []byte{1, 1, 1, 2}, 0),
		"MSS of length 5":   tcpFrame(t, false, true, false, []byte{2, 5, 0x05, 0xb4, 0}, 0),
		"behind the end":    tcpFrame(t, false, true, false, []byte{0, 2, 4, 0x05, 0xb4}, 0),
		"later fragment":    fragment,
		"UDP":               udp4(t, 2, 4, "10.0.0.1", "10.0.0.2", 1, 2, make([]byte, 60)),
		"ARP":               gratuitous(t, 4, "10.0.0.1"),
		"truncated":         tcpFrame(t, true, true, false, mss, 0)[:70],
	} {
		before := bytes.Clone(frame)
		if ClampMSS(frame, 1300, 1280, false) || !bytes.Equal(frame, before) {
			t.Errorf("%s: changed", name)
		}
	}
	if a, b := MSS(1420); a != 1380 || b != 1360 {
		t.Errorf("MSS(1420) = %d, %d", a, b)
	}
	if a, b := MSS(10); a != 0 || b != 0 {
		t.Errorf("MSS(10) = %d, %d", a, b)
	}
}

func FuzzClampMSS(f *testing.F) {
	f.Add(tcpFrame(f, false, true, true, []byte{1, 2, 4, 0x05, 0xb4}, 1), uint16(1300), false)
	f.Add(tcpFrame(f, true, true, true, []byte{2, 4, 0x05, 0xb4}, 0), uint16(1), true)
	f.Fuzz(func(t *testing.T, frame []byte, mss uint16, partial bool) {
		before := bytes.Clone(frame)
		changed := ClampMSS(frame, mss, mss, partial)
		if changed == bytes.Equal(before, frame) {
			t.Fatalf("changed is %v", changed)
		}
		if !changed {
			return
		}
		if !partial && (tcpSum(t, before) == 0xffff) != (tcpSum(t, frame) == 0xffff) {
			t.Fatalf("checksum %#x before, %#x after", tcpSum(t, before), tcpSum(t, frame))
		}
		if ClampMSS(frame, mss, mss, partial) {
			t.Fatal("clamped twice")
		}
	})
}
