package events

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	"tund/crypto/keys"
)

// Interval is how often Observer.Look is to be called: a reader learns of a change of state within
// it. For ten thousand peers, a call takes a few milliseconds.
const Interval = time.Second

const (
	// dropRate is how many packets per second may be dropped for one reason without an event: a
	// scan from the Internet causes some, an attack or a fault far more.
	dropRate = 100
	// dropInterval is the time between two events about one reason.
	dropInterval = 10 * time.Second
)

// stateIdle is the state of a peer with which nothing has happened.
const stateIdle = "idle"

// Peer is a peer as an Observer sees it.
type Peer struct {
	Key               keys.PublicKey
	Name              string
	State             string
	Reason            string // why it is not up, in words; "" if nothing is known
	Endpoint          netip.AddrPort
	Completed, Failed uint64 // handshakes
	LastHandshake     time.Time
}

// Observer reports what changed between two looks at an instance. It is for one goroutine.
type Observer struct {
	log   *Log
	peers map[keys.PublicKey]seen // without those of which nothing has been seen
	looks uint32
	drops map[string]uint64
	told  map[string]time.Time // when drops for a reason were last reported
	at    time.Time            // of the last look
}

// seen is what was last seen of a peer.
type seen struct {
	state             string
	endpoint          netip.AddrPort
	completed, failed uint32 // the lower half
	look              uint32 // in which the peer was seen last
}

// NewObserver makes an Observer that has seen nothing: the peers it is shown first were idle
// before.
func NewObserver(log *Log) *Observer {
	return &Observer{log: log, peers: make(map[keys.PublicKey]seen), told: make(map[string]time.Time)}
}

// Look compares the peers of an instance, and its drops by reason, with those of the last call.
// What happened and was undone between two calls is not noticed. drops is kept and must not be
// changed afterwards.
func (o *Observer) Look(now time.Time, peers iter.Seq[*Peer], drops map[string]uint64) {
	o.looks++
	present := 0
	for p := range peers {
		was, known := o.peers[p.Key]
		if !known {
			was = seen{state: stateIdle, endpoint: p.Endpoint}
		}
		o.compare(now, p, was)
		// Most of very many peers are idle: they cost nothing here.
		if p.State != stateIdle || p.Completed != 0 || p.Failed != 0 {
			o.peers[p.Key] = seen{p.State, p.Endpoint, uint32(p.Completed), uint32(p.Failed), o.looks}
			present++
		} else if known {
			delete(o.peers, p.Key)
		}
	}
	if present < len(o.peers) { // some are no longer configured
		maps.DeleteFunc(o.peers, func(_ keys.PublicKey, s seen) bool { return s.look != o.looks })
	}
	o.compareDrops(now, drops)
}

// compare reports what changed about one peer: its address, then its handshakes, then its state,
// which follows from them.
func (o *Observer) compare(now time.Time, p *Peer, was seen) {
	key, endpoint := "", "" // one text for all events of a peer
	report := func(e Event) {
		if key == "" {
			key = p.Key.String()
			if p.Endpoint.IsValid() {
				endpoint = p.Endpoint.String()
			}
		}
		e.Peer, e.PublicKey, e.Endpoint = p.Name, key, endpoint
		if e.Time.IsZero() {
			e.Time = now
		}
		o.log.Add(e)
	}
	if p.Endpoint != was.endpoint && p.Endpoint.IsValid() {
		report(moved(p, was.endpoint))
	}
	if n := uint32(p.Completed) - was.completed; n != 0 {
		report(Event{Kind: Handshake, Time: p.LastHandshake, State: "completed", Count: uint64(n), Message: "handshake with " + p.Name + " completed"})
	}
	if n := uint32(p.Failed) - was.failed; n != 0 {
		report(Event{Kind: Handshake, State: "failed", Count: uint64(n), Reason: p.Reason, Message: because("handshake with "+p.Name+" failed", p.Reason)})
	}
	if p.State != was.state {
		e := Event{Kind: PeerState, State: p.State, Was: was.state, Message: p.Name + " is " + p.State}
		if p.State == "down" {
			e.Reason, e.Message = p.Reason, because(e.Message, p.Reason)
		}
		report(e)
	}
}

// moved describes a new address of a peer.
func moved(p *Peer, was netip.AddrPort) Event {
	e := Event{Kind: Endpoint, Message: p.Name + " is at " + p.Endpoint.String()}
	if was.IsValid() {
		e.Was = was.String()
		e.Message = p.Name + " moved from " + was.String() + " to " + p.Endpoint.String()
	}
	return e
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// compareDrops reports the reasons for which many packets were dropped since the last look.
func (o *Observer) compareDrops(now time.Time, drops map[string]uint64) {
	passed := now.Sub(o.at).Seconds()
	if !o.at.IsZero() && passed > 0 {
		for _, reason := range slices.Sorted(maps.Keys(drops)) {
			n := drops[reason] - min(o.drops[reason], drops[reason])
			rate := float64(n) / passed
			if rate < dropRate || now.Sub(o.told[reason]) < dropInterval {
				continue
			}
			o.told[reason] = now
			o.log.Add(Event{
				Time: now, Kind: Drops, Reason: reason, Count: n, Rate: rate,
				Message: fmt.Sprintf("%.0f packets a second are dropped: %s", rate, reason),
			})
		}
	}
	o.at, o.drops = now, drops
}
