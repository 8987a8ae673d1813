package ethernet

import (
	"strings"
	"testing"

	"tund/internal/control"
	"tund/internal/testnet"
)

// hostEntry says where a host lives, as an agent does.
func hostEntry(h *host, seq uint32) control.HostEntry {
	return control.HostEntry{HostID: control.HostID{MAC: h.mac.String()}, Peer: h.site.Key.Public().String(), Seq: seq}
}

func neighborEntries(h *host) (list []control.NeighborEntry) {
	for _, ip := range []string{h.v4, h.v6()} {
		list = append(list, control.NeighborEntry{NeighborID: control.NeighborID{IP: ip}, MAC: h.mac.String(), Peer: h.site.Key.Public().String()})
	}
	return list
}

// Three sites that learn nothing and flood nothing: an agent tells each where the hosts are and
// which addresses they have, as the tables of a VXLAN device would.
func TestAssigned_noLearningNoFlooding(t *testing.T) {
	beside(t)
	w := newWAN(t)
	sites := []*site{w.site("berlin"), w.site("paris"), w.site("oslo")}
	for _, s := range sites {
		s.tap = []string{"learning = false"}
		s.agent = []string{`user = "root"`, "ethernet = true"}
		for _, other := range sites {
			if other != s {
				s.knows(other, "bum = false")
			}
		}
	}
	a, b, c := sites[0].host(1), sites[1].host(2), sites[2].host(3)
	hosts := []*host{a, b, c}
	start(t, sites...)
	a.unreachable(b.v4)

	put := control.SourcePut{Epoch: "e", Generation: 1, FDB: []control.HostEntry{}, Neighbors: []control.NeighborEntry{}}
	for _, h := range hosts {
		put.FDB = append(put.FDB, hostEntry(h, 0))
		put.Neighbors = append(put.Neighbors, neighborEntries(h)...)
	}
	agents := make([]*control.AgentClient, len(sites))
	for i, s := range sites {
		agents[i] = control.NewAgentClient(s.RunDir(), s.Name)
		if answer, err := agents[i].Put(t.Context(), put); err != nil || answer.RejectedTotal != 0 {
			t.Fatalf("PUT at %s: %+v, %v", s.Name, answer, err)
		}
	}
	for i, h := range hosts {
		far := hosts[(i+1)%len(hosts)]
		h.pings(far.v4, 5)
		h.pings(far.v6(), 5)
	}
	transfer(t, a, b, b.v4, 8<<20) // more frames than the limit of unknown unicast lets pass
	var table struct{ Instances []control.FDBInstance }
	sites[0].tunctl(&table, "fdb", "show", b.mac.String(), "--json")
	if e := table.Instances[0].FDB; len(e) != 1 || e[0].Port != "paris" || e[0].Kind != "control" || e[0].Source != "agent" || strings.Join(e[0].IPs, " ") != b.v4+" "+b.v6() {
		t.Errorf("tunctl fdb show: %+v", e)
	}
	var owners struct{ Instances []control.SourceTable }
	sites[0].tunctl(&owners, "sources", "--json")
	if s := owners.Instances[0].Sources; s[2].FDB != 3 || s[2].Neighbors != 6 {
		t.Errorf("tunctl sources: %+v", s)
	}

	// The host of paris is now in oslo: one change tells it to the others, and it is reached.
	b.ns.Run(t, "ip", "link", "del", b.dev)
	moved := &host{t: t, ns: b.ns, v4: b.v4}
	moved.attach(sites[2], []string{b.v4 + "/24", b.v6() + "/64"})
	b.ns.Run(t, "ip", "link", "set", moved.dev, "address", b.mac.String())
	moved.mac = b.mac
	for i := range sites {
		patch := control.SourcePatch{Epoch: "e", IfGeneration: 1, Generation: 2}
		patch.FDB.Set = []control.HostEntry{hostEntry(moved, 1)}
		patch.Neighbors.Set = neighborEntries(moved)
		if answer, err := agents[i].Patch(t.Context(), patch); err != nil || answer.RejectedTotal != 0 {
			t.Fatalf("PATCH at %s: %+v, %v", sites[i].Name, answer, err)
		}
	}
	a.reaches(b.v4, startLimit)
	c.reaches(b.v4, startLimit)

	// A reload and an agent that is silent change nothing; a restart of the switch's port does
	// not, either.
	sites[0].reloads()
	a.pings(b.v4, 3)
	sites[2].Stop()
	sites[2].Launch()
	sites[2].Ready()
	sites[0].linked(startLimit)
	if answer, err := agents[2].Put(t.Context(), control.SourcePut{Epoch: "f", Generation: 1, FDB: []control.HostEntry{hostEntry(c, 0), hostEntry(moved, 1), hostEntry(a, 0)},
		Neighbors: neighborEntries(a)}); err != nil || answer.RejectedTotal != 0 {
		t.Fatalf("PUT after a restart: %+v, %v", answer, err)
	}
	a.reaches(b.v4, startLimit)

	// What the agent takes back is gone.
	if _, err := agents[0].Patch(t.Context(), control.SourcePatch{Epoch: "e", IfGeneration: 2, Generation: 3,
		FDB: control.HostsPatch{Remove: []control.HostID{{MAC: b.mac.String()}}}}); err != nil {
		t.Fatal(err)
	}
	testnet.Await(t, "the host is gone", startLimit, func() bool { return sites[0].where(b.mac, 0) == "" })
	a.unreachable(b.v4)
	for _, s := range sites {
		s.Stop()
	}
}

// An entry of an agent cannot be stolen by a peer, or by what the file does not permit.
func TestAssigned_boundsOfTheFile(t *testing.T) {
	beside(t)
	berlin, paris := twoSites(t)
	berlin.agent = []string{`user = "root"`, "ethernet = true"}
	berlin.peers[0].lines = []string{`macs = ["02:00:00:00:00:11"]`}
	start(t, berlin, paris)
	agent := control.NewAgentClient(berlin.RunDir(), berlin.Name)
	key := paris.Key.Public().String()
	at := func(mac string, vlan int, peer string) control.HostEntry {
		return control.HostEntry{HostID: control.HostID{MAC: mac, VLAN: vlan}, Peer: peer}
	}
	put := control.SourcePut{Epoch: "e", Generation: 1, HoldS: 2, FDB: []control.HostEntry{
		at("02:00:00:00:00:11", 0, key), at("02:00:00:00:00:12", 0, key), at("02:00:00:00:00:11", 7, key), at("02:00:00:00:00:13", 0, "GatewayOfBerlin7cJ2mTz9RkWb4uHsYp1NdQfLx3g8="),
		at("01:00:00:00:00:11", 0, key), at("02:00:00:00:00:11", 0, key), at("02:00:00:00:00:11", 9999, key), at("x", 0, key), at("02:00:00:00:00:14", 0, ""),
		at("02:00:00:00:00:11", 0, berlin.Key.Public().String()), at("02:00:00:00:00:15", 4, berlin.Key.Public().String()),
	}, Neighbors: []control.NeighborEntry{
		{NeighborID: control.NeighborID{IP: "10.7.0.9"}, MAC: "02:00:00:00:00:11", Peer: key},
		{NeighborID: control.NeighborID{IP: "0.0.0.0"}, MAC: "02:00:00:00:00:11", Peer: key},
		{NeighborID: control.NeighborID{IP: "ff02::1"}, MAC: "02:00:00:00:00:11", Peer: key},
		{NeighborID: control.NeighborID{IP: "10.7.0.8"}, MAC: "02:00:00:00:00:12", Peer: key},
	}}
	answer, err := agent.Put(t.Context(), put)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, r := range answer.Rejected {
		codes = append(codes, strings.Join([]string{r.List, r.Code}, " "))
	}
	want := "neighbors invalid,neighbors invalid,neighbors mac,fdb mac,fdb vlan,fdb peer,fdb invalid,fdb duplicate,fdb invalid,fdb invalid,fdb invalid,fdb duplicate"
	if got := strings.Join(codes, ","); got != want {
		t.Errorf("refused:\n%s\nwant\n%s", got, want)
	}
	if got := berlin.where(l2MAC(t, "02:00:00:00:00:15"), 4); got != "tap0" {
		t.Errorf("a host of our own LAN is behind %q", got)
	}
	// The agent has said that two seconds of silence end everything.
	testnet.Await(t, "silence ends what the agent has handed in", startLimit, func() bool {
		return berlin.where(l2MAC(t, "02:00:00:00:00:15"), 4) == ""
	})
}
