package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/internal/control"
	"tund/internal/events"
	"tund/internal/registry/record"
	"tund/internal/registry/view"
)

// lanDaemon is a tund with a switch: an assigned host is no longer on its LAN.
type lanDaemon struct {
	*fakeDaemon
	hosts map[control.HostID]control.HostEntry
	addrs map[control.NeighborID]control.NeighborEntry
	local map[control.HostID][]string // IP addresses of the hosts on the LAN
	news  chan struct{}
	kind  events.Kind // of news; "": MACLearned
	// Ports that the loop guard has blocked, and those for which we stand by.
	blocked []control.BlockedPort
	standby []control.StandbyPort
}

func newLANDaemon() *lanDaemon {
	return &lanDaemon{fakeDaemon: newDaemon(), hosts: map[control.HostID]control.HostEntry{}, addrs: map[control.NeighborID]control.NeighborEntry{},
		local: map[control.HostID][]string{}, news: make(chan struct{}, 1)}
}

func (f *lanDaemon) restart() {
	f.fakeDaemon.restart()
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.hosts)
	clear(f.addrs)
	clear(f.local)
}

// assign is called with mu held.
func (f *lanDaemon) assign(list []control.HostEntry) {
	for _, e := range list {
		if was, there := f.hosts[e.HostID]; !there || was.Peer != e.Peer || e.Seq > was.Seq {
			delete(f.local, e.HostID)
		}
		f.hosts[e.HostID] = e
	}
}

func (f *lanDaemon) Put(ctx context.Context, p control.SourcePut) (control.SourceAnswer, error) {
	answer, err := f.fakeDaemon.Put(ctx, p)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && p.FDB != nil {
		was := f.hosts
		f.hosts = map[control.HostID]control.HostEntry{}
		for _, e := range p.FDB {
			if old, there := was[e.HostID]; there {
				f.hosts[e.HostID] = old
			}
		}
		f.assign(p.FDB)
		clear(f.addrs)
		for _, e := range p.Neighbors {
			f.addrs[e.NeighborID] = e
		}
	}
	return answer, err
}

func (f *lanDaemon) Patch(ctx context.Context, p control.SourcePatch) (control.SourceAnswer, error) {
	answer, err := f.fakeDaemon.Patch(ctx, p)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		for _, id := range p.FDB.Remove {
			delete(f.hosts, id)
		}
		f.assign(p.FDB.Set)
		for _, id := range p.Neighbors.Remove {
			delete(f.addrs, id)
		}
		for _, e := range p.Neighbors.Set {
			f.addrs[e.NeighborID] = e
		}
	}
	return answer, err
}

func (f *lanDaemon) FDB(context.Context) (control.FDBTable, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := control.FDBInstance{Blocked: f.blocked, Standby: f.standby}
	for id, ips := range f.local {
		i.FDB = append(i.FDB, control.FDBEntry{MAC: id.MAC, VLAN: id.VLAN, Kind: "local", IPs: ips})
	}
	for id, e := range f.hosts {
		if _, here := f.local[id]; !here {
			i.FDB = append(i.FDB, control.FDBEntry{MAC: id.MAC, VLAN: id.VLAN, Kind: "control", Seq: e.Seq})
		}
	}
	return control.FDBTable{Instances: []control.FDBInstance{i}}, f.down
}

func (f *lanDaemon) Follow(ctx context.Context, _ *uint64, kinds []events.Kind, each func(*events.Event, []byte) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.news:
			kind := cmp.Or(f.kind, events.MACLearned)
			if !slices.Contains(kinds, kind) {
				continue // nobody has asked for it
			}
			if err := each(&events.Event{Kind: kind}, nil); err != nil {
				return err
			}
		}
	}
}

// hears makes a host appear on the LAN, unless it is sticky elsewhere.
func (f *lanDaemon) hears(m string, ips ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := control.HostID{MAC: m}
	if f.hosts[id].Sticky {
		return
	}
	f.local[id] = ips
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// forgets makes a host leave.
func (f *lanDaemon) forgets(m string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.local, control.HostID{MAC: m})
}

// knows describes what the daemon was told of hosts.
func (f *lanDaemon) knows() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for id, e := range f.hosts {
		text := fmt.Sprintf("%s@%s:%d", id.MAC[15:], e.Peer[:4], e.Seq)
		if e.Sticky {
			text += "!"
		}
		list = append(list, text)
	}
	for id := range f.addrs {
		list = append(list, id.IP)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// lanWorld is a registry whose sites carry frames; site 0 is ours.
type lanWorld struct {
	*world
	lan *lanDaemon
}

const (
	mac1, mac2 = "02:00:00:00:00:01", "02:00:00:00:00:02"
)

func inLANWorld(t *testing.T, static []StaticHost, f func(w *lanWorld)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &lanWorld{world: &world{t: t, disk: &memory{files: map[string][]byte{}},
			store: &fakeStore{values: map[string][]byte{}, news: make(chan News)}}, lan: newLANDaemon()}
		w.daemon = w.lan.fakeDaemon
		for i := range 3 {
			w.grant(i, 1)
			w.store.set("site/"+siteOf(i).ID()+"/rec", w.sign(record.SignRecord(record.Record{Network: "acme", Site: siteOf(i), Grant: 1, Epoch: 1,
				Serial: 1, Capabilities: []string{record.CapEthernet}, NotAfter: time.Now().Add(1000 * time.Hour)}, private(2))))
		}
		w.begin(static)
		w.shows()
		f(w)
		w.stop()
	})
}

func (w *lanWorld) begin(static []StaticHost) {
	w.startWith(Options{
		View:   view.Options{Trust: record.Trust{Network: "acme", Signers: []record.Key{public(1)}, Threshold: 1}, Self: siteOf(0), Ethernet: true},
		Daemon: w.lan, Static: static,
	})
}

// says publishes a document of a site, of which the agent is told.
func (w *lanWorld) says(i int, serial uint64, list ...record.Station) {
	w.t.Helper()
	key := record.StationsKey(siteOf(i), 0, 0)
	w.store.set(key, w.sign(record.SignStations(record.Stations{Network: "acme", Site: siteOf(i), Grant: 1, Epoch: 1, Serial: serial,
		Stations: list, NotAfter: time.Now().Add(100 * time.Hour)}, private(2))))
	w.store.news <- News{Key: key, Value: w.store.get(key)}
	w.passes(time.Second)
}

// published describes what the registry has of our hosts.
func (w *lanWorld) published() string {
	w.t.Helper()
	var list []string
	for part := range uint8(4) {
		text := w.store.get(record.StationsKey(siteOf(0), 0, part))
		if text == nil {
			continue
		}
		g := record.Grant{Network: "acme", Site: siteOf(0), Agent: public(2), Serial: 1}
		doc, err := g.Stations(text, time.Now())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, s := range doc.Stations {
			list = append(list, fmt.Sprintf("%s:%d%v", s.MAC[15:], s.Seq, s.IPs))
		}
	}
	return strings.Join(list, " ")
}

func (w *lanWorld) want(when, published, knows string) {
	w.t.Helper()
	if got := w.published(); got != published {
		w.t.Errorf("%s: published %q, want %q", when, got, published)
	}
	if got := w.lan.knows(); got != knows {
		w.t.Errorf("%s: tund knows %q, want %q", when, got, knows)
	}
}

func TestHosts_publishedAndApplied(t *testing.T) {
	inLANWorld(t, nil, func(w *lanWorld) {
		w.lan.hears(mac1, "10.0.0.1", "fe80::1") // of the latter no advertisement was seen
		w.passes(time.Second)
		w.want("a host on our LAN", "01:0[10.0.0.1]", "")
		w.lan.kind = events.Neighbor
		w.lan.hears(mac1, "10.0.0.1", "10.0.0.5")
		w.passes(time.Second)
		w.want("it has a further address", "01:0[10.0.0.1 10.0.0.5]", "")
		w.lan.hears(mac1, "10.0.0.1")
		w.passes(time.Second)
		w.lan.kind = ""
		w.lan.hears("00:00:5e:00:01:07", "10.0.0.9") // the router that was elected on our LAN
		w.passes(time.Second)
		w.want("an address that routers share", "01:0[10.0.0.1]", "")
		w.lan.forgets("00:00:5e:00:01:07")
		w.says(1, 1, record.Station{MAC: mac2, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}})
		one := siteOf(1).String()[:4]
		w.want("a host elsewhere", "01:0[10.0.0.1]", "02@"+one+":0 10.0.0.2")

		w.says(1, 2, record.Station{MAC: mac1, Seq: 1})
		w.want("our host is now elsewhere", "", "01@"+one+":1")
		w.passes(2 * time.Minute)
		w.want("it stays there", "", "01@"+one+":1")
		w.lan.hears(mac1, "10.0.0.1")
		w.passes(time.Second)
		w.want("it has come back", "01:2[10.0.0.1]", "")

		// Neither a restart of tund, which knows nothing for a moment, nor one of the agent changes
		// what is published.
		w.lan.restart()
		w.passes(30 * time.Second)
		w.want("tund was restarted", "01:2[10.0.0.1]", "")
		w.lan.hears(mac1, "10.0.0.1")
		w.stop()
		w.begin(nil)
		w.shows()
		w.want("the agent was restarted", "01:2[10.0.0.1]", "")
		w.lan.fail(errors.New("connection refused"))
		w.passes(time.Hour)
		w.lan.fail(nil)
		w.passes(10 * time.Second)
		w.want("tund did not answer for an hour", "01:2[10.0.0.1]", "")
		w.lan.forgets(mac1)
		w.passes(linger + 2*beat)
		w.want("it is gone for a minute", "", "01@"+one+":1") // which site 1 has never taken back
	})
}

// Two sites with one address: after some moves it stays where it is, and our tund is told so.
func TestHosts_pingPongEnds(t *testing.T) {
	inLANWorld(t, nil, func(w *lanWorld) {
		w.lan.hears(mac1)
		w.passes(time.Second)
		one := siteOf(1).String()[:4]
		for round := range 6 {
			w.says(1, uint64(round+1), record.Station{MAC: mac1, Seq: uint32(2*round + 1)})
			w.lan.hears(mac1)
			w.passes(raisePause + beat)
		}
		// The other site is not as restrained as we are: it has the last word, and we none.
		w.want("after eleven moves", "", "01@"+one+":11!")
		w.passes(view.FreezeTime)
		w.want("five minutes later", "", "01@"+one+":11")
		w.lan.hears(mac1)
		w.passes(time.Second)
		w.want("and heard again", "01:12[]", "")
		w.says(1, 20, record.Station{MAC: mac1, Seq: 1<<32 - 1})
		w.lan.hears(mac1)
		w.passes(time.Second)
		if w.published() != "" {
			t.Error("the highest number of all is outbid")
		}
	})
}

func TestHosts_staticOnesAndStickyOnes(t *testing.T) {
	static := []StaticHost{{HostID: view.HostID{MAC: mac1}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}}
	inLANWorld(t, static, func(w *lanWorld) {
		w.passes(time.Second)
		self, one := siteOf(0).String()[:4], siteOf(1).String()[:4]
		w.want("a host of the file", "01:0[10.0.0.1]", "01@"+self+":0!")
		w.says(1, 1, record.Station{MAC: mac1, Seq: 5}, record.Station{MAC: mac2, Sticky: true})
		w.want("another site wants it", "01:0[10.0.0.1]", "01@"+self+":0! 02@"+one+":0!")
		w.lan.hears(mac2)
		w.passes(time.Second)
		w.want("a host that does not move", "01:0[10.0.0.1]", "01@"+self+":0! 02@"+one+":0!")
	})
}

// Many hosts are divided into documents, and one that comes changes one of them.
func TestHosts_documents(t *testing.T) {
	inLANWorld(t, nil, func(w *lanWorld) {
		for i := range 500 {
			w.lan.hears(fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255))
		}
		w.passes(5 * time.Second)
		docs := func() map[string]string {
			w.store.mu.Lock()
			defer w.store.mu.Unlock()
			out := map[string]string{}
			for key, value := range w.store.values {
				if strings.HasPrefix(key, "l2/") {
					out[key] = string(value)
				}
			}
			return out
		}
		before := docs()
		w.lan.hears("02:00:00:00:09:09")
		w.passes(5 * time.Second)
		changed := 0
		for key, value := range docs() {
			if before[key] != value {
				changed++
			}
		}
		if len(before) < 8 || len(before) > 32 || changed != 1 {
			t.Errorf("%d documents, of which one host changes %d", len(before), changed)
		}
	})
}

// An agent that has lost its state, with a store that has forgotten the hosts, takes nothing away.
func TestHosts_withoutMemory(t *testing.T) {
	inLANWorld(t, nil, func(w *lanWorld) {
		w.says(1, 1, record.Station{MAC: mac2})
		want := w.lan.knows()
		w.stop()
		clear(w.disk.files)
		w.store.mu.Lock()
		maps.DeleteFunc(w.store.values, func(key string, _ []byte) bool { return strings.HasPrefix(key, "l2/") })
		w.store.mu.Unlock()
		w.begin(nil)
		w.shows()
		w.passes(time.Minute)
		if got := w.lan.knows(); got != want || want == "" {
			t.Errorf("tund knows %q, want %q", got, want)
		}
	})
}
