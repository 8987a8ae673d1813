package live

import (
	"strings"
	"testing"
	"time"

	"tund/internal/control"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func instance(rx, drops uint64, names ...string) []control.Instance {
	i := control.Instance{Name: "office", Drops: map[string]uint64{"replay": drops}, Devices: []control.Device{{RxBytes: rx}}}
	for _, name := range names {
		i.Peers = append(i.Peers, control.Peer{Name: name, PublicKey: name, RxBytes: rx, TxBytes: rx / 2, Drops: map[string]uint64{"replay": drops}})
	}
	return []control.Instance{i}
}

func TestMeter_countsBetweenLooks(t *testing.T) {
	t.Parallel()
	var m Meter
	m.Look(noon, instance(1000, 5, "berlin"))
	if p := m.Peers[0]; p.Rx >= 0 || p.Drops >= 0 || len(p.Graph) != 0 || m.Instances[0].Rx >= 0 {
		t.Errorf("after one look: %+v", p)
	}
	m.Look(noon.Add(2*time.Second), instance(2000, 25, "berlin", "paris"))
	if p := m.Peers[0]; p.Rx != 4000 || p.Tx != 2000 || p.Drops != 10 || p.Graph[0] != 6000 {
		t.Errorf("after two: %+v", p)
	}
	if p := m.Peers[1]; p.Rx >= 0 {
		t.Errorf("a new peer: %+v", p)
	}
	if i := m.Instances[0]; i.Rx != 4000 || i.Drops["replay"] != 10 {
		t.Errorf("%+v", i)
	}
	// Counters start over when the instance is restarted, and peers that left are forgotten.
	m.Look(noon.Add(3*time.Second), instance(10, 0, "paris"))
	if p := m.Peers[0]; p.Rx != 0 || p.Drops != 0 || len(m.peers) != 1 {
		t.Errorf("after a restart: %+v, %d", p, len(m.peers))
	}
	for n := range 2 * History {
		m.Look(noon.Add(time.Duration(10+n)*time.Second), instance(uint64(n), 0, "paris"))
	}
	if n := len(m.Peers[0].Graph); n != History {
		t.Errorf("%d rates are kept", n)
	}
	// The clock went back.
	m.Look(noon, instance(1, 0, "paris"))
	if p := m.Peers[0]; p.Rx >= 0 {
		t.Errorf("time went back: %+v", p)
	}
}

func TestSort(t *testing.T) {
	t.Parallel()
	rtt := func(v float64) *float64 { return &v }
	peers := []Peer{
		{Peer: &control.Peer{Name: "c", State: control.StateUp, RTTS: rtt(0.2), LastHandshake: control.At(noon)}, Rx: 1, Tx: 9},
		{Peer: &control.Peer{Name: "a", State: control.StateIdle}, Rx: 5, Tx: 1, Drops: 3},
		{Peer: &control.Peer{Name: "b", State: control.StateDown, RTTS: rtt(0.1), LastHandshake: control.At(noon.Add(time.Hour))}, Rx: 2, Tx: 2, Drops: 4},
	}
	for _, key := range Keys {
		want := map[string]string{"traffic": "cab", "name": "abc", "state": "bca", "rx": "abc", "tx": "cba", "rtt": "cba", "handshake": "bca", "drops": "bac"}[key]
		order := func() string {
			var names strings.Builder
			for _, p := range peers {
				names.WriteString(p.Name)
			}
			return names.String()
		}
		if Sort(peers, key, false); order() != want {
			t.Errorf("by %s: %s, want %s", key, order(), want)
		}
		if Sort(peers, key, true); order() != string([]byte{want[2], want[1], want[0]}) {
			t.Errorf("by %s, reversed: %s", key, order())
		}
	}
}
