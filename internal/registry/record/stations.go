package record

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"tund/internal/names"
)

// KindStations is the kind of a Stations document.
const KindStations Kind = "stations"

// Bounds of a Stations document.
const (
	MaxStations = 64 // in one document
	// MaxStationIPs bounds the addresses of one host: IPv4, link-local and a few more.
	MaxStationIPs = 8
	// maxStationsDocument is the size in bytes of 64 hosts with eight IPv6 addresses each.
	maxStationsDocument = 48 << 10
)

// Stations is what a site says of the hosts on its LAN: a part of those in one VLAN. Which hosts
// are in which part is for the site to say; a host that is in none of them is not there.
type Stations struct {
	Network string `json:"network"`
	Site    Site   `json:"site"`
	Grant   uint64 `json:"grant"` // serial of the grant that it is based on
	VLAN    uint16 `json:"vlan"`  // 0: untagged frames
	Part    uint8  `json:"part"`
	// Epoch and Serial order the documents of one part that are based on one grant, as those of a
	// Record.
	Epoch    uint64    `json:"epoch"`
	Serial   uint64    `json:"serial"`
	Stations []Station `json:"stations"`
	NotAfter time.Time `json:"not_after"`
}

// Station is a host.
type Station struct {
	MAC string `json:"mac"` // lower case, with colons
	// Seq counts the moves of the host between sites: a site where it appears says one more than
	// the site that had it (RFC 7432 §7.7).
	Seq    uint32       `json:"seq,omitempty"`
	Sticky bool         `json:"sticky,omitempty"` // the host does not move
	IPs    []netip.Addr `json:"ips,omitempty"`
	Router bool         `json:"router,omitempty"` // as its neighbour advertisements say
}

// StationsKey returns the key of a document in a registry.
func StationsKey(site Site, vlan uint16, part uint8) string {
	return fmt.Sprintf("l2/%d/%s/%02x", vlan, site.ID(), part)
}

// SignStations returns the document, signed by the site's agent.
func SignStations(s Stations, key ed25519.PrivateKey) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("stations: %w", err)
	}
	return seal(KindStations, s, key)
}

// Stations verifies a document against the grant of its site, and that it counts now.
func (g *Grant) Stations(data []byte, now time.Time) (Stations, error) {
	s, err := g.signedStations(data)
	if err == nil && s.Grant != g.Serial {
		err = fmt.Errorf("is based on grant %d, and that in force is %d", s.Grant, g.Serial)
	}
	if err == nil && s.Expired(now) {
		err = fmt.Errorf("%w %s", ErrExpired, s.NotAfter.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return Stations{}, fmt.Errorf("stations of %s: %w", g.Name, err)
	}
	return s, nil
}

// signedStations verifies a document against the grant of its site, whenever it counts.
func (g *Grant) signedStations(data []byte) (Stations, error) {
	var s Stations
	e, err := open(data)
	if err == nil {
		err = e.payload(KindStations, &s)
	}
	if err == nil && e.signers([]Key{g.Agent}) != 1 {
		err = errors.New("is not signed by the agent that the grant names")
	}
	if err == nil {
		err = errors.Join(s.check(), g.coversStations(&s))
	}
	if err != nil {
		return Stations{}, err
	}
	return s, nil
}

// Expired reports whether the document no longer counts.
func (s *Stations) Expired(now time.Time) bool { return now.Add(-Slack).After(s.NotAfter) }

// KeptStations reads a document without verifying it: one that was verified before, against a grant
// that may have been replaced since, and was kept where nobody else can write.
func KeptStations(data []byte) (Stations, error) {
	var s Stations
	e, err := open(data)
	if err == nil {
		err = e.payload(KindStations, &s)
	}
	if err == nil {
		err = s.check()
	}
	return s, err
}

// Newer reports whether s replaces another document of the same part. One that is based on a later
// grant does, whatever its count: whoever had the key that an earlier grant names cannot keep the
// holder of the present one from being heard.
func (s *Stations) Newer(than *Stations) bool {
	if s.Grant != than.Grant {
		return s.Grant > than.Grant
	}
	return s.Epoch > than.Epoch || s.Epoch == than.Epoch && s.Serial > than.Serial
}

// Permits reports whether the site may have hosts in a VLAN, and this host among them.
func (g *Grant) Permits(vlan uint16, mac string) bool {
	if !slices.Contains(g.VLANs, vlan) && (vlan != 0 || len(g.VLANs) > 0) {
		return false
	}
	return len(g.MACs) == 0 || g.Owns(mac)
}

// Owns reports whether the signers have given a MAC address, in lower case with colons, to the
// site.
func (g *Grant) Owns(mac string) bool {
	return slices.ContainsFunc(g.MACs, func(text string) bool {
		m, err := names.Station(text)
		return err == nil && net.HardwareAddr(m[:]).String() == mac
	})
}

// coversStations returns what a document claims beyond the grant.
func (g *Grant) coversStations(s *Stations) error {
	switch {
	case s.Network != g.Network:
		return fmt.Errorf("is of the network %.40q, not %q", s.Network, g.Network)
	case s.Site != g.Site:
		return errors.New("is of another site")
	}
	for i := range s.Stations {
		if mac := s.Stations[i].MAC; !g.Permits(s.VLAN, mac) {
			return fmt.Errorf("claims %s in VLAN %d, which is not granted", mac, s.VLAN)
		}
	}
	return nil
}

// check returns what is wrong with a document by itself.
func (s *Stations) check() error {
	if s.VLAN > maxVLAN {
		return fmt.Errorf("VLAN %d is out of range", s.VLAN)
	}
	if len(s.Stations) > MaxStations {
		return fmt.Errorf("more than %d hosts", MaxStations)
	}
	seen := make(map[string]bool, len(s.Stations))
	for i := range s.Stations {
		h := &s.Stations[i]
		m, err := names.Station(h.MAC)
		switch {
		case err != nil || net.HardwareAddr(m[:]).String() != h.MAC:
			return fmt.Errorf("MAC %.40q: want the address of a host, in lower case with colons", h.MAC)
		case seen[h.MAC]:
			return fmt.Errorf("MAC %s is there twice", h.MAC)
		case len(h.IPs) > MaxStationIPs:
			return fmt.Errorf("%s has more than %d addresses", h.MAC, MaxStationIPs)
		}
		seen[h.MAC] = true
		for _, ip := range h.IPs {
			if !ip.IsValid() || ip.Is4In6() || ip.Zone() != "" || ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() {
				return fmt.Errorf("%s: %v is not the address of a host", h.MAC, ip)
			}
		}
	}
	return nil
}
