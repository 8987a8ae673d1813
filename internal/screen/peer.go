package screen

import (
	"fmt"
	"strconv"
	"strings"

	"tund/internal/control"
)

// labelWidth is the column in which the values of a peer's page begin.
const labelWidth = 18

// Peer writes everything that is known about one peer of an instance.
func (s *Page) Peer(instance string, p *control.Peer) {
	state, colour := s.state(p.State)
	if !p.StateSince.IsZero() {
		state += " for " + age(s.now.Sub(p.StateSince.Time))
	}
	name := s.Clean(p.Name)
	s.WriteString(s.Paint(Bold, name) + "  " + s.Paint(colour, state) + "  (instance " + s.Clean(instance) + ")\n")
	if p.LastError != "" {
		s.field("last error", p.LastError)
	}
	s.field("public key", p.PublicKey)
	s.field("preshared key", yesNo(p.PresharedKey))
	s.field("endpoint", s.endpoint(p))
	s.field("handshake", s.handshake(p))
	received := bytesIEC(p.RxBytes) + packets(p.RxPackets)
	if !p.LastRx.IsZero() {
		received += ", last " + since(p.LastRx.Time, s.now)
	}
	s.field("received", received)
	s.field("sent", bytesIEC(p.TxBytes)+packets(p.TxPackets))
	if p.Staged > 0 {
		s.field("waiting", Plural(p.Staged, "packet")+" for a session")
	}
	if p.Session != nil {
		s.field("session", s.session(p))
	}
	if p.DataSessionsError != "" {
		s.field("data sessions", "none: "+p.DataSessionsError)
	}
	for i, l := range p.LanesDetail {
		s.field("lane "+strconv.Itoa(i), fmt.Sprintf("received %d, sent %d packets", l.RxPackets, l.TxPackets))
	}
	keepalive := "off"
	if p.KeepaliveS > 0 {
		keepalive = "every " + strconv.Itoa(p.KeepaliveS) + "s"
	}
	s.field("keepalive", keepalive)
	if p.PathMTU > 0 {
		s.field("path mtu", strconv.Itoa(p.PathMTU))
	}
	if p.RTTS != nil {
		s.field("round trip", fmt.Sprintf("%.3g ms, %.0f%% lost", 1000**p.RTTS, 100**p.Loss))
	}
	ethernet := "no"
	if p.Ethernet {
		ethernet = macs(p)
	}
	s.field("ethernet", ethernet)
	if len(p.Capabilities) > 0 {
		s.field("capabilities", strings.Join(p.Capabilities, ", "))
	}
	allowed := "none"
	if len(p.AllowedIPs) > 0 {
		allowed = strings.Join(p.AllowedIPs, ", ")
	}
	s.field("allowed ips", allowed)
	if p.Priority != 0 || !p.Active {
		s.field("failover", failover(p))
	}
	h := p.Handshake
	s.field("handshakes", fmt.Sprintf("%d completed, %d failed; initiations sent %d, received %d; responses sent %d, received %d; cookies received %d",
		h.Completed, h.Failed, h.InitiationsTx, h.InitiationsRx, h.ResponsesTx, h.ResponsesRx, h.CookiesRx))
	s.field("drops", reasons(p.Drops))
}

// failover describes the part that a peer has among those with the same allowed IPs.
func failover(p *control.Peer) string {
	text := "priority " + strconv.Itoa(p.Priority)
	if !p.Active {
		text += ", standby: another peer carries what it shares"
	}
	return text
}

// field writes one labelled value.
func (s *Page) field(label, value string) {
	s.WriteString("  " + s.Paint(Dim, label) + strings.Repeat(" ", labelWidth-2-len(label)))
	s.line(labelWidth, labelWidth, s.Clean(value))
}

// endpoint describes where the peer is, which endpoints are configured, and whether it moved.
func (s *Page) endpoint(p *control.Peer) string {
	text := p.Endpoint
	if text == "" {
		text = "not known yet"
	}
	if len(p.Endpoints) > 0 {
		text += " (configured: " + strings.Join(p.Endpoints, ", ") + ")"
	}
	if !p.Roamed.IsZero() {
		text += ", roamed " + since(p.Roamed.Time, s.now)
	}
	return text
}

// handshake describes how old the last handshake is and when the next is due.
func (s *Page) handshake(p *control.Peer) string {
	text := since(p.LastHandshake.Time, s.now)
	if p.Session != nil && p.Session.RekeyS > 0 {
		left := max(p.Session.RekeyS-p.Session.AgeS, 0)
		text += fmt.Sprintf(", rekey in %.0f/%.0fs", left, p.Session.RekeyS)
	}
	if p.Handshake.Tries > 0 {
		text += ", " + strconv.Itoa(p.Handshake.Tries) + " tries since"
	}
	return text
}

// session describes the current session, and what carries packets for the peer.
func (s *Page) session(p *control.Peer) string {
	x := p.Session
	role := "responder"
	if x.Initiator {
		role = "initiator"
	}
	text := fmt.Sprintf("%s, age %.0f/%.0fs, counters sent %d, received %d", role, x.AgeS, x.RejectS, x.TxMessages, x.RxHighest)
	if x.Suite != "" {
		text += ", " + x.Suite
	}
	if p.Lanes > 1 {
		text += ", " + Plural(p.Lanes, "lane")
	}
	if p.PostQuantum {
		text += ", post-quantum"
	}
	return text
}

// packets formats a number of packets, if there was a count.
func packets(n uint64) string {
	switch n {
	case 0:
		return ""
	case 1:
		return " in 1 packet"
	}
	return " in " + strconv.FormatUint(n, 10) + " packets"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
