package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"tund/internal/registry/record"
	"tund/internal/registry/view"
)

// StatusName is the name under which an agent saves its Status on disk.
const StatusName = "status.json"

// Status is what an operator should know of an agent.
type Status struct {
	Listed     time.Time `json:"listed"`      // when the store last showed everything
	StoreError string    `json:"store_error"` // why it does not answer; "": it does
	Sites      int       `json:"sites"`       // with a grant
	// SitesAbsent counts the peers whose record the registry lacks.
	SitesAbsent int `json:"sites_absent"`
	// Grant is what has become of ours.
	Grant view.Standing `json:"grant"`
	// StoreSurplus counts values of the store that are no documents, or that one site has too many
	// of, when it last showed everything.
	StoreSurplus int `json:"store_surplus"`

	Peers       int       `json:"peers"`    // that the daemon was told of
	Rejected    int       `json:"rejected"` // of these, refused by the daemon
	Generation  uint64    `json:"generation"`
	Applied     time.Time `json:"applied"`      // when the daemon was last told
	DaemonError string    `json:"daemon_error"` // why it does not answer; "": it does

	Held      int      `json:"held"`      // removals that are held
	Conflicts []string `json:"conflicts"` // prefixes that two sites claim
	// Refused counts documents that do not count, by reason.
	Refused map[view.Refusal]uint64 `json:"refused"`

	// Hosts on the LANs of sites, ours among them; what is beyond a bound; those whose site the
	// store does not show as present; and those that have moved too often.
	Hosts        int `json:"hosts"`
	HostsSurplus int `json:"hosts_surplus"`
	HostsAbsent  int `json:"hosts_absent"`
	Frozen       int `json:"hosts_frozen"`
	// Replicators are the sites that pass on broadcasts for leaves.
	Replicators []string `json:"replicators"`
	// Hosts on our LAN that we publish, and those that our grant does not permit, or that are too
	// many.
	HostsPublished  int `json:"hosts_published"`
	HostsNotGranted int `json:"hosts_not_granted"`
	// Sites that the store shows as present, and whether it shows us; only in etcd.
	Up      int  `json:"sites_up"`
	Present bool `json:"present"`
	// LeaseError is why what hangs on our lease could not be written; "": it was.
	LeaseError string `json:"lease_error"`

	Published time.Time `json:"published"` // when our record was last written
	// PublishError is why our record could not be written; "": it was, or there is no need.
	PublishError string `json:"publish_error"`
}

// Pauses between attempts to publish.
const (
	publishPause  = 30 * time.Second
	publishJitter = 5 * time.Second // so that many sites do not write at once
	// longestPause is what the pause grows to while somebody else publishes for our site, too: all
	// other sites hear each of both.
	longestPause = 16 * time.Minute
)

// publishing is what is known of our own records.
type publishing struct {
	epoch, serial uint64 // of the last one
	next          time.Time
	pause         time.Duration // the last one
	busy          bool          // one is being written
	done          chan written  // what became of it
	// early is by which part of its life a document is renewed before half of that has passed, so
	// that those that were written at one time, by many sites, are not renewed at one time.
	early float64
}

// beyond reports whether the last record was a later one than r.
func (p *publishing) beyond(r *record.Record) bool {
	return p.epoch > r.Epoch || p.epoch == r.Epoch && p.serial > r.Serial
}

// earliest is the most that early can be: 18 hours of the 30 days of a record.
const earliest = 1. / 40

func newPublishing() publishing {
	return publishing{done: make(chan written, 1), early: rand.Float64() * earliest}
}

// written is what became of writing a record.
type written struct {
	key  string
	data []byte
	is   *record.Record // nil: the one that was known before
	err  error
}

// counts reports whether a document that ends at a time need not be renewed yet.
func (p *publishing) counts(until, now time.Time, life time.Duration) bool {
	return until.Sub(now) > life/2+time.Duration(p.early*float64(life))
}

// publish writes our record, if the registry does not have it as we want it. It does not wait for
// the registry.
func (a *Agent) publish(ctx context.Context, now time.Time) {
	g, ok := a.view.Own(now)
	if !ok || !a.listed || a.published.busy || now.Before(a.published.next) {
		return
	}
	r := a.o.Own
	a.date(&r, &g, now)
	known, data, shown := a.view.OwnRecord()
	// One that was not our last, as after Leave, is not what others know.
	stays := known != nil && !a.published.beyond(known) && a.says(known, &r, now)
	if stays && shown {
		a.status.PublishError = ""
		return
	}
	p := &a.published
	var rival error
	if !a.status.Published.IsZero() && known != nil && known.Grant == g.Serial && known.Newer(&record.Record{Grant: known.Grant, Epoch: p.epoch, Serial: p.serial}) {
		rival = errRival
		p.pause = min(2*p.pause, longestPause)
	} else {
		p.pause = publishPause
	}
	a.warn("our record", rival)
	p.next = now.Add(p.pause + rand.N(publishJitter))
	w := written{key: recordKey(g.Site), data: data}
	if !stays { // otherwise the registry gets the same one again, which others know
		w.is = &r
		w.data, w.err = a.sign(&r, &g, known, now)
	}
	if w.err != nil {
		a.wrote(w, now)
		return
	}
	a.published.busy = true
	go func() {
		w.err = a.o.Store.Put(ctx, w.key, w.data)
		a.published.done <- w // it has room for the only one
	}()
}

// errRival says that a record of ours is not what we have published last.
var errRival = errors.New("somebody else publishes records of this site, with the same key: a copy of this host, or of its agent's key, must not run")

// wrote notes what became of writing our record.
func (a *Agent) wrote(w written, now time.Time) {
	a.published.busy = false
	a.warn("publish", w.err)
	if w.err != nil {
		a.status.PublishError = w.err.Error()
		return
	}
	if w.is != nil {
		a.published.epoch, a.published.serial, a.dirty = w.is.Epoch, w.is.Serial, true
	}
	a.status.Published, a.status.PublishError = now, ""
	if err := a.view.Put(w.key, w.data, now); err != nil {
		a.warn("publish", fmt.Errorf("our own record: %w", err))
	}
}

func recordKey(site record.Site) string { return "site/" + site.ID() + "/rec" }

// date fills in whose record it is, by which grant, and until when it counts.
func (a *Agent) date(r *record.Record, g *record.Grant, now time.Time) {
	r.Network, r.Site, r.Grant = g.Network, g.Site, g.Serial
	r.NotAfter = now.Add(a.o.Lifetime).UTC().Truncate(time.Second)
}

// sign gives a record the next serial and returns its document. known is the newest one of ours
// that the store has shown, or nil.
func (a *Agent) sign(r *record.Record, g *record.Grant, known *record.Record, now time.Time) ([]byte, error) {
	p := &a.published
	if known != nil && !p.beyond(known) {
		p.epoch, p.serial = known.Epoch, known.Serial
	}
	// Counted by the clock, so that a count that was lost is not used again.
	r.Epoch, r.Serial = max(p.epoch, 1), max(p.serial+1, uint64(max(now.Unix(), 1)))
	data, err := record.SignRecord(*r, a.o.Key)
	if err == nil {
		_, err = g.Record(data, now) // what others would say of it
	}
	return data, err
}

// says reports whether a record that the registry has says what we want to say, for long enough.
func (a *Agent) says(known, want *record.Record, now time.Time) bool {
	return known.Grant == want.Grant && a.published.counts(known.NotAfter, now, a.o.Lifetime) && known.MTU == want.MTU && !known.Gone &&
		slices.Equal(known.Endpoints, want.Endpoints) && slices.Equal(known.Prefixes, want.Prefixes) &&
		slices.Equal(known.VLANs, want.VLANs) && slices.Equal(known.Capabilities, want.Capabilities)
}
