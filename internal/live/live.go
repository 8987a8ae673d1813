// Package live turns looks at instances, one after the other, into rates and their recent history.
//
// It keeps a short history of each peer that is there, and of nothing else. It asks nothing, draws
// nothing and has no clock: the caller brings looks and their times.
package live

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"tund/internal/control"
	"tund/internal/drop"
)

// History is how many rates are kept for each peer: the width of the widest graph.
const History = 60

// Peer is a peer with what changed about it since the last look.
type Peer struct {
	Instance string
	*control.Peer
	// Bits and dropped packets per second; negative while there is only one look.
	Rx, Tx, Drops float64
	Graph         []float64 // bits per second in both directions, oldest first, at most History
}

// Instance is an instance with what changed since the last look.
type Instance struct {
	*control.Instance
	Rx, Tx float64            // of its devices, as in Peer
	Drops  map[string]float64 // packets per second, of the reasons that occurred
}

// Meter computes rates. The zero Meter has seen nothing. It is for one goroutine.
type Meter struct {
	at    time.Time
	peers map[id]seen
	inst  map[string]seenInstance

	Instances []Instance
	Peers     []Peer
}

type id struct{ instance, key string }

type seen struct {
	rx, tx, drops uint64
	graph         []float64
}

type seenInstance struct {
	rx, tx uint64
	drops  map[string]uint64
}

// Look takes what instances say at a time, and replaces Instances and Peers, which refer to it.
func (m *Meter) Look(at time.Time, instances []control.Instance) {
	seconds := at.Sub(m.at).Seconds()
	if m.at.IsZero() || seconds <= 0 {
		seconds = 0
	}
	rate := func(now, was uint64, known bool) float64 {
		if !known || seconds == 0 {
			return -1
		}
		if now < was { // the instance was restarted
			return 0
		}
		return float64(now-was) / seconds
	}
	peers, inst := make(map[id]seen, len(m.peers)), make(map[string]seenInstance, len(instances))
	m.Instances, m.Peers = nil, nil
	for n := range instances {
		i := &instances[n]
		is := seenInstance{drops: i.Drops}
		for k := range i.Devices {
			is.rx, is.tx = is.rx+i.Devices[k].RxBytes, is.tx+i.Devices[k].TxBytes
		}
		was, known := m.inst[i.Name]
		inst[i.Name] = is
		shown := Instance{Instance: i, Rx: bits(rate(is.rx, was.rx, known)), Tx: bits(rate(is.tx, was.tx, known)), Drops: map[string]float64{}}
		for reason, count := range i.Drops {
			if r := rate(count, was.drops[reason], known); r > 0 {
				shown.Drops[reason] = r
			}
		}
		m.Instances = append(m.Instances, shown)
		for k := range i.Peers {
			p := &i.Peers[k]
			key := id{i.Name, p.PublicKey}
			was, known := m.peers[key]
			is := seen{rx: p.RxBytes, tx: p.TxBytes, drops: drop.Losses(p.Drops), graph: was.graph}
			row := Peer{
				Instance: i.Name, Peer: p, Rx: bits(rate(is.rx, was.rx, known)), Tx: bits(rate(is.tx, was.tx, known)),
				Drops: rate(is.drops, was.drops, known),
			}
			if row.Rx >= 0 {
				if len(is.graph) == History {
					is.graph = is.graph[1:]
				}
				is.graph = append(is.graph, row.Rx+row.Tx)
			}
			row.Graph = is.graph
			peers[key] = is
			m.Peers = append(m.Peers, row)
		}
	}
	m.at, m.peers, m.inst = at, peers, inst
}

func bits(bytes float64) float64 {
	if bytes < 0 {
		return bytes
	}
	return 8 * bytes
}

// Keys are what peers can be sorted by, the default first.
var Keys = []string{"traffic", "name", "state", "rx", "tx", "rtt", "handshake", "drops"}

// urgency orders states: what needs attention first.
var urgency = map[control.PeerState]int{control.StateDown: 0, control.StateConnecting: 1, control.StateUp: 2, control.StateIdle: 3}

// Sort sorts peers by a key: names ascending, states by urgency, the newest handshake first, and
// everything else from the greatest. Peers that are equal are sorted by name.
func Sort(peers []Peer, key string, reverse bool) {
	compare := func(a, b *Peer) int {
		switch key {
		case "state":
			return cmp.Compare(urgency[a.State], urgency[b.State])
		case "rx":
			return cmp.Compare(b.Rx, a.Rx)
		case "tx":
			return cmp.Compare(b.Tx, a.Tx)
		case "rtt":
			return cmp.Compare(value(b.RTTS), value(a.RTTS))
		case "handshake":
			return b.LastHandshake.Compare(a.LastHandshake.Time)
		case "drops":
			return cmp.Compare(b.Drops, a.Drops)
		case "traffic":
			return cmp.Compare(b.Rx+b.Tx, a.Rx+a.Tx)
		}
		return 0
	}
	sign := 1
	if reverse {
		sign = -1
	}
	slices.SortStableFunc(peers, func(a, b Peer) int {
		if c := compare(&a, &b); c != 0 {
			return sign * c
		}
		names := cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Instance, b.Instance))
		if key == "name" {
			return sign * names
		}
		return names
	})
}

func value(p *float64) float64 {
	if p == nil {
		return -1
	}
	return *p
}
