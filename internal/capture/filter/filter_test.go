package filter

import (
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

var berlin, paris = Key{1}, Key{2}

func peers(name string) (Key, bool) {
	switch name {
	case "berlin":
		return berlin, true
	case "paris office":
		return paris, true
	}
	return Key{}, false
}

// build makes bytes of layers.
func build(t *testing.T, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, parts...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFilter_match(t *testing.T) {
	t.Parallel()
	ip := func(proto layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: []byte{10, 1, 0, 5}, DstIP: []byte{192, 168, 7, 9}}
	}
	tcp := View{Data: build(t, ip(layers.IPProtocolTCP), &layers.TCP{SrcPort: 40000, DstPort: 443}, gopacket.Payload("x")), HasPeer: true, Peer: berlin}
	icmp := View{Data: build(t, ip(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 0x0800}), In: true, HasPeer: true, Peer: paris, Dropped: true}
	fragment := View{Data: build(t, &layers.IPv4{Version: 4, TTL: 64, FragOffset: 100, Protocol: layers.IPProtocolUDP, SrcIP: []byte{10, 1, 0, 5},
		DstIP: []byte{10, 2, 0, 1}}, gopacket.Payload("\x01\xbb\x01\xbbxxxx"))}
	six := View{Data: build(t, &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: append([]byte{0xfd, 0}, make([]byte, 14)...),
		DstIP: append([]byte{0xfd, 1}, make([]byte, 14)...)}, &layers.UDP{SrcPort: 53, DstPort: 3000})}
	ether := func(kind layers.EthernetType) *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: kind}
	}
	arp := View{Ethernet: true, Data: build(t, ether(layers.EthernetTypeARP), &layers.ARP{AddrType: 1, Protocol: 0x0800, HwAddressSize: 6,
		ProtAddressSize: 4, Operation: 1, SourceHwAddress: make([]byte, 6), SourceProtAddress: []byte{10, 1, 0, 5}, DstHwAddress: make([]byte, 6),
		DstProtAddress: []byte{10, 1, 0, 9}})}
	tagged := View{Ethernet: true, Data: build(t, ether(layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: 30, Type: layers.EthernetTypeIPv4},
		ip(layers.IPProtocolUDP), &layers.UDP{SrcPort: 67, DstPort: 68})}
	outer := View{Encrypted: true, HasPeer: true, Peer: berlin}
	unknown := View{Encrypted: true, In: true}
	all := map[string]*View{"tcp": &tcp, "icmp": &icmp, "fragment": &fragment, "six": &six, "arp": &arp, "tagged": &tagged, "outer": &outer, "unknown": &unknown}
	for text, want := range map[string]string{
		"":                               "tcp icmp fragment six arp tagged outer unknown",
		"peer berlin":                    "tcp outer unknown",
		`peer "paris office"`:            "icmp unknown",
		"not peer berlin":                "icmp fragment six arp tagged unknown",
		"host 10.1.0.5":                  "tcp icmp fragment arp tagged outer unknown",
		"dst host 10.1.0.5":              "outer unknown",
		"src net 10.0.0.0/8 and not arp": "tcp icmp fragment tagged outer unknown",
		"net fd00::/15":                  "six outer unknown",
		// Not in a later fragment, whose bytes only look like it.
		"port 443":                        "tcp outer unknown",
		"dst port 60-70 or port 53":       "tagged six outer unknown",
		"proto arp":                       "arp outer unknown",
		"proto 17":                        "fragment six tagged outer unknown",
		"icmp or ( tcp and port 443 )":    "tcp icmp outer unknown",
		"! (ip or ip6)":                   "arp outer unknown",
		"vlan":                            "tagged outer unknown",
		"vlan 31":                         "outer unknown",
		"vlan 30 and udp":                 "tagged outer unknown",
		"in":                              "icmp unknown",
		"dropped":                         "icmp",
		"peer berlin && tcp || proto arp": "tcp arp outer unknown",
		"peer \"paris office\" and tcp":   "unknown",
	} {
		f, err := Parse(text, peers)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		for name, v := range all {
			one := *v
			if got, want := f.Match(&one), strings.Contains(" "+want+" ", " "+name+" "); got != want {
				t.Errorf("%q of %s: %v, want %v", text, name, got, want)
			}
		}
	}
}

func TestParse_saysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"port":                               "at its end: want a port",
		"tcp port 80":                        `at "port" (character 5): want "and"`,
		"peer rome":                          `at "rome" (character 6): no peer`,
		"host 10.1":                          "want an IP address",
		"net 10.0.0.0/33":                    "want a network",
		"(tcp":                               "closing parenthesis",
		"src tcp":                            "want host, net or port",
		"port 90-80":                         "want a port",
		`peer "x`:                            "not closed",
		"colour blue":                        `at "colour" (character 1): want peer NAME`,
		"vlan 5000":                          "want a VLAN",
		"proto 256":                          "number of an IP protocol",
		"tcp or":                             "at its end: want peer NAME",
		"\"tcp\"":                            "want peer NAME",
		`tcp "" and port 80`:                 `at "" (character 5): want "and"`,
		"host ::1 and \x00":                  "(character 14)",
		strings.Repeat("(", 100):             "nested more than",
		strings.Repeat("not ", 2000) + "tcp": "at most",
	} {
		if _, err := Parse(text, peers); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error %v, want %q in it", text, err, want)
		}
	}
}

// Peers send what they like: no packet makes a filter read beyond it.
func FuzzFilter(f *testing.F) {
	f.Add("peer berlin and (port 53 or icmp6) or arp or vlan 3", []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 80}, false)
	f.Add("not host fd00::1 or port 1-2", append([]byte{0x60, 0, 0, 0, 0, 0, 44, 64}, make([]byte, 60)...), true)
	f.Fuzz(func(_ *testing.T, text string, data []byte, ethernet bool) {
		filter, err := Parse(text, peers)
		if err != nil {
			return
		}
		for n := 0; n <= len(data); n += 1 + n/8 {
			filter.Match(&View{Data: data[:n:n], Ethernet: ethernet})
		}
	})
}
