package record

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Whatever a store returns as a document about hosts: it is refused, or says what was signed.
func FuzzStations(f *testing.F) {
	agent, _ := signer(9)
	g, _ := oslo()
	s := Stations{Network: "acme", Site: g.Site, Grant: 3, VLAN: 7, Part: 1, Epoch: 1, Serial: 2, NotAfter: noon.Add(time.Hour), Stations: []Station{
		{MAC: "02:00:00:00:00:01", Seq: 4, IPs: []netip.Addr{netip.MustParseAddr("10.30.0.9")}}}}
	good, err := SignStations(s, agent)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}"))
	payload := func(data []byte) string {
		e, err := open(data)
		if err != nil {
			return ""
		}
		return string(e.Payload)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := g.Stations(data, noon); err == nil && payload(data) != payload(good) {
			t.Errorf("a forged document: %q", data)
		}
	})
}

func TestStations_check(t *testing.T) {
	t.Parallel()
	ip := netip.MustParseAddr
	for want, s := range map[string]Stations{
		"VLAN 4095 is out of range": {VLAN: 4095},
		"lower case":                {Stations: []Station{{MAC: "02:00:00:00:00:AA"}}},
		"the address of a host":     {Stations: []Station{{MAC: "03:00:00:00:00:01"}}},
		"is there twice":            {Stations: []Station{{MAC: "02:00:00:00:00:01"}, {MAC: "02:00:00:00:00:01"}}},
		"127.0.0.1 is not":          {Stations: []Station{{MAC: "02:00:00:00:00:01", IPs: []netip.Addr{ip("127.0.0.1")}}}},
		"more than 8 addresses":     {Stations: []Station{{MAC: "02:00:00:00:00:01", IPs: make([]netip.Addr, 9)}}},
		"more than 64 hosts":        {Stations: make([]Station, 65)},
	} {
		if err := s.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	full := Stations{Network: "acme", Stations: make([]Station, 0, MaxStations)}
	for i := range MaxStations {
		h := Station{MAC: "02:00:00:00:00:" + string("0123456789abcdef"[i/16]) + string("0123456789abcdef"[i%16]), Seq: 4e9, Router: true, Sticky: true}
		for n := range MaxStationIPs {
			h.IPs = append(h.IPs, netip.AddrFrom16([16]byte{0: 0x20, 1: 0x11, 2: 0x22, 5: 0x33, 7: 0x44, 9: 0x55, 11: byte(i + 16), 13: 0x66, 15: byte(n + 16)}))
		}
		full.Stations = append(full.Stations, h)
	}
	k, _ := signer(9)
	if _, err := SignStations(full, k); err != nil {
		t.Errorf("a full document: %v", err)
	}
}
