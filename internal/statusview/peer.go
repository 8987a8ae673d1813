package statusview

import (
	"cmp"
	"time"

	"tund/crypto/keys"
	"tund/internal/control"
	"tund/tunnel"
	"tund/tunnel/extension"
	"tund/tunnel/timers"
)

// peer describes one peer. It requires that index has been called.
func (v *View) peer(s *tunnel.PeerStatus) control.Peer {
	out := control.Peer{
		Name: s.Name, PublicKey: s.PublicKey.String(), State: control.PeerState(s.State),
		LastHandshake: control.At(s.LastHandshake), RxBytes: s.RxBytes, TxBytes: s.TxBytes, Ethernet: s.Ethernet,
		KeepaliveS: int(s.Keepalive / time.Second), LastError: s.LastError, AllowedIPs: []string{},
		PresharedKey: !s.PresharedKey.IsZero(), StateSince: control.At(s.Since), Roamed: control.At(s.Roamed),
		LastRx: control.At(s.LastReceived), RxPackets: s.RxPackets, TxPackets: s.TxPackets, Staged: s.Staged,
		Handshake: handshakes(s.Handshakes), Drops: s.Drops, Priority: s.Priority, Active: s.Active,
	}
	out.Source, out.Shadows = v.Sources[s.PublicKey].Name, v.Sources[s.PublicKey].Shadows
	out.Handshake.Tries = s.Attempts
	out.Capabilities = extension.Features(s.Features).Names()
	if r := s.Path; r != nil && r.RTT != 0 {
		rtt, loss := r.RTT.Seconds(), r.Loss
		out.RTTS, out.Loss = &rtt, &loss
	}
	if ss := s.Session; ss != nil {
		out.Session = &control.Session{
			AgeS: ss.Age.Seconds(), Initiator: ss.Initiator, RekeyS: timers.RekeyAfterTime.Seconds(),
			RejectS: timers.RejectAfterTime.Seconds(), TxMessages: ss.Sent, RxHighest: ss.Highest, Suite: ss.Suite,
		}
		out.Suite, out.Lanes, out.PostQuantum, out.DataSessionsError = ss.Suite, ss.Lanes, ss.PostQuantum, ss.DataTrouble
	}
	out.LanesDetail = []control.Lane{}
	for _, l := range s.Lanes {
		out.LanesDetail = append(out.LanesDetail, control.Lane(l))
	}
	if s.Endpoint.IsValid() {
		out.Endpoint, out.PathMTU = s.Endpoint.String(), cmp.Or(s.PathMTU, v.PathMTU[s.Endpoint.Addr()])
	} else if why := v.Unresolved[s.PublicKey]; why != "" {
		out.LastError = why
		if s.State != tunnel.StateUp {
			out.State = control.PeerState(tunnel.StateDown) // there is no address to send to
		}
	}
	if why := v.loops[s.Name]; why != "" && s.State != tunnel.StateUp {
		out.LastError = why // it explains why there is no answer
	}
	for _, p := range s.AllowedIPs {
		out.AllowedIPs = append(out.AllowedIPs, p.String())
	}
	if p := v.peers[s.PublicKey]; p != nil {
		for _, e := range p.Endpoints {
			out.Endpoints = append(out.Endpoints, e.String())
		}
		if p.Ethernet && v.Config.Tap != nil {
			out.MaxMACs = cmp.Or(int(p.MaxMACs), v.Config.Tap.MaxMACsPerPeer)
		}
	}
	return out
}

// PeerRows describes peers in few words. source says who a peer belongs to.
func PeerRows(peers []tunnel.PeerStatus, source func(keys.PublicKey) (name string, shadows bool)) []control.PeerRow {
	rows := make([]control.PeerRow, len(peers))
	for i := range peers {
		name, _ := source(peers[i].PublicKey)
		rows[i] = peerRow(&peers[i], name)
	}
	return rows
}

func peerRow(s *tunnel.PeerStatus, source string) control.PeerRow {
	row := control.PeerRow{
		Name: s.Name, PublicKey: s.PublicKey.String(), State: control.PeerState(s.State), Source: source,
		LastHandshake: s.LastHandshake, LastRx: s.LastReceived, RxBytes: s.RxBytes, TxBytes: s.TxBytes, LastError: s.LastError,
	}
	if s.Endpoint.IsValid() {
		row.Endpoint = s.Endpoint.String()
	}
	return row
}

func handshakes(c tunnel.HandshakeCounts) control.Handshakes {
	return control.Handshakes{
		InitiationsTx: c.InitiationsSent, InitiationsRx: c.InitiationsReceived,
		ResponsesTx: c.ResponsesSent, ResponsesRx: c.ResponsesReceived,
		CookiesRx: c.CookiesReceived, Completed: c.Completed, Failed: c.Failed,
	}
}

// add adds the counts of one peer to those of the instance.
func add(sum *control.Handshakes, c control.Handshakes) {
	sum.InitiationsTx += c.InitiationsTx
	sum.InitiationsRx += c.InitiationsRx
	sum.ResponsesTx += c.ResponsesTx
	sum.ResponsesRx += c.ResponsesRx
	sum.CookiesRx += c.CookiesRx
	sum.Completed += c.Completed
	sum.Failed += c.Failed
}
