package scale

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"tund/internal/control"
	"tund/internal/events"
)

// daemon is a tund as its agent sees it: an agent.sock, and what was handed in. It checks what the
// agent wants against what was signed.
type daemon struct {
	net   *network
	laps  *laps
	self  int
	log   *events.Log
	fault func(string, ...any)

	server *control.Server
	agent  *control.AgentServer
	served chan error // what became of it

	mu         sync.Mutex // guards what follows
	epoch      string
	generation uint64
	have       []int // the version of each site's record; 0: it is no peer
	puts       int
	removed    int
	start      int  // which run of the daemon it is
	dies       bool // the next patch is applied by half, and then the daemon is killed
	lost       int  // patches that were cut so
}

// serve starts the sockets of a daemon, which are there until close.
func (d *daemon) serve(t *testing.T, runDir, name string) {
	t.Helper()
	var err error
	d.server, err = control.Listen(control.Options{RunDir: runDir, Instance: name})
	if err == nil {
		d.agent, err = d.server.ListenAgent(os.Geteuid())
	}
	if err != nil {
		t.Fatal(err)
	}
	d.served = make(chan error, 1)
	go func() { d.served <- d.agent.Serve(d) }()
}

// close removes the sockets.
func (d *daemon) close(t *testing.T) {
	_ = d.agent.Close()
	_ = d.server.Close()
	if err := <-d.served; err != nil {
		t.Error(err)
	}
}

// restart forgets everything, as a tund that is started again does.
func (d *daemon) restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget()
}

func (d *daemon) forget() {
	d.epoch, d.generation, d.have = "", 0, make([]int, len(d.net.sites))
	d.start++
}

// die has the daemon killed in the middle of the next change.
func (d *daemon) die() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dies = true
}

// differs says how what the daemon has differs from what is wanted; "": it does not.
func (d *daemon) differs(want []int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, version := range want {
		if i == d.self {
			version = 0
		}
		if d.have[i] != version {
			return fmt.Sprintf("the daemon of site %d has version %d of site %d, and %d is wanted", d.self, d.have[i], i, version)
		}
	}
	return ""
}

// counts returns how often everything was handed in, and how many peers were removed.
func (d *daemon) counts() (puts, removed, lost int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.puts, d.removed, d.lost
}

// Sources, Peers, FDB, Events, Clear and Handshake are of control.AgentBackend.
func (d *daemon) Sources() []control.Source {
	d.mu.Lock()
	defer d.mu.Unlock()
	peers := 0
	for _, version := range d.have {
		if version > 0 {
			peers++
		}
	}
	return []control.Source{{Name: "agent", Generation: d.generation, Epoch: d.epoch, Peers: peers}}
}

// Peers describes the peers in few words (control.AgentBackend).
func (d *daemon) Peers() (rows []control.PeerRow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, version := range d.have {
		if version > 0 {
			rows = append(rows, control.PeerRow{PublicKey: d.net.sites[i].id.String(), Source: control.SourceAgent})
		}
	}
	return rows
}
func (d *daemon) Events() *events.Log      { return d.log }
func (d *daemon) Clear() (int, error)      { return 0, nil }
func (d *daemon) Handshake(string) error   { return nil }
func (d *daemon) FDB() control.FDBInstance { return control.FDBInstance{} }

// Begin starts a change (control.AgentBackend).
func (d *daemon) Begin(whole bool) (control.SourceChange, error) {
	return &change{d: d, whole: whole}, nil
}

// change is a change of what a daemon has.
type change struct {
	d      *daemon
	whole  bool
	set    map[int]int
	remove []int
}

// Peer checks a peer, and takes it (control.SourceChange).
func (c *change) Peer(values map[string]any) {
	key, _ := values["public_key"].(string)
	i, known := c.d.net.byKey[key]
	if !known {
		c.d.fault("a peer that was never granted: %v", values)
		return
	}
	s := &c.d.net.sites[i]
	if got, want := fmt.Sprint(values["allowed_ips"]), "["+s.prefix.String()+"]"; got != want || i == c.d.self {
		c.d.fault("site %d is to have allowed_ips %s of site %d, to whom %s was granted", c.d.self, got, i, want)
	}
	list, _ := values["endpoint"].([]any)
	text := ""
	if len(list) == 1 {
		text, _ = list[0].(string)
	}
	endpoint, err := netip.ParseAddrPort(text)
	version := int(endpoint.Port())
	if s.real.IsValid() && endpoint == s.real {
		version = 1
	} else if err != nil || endpoint.Addr() != s.endpoint {
		c.d.fault("site %d has endpoints %v, which it never published", i, values["endpoint"])
		return
	}
	if c.set == nil {
		c.set = map[int]int{}
	}
	c.set[i] = version
}

// Remove takes the name of a peer to remove (control.SourceChange).
func (c *change) Remove(publicKey string) {
	i, known := c.d.net.byKey[publicKey]
	if !known {
		c.d.fault("removes %s, which nobody has handed in", publicKey)
		return
	}
	c.remove = append(c.remove, i)
}

// Hosts and neighbours are of layer 2, which the sites of this network do not have
// (control.SourceChange).
func (c *change) Host(h control.HostEntry)            { c.d.fault("a host: %+v", h) }
func (c *change) RemoveHost(h control.HostID)         { c.d.fault("removes a host: %+v", h) }
func (c *change) Neighbor(n control.NeighborEntry)    { c.d.fault("a neighbour: %+v", n) }
func (c *change) RemoveNeighbor(n control.NeighborID) { c.d.fault("removes a neighbour: %+v", n) }

// Commit applies the change (control.SourceChange).
func (c *change) Commit(h control.SourceHead) (control.SourceAnswer, error) {
	d := c.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if !c.whole && (h.Epoch != d.epoch || h.IfGeneration != d.generation) {
		return control.SourceAnswer{}, &control.Error{Code: control.CodeGeneration, Message: "another generation is in force"}
	}
	if c.whole {
		d.puts++
		for i, version := range d.have {
			if version > 0 && c.set[i] == 0 {
				c.remove = append(c.remove, i)
			}
		}
	}
	if d.dies && !c.whole && len(c.set)+len(c.remove) > 0 {
		d.dies, d.lost = false, d.lost+1
		d.forget()
		return control.SourceAnswer{}, &control.Error{Code: control.CodeInternal, Message: "killed in the middle of a change"}
	}
	now := time.Now()
	for _, i := range c.remove {
		if d.net.want(i) > 0 {
			d.fault("site %d removes site %d, which was not revoked", d.self, i)
		}
		d.have[i] = 0
		d.removed++
	}
	for i, version := range c.set {
		if version < d.have[i] {
			d.fault("site %d goes back from version %d of site %d to %d", d.self, d.have[i], i, version)
		}
		d.laps.arrived(i, d.have[i], version, now)
		d.have[i] = version
	}
	d.epoch, d.generation = h.Epoch, h.Generation
	return control.SourceAnswer{Generation: h.Generation, Start: fmt.Sprint(d.start)}, nil
}

// laps takes how long changes take from the moment they are written to each daemon.
type laps struct {
	daemons int

	mu   sync.Mutex // guards what follows
	open map[[2]int]*lap
	each []time.Duration // of each daemon
	last []time.Duration // of the last daemon
}

type lap struct {
	began   time.Time
	missing int
}

// began notes that a version of a site's record is written now.
func (l *laps) began(site, version int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[[2]int{site, version}] = &lap{time.Now(), l.daemons}
}

// arrived notes that a daemon has come from one version to another.
func (l *laps) arrived(site, from, to int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for version := from + 1; version <= to; version++ {
		of := l.open[[2]int{site, version}]
		if of == nil {
			continue
		}
		took := now.Sub(of.began)
		l.each = append(l.each, took)
		if of.missing--; of.missing == 0 {
			l.last = append(l.last, took)
			delete(l.open, [2]int{site, version})
		}
	}
}

// take returns what was taken since the last call.
func (l *laps) take() (each, last []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	each, last = l.each, l.last
	l.each, l.last = nil, nil
	clear(l.open)
	return each, last
}
