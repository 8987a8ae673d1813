package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // of the page
	"encoding/base64"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"tund/internal/control"
	"tund/internal/doctor"
	"tund/internal/drop"
)

// page is the page for people: one file without a reference to any other. It asks for page.json and
// builds everything that it shows with text nodes, so that no name that a peer chose becomes HTML.
//
//go:embed page.html
var page []byte

const (
	// pageRefresh is how old the document of the page may be, and doctorRefresh the findings in it.
	pageRefresh   = time.Second
	doctorRefresh = 15 * time.Second
	// maxPageFDB is how many entries of the forwarding database the page lists, and maxPagePeers
	// how many peers.
	maxPageFDB   = 1000
	maxPagePeers = 10_000
)

// pageDocument is what page.json says.
type pageDocument struct {
	Name     string            `json:"name"`
	Host     string            `json:"host"`
	Version  string            `json:"version"`
	Port     int               `json:"port"`
	Now      int64             `json:"now"` // Unix time in seconds, as all times here
	UptimeS  int64             `json:"uptime_s"`
	Worst    doctor.Severity   `json:"worst"`
	Findings []doctor.Finding  `json:"findings"` // without those that found nothing
	Peers    []pagePeer        `json:"peers"`
	AllPeers int               `json:"all_peers"`
	Devices  []pageDevice      `json:"devices"`
	Drops    map[string]uint64 `json:"drops"`
	Spared   map[string]uint64 `json:"spared"` // what went nowhere because nobody needs it
	FDB      []pageEntry       `json:"fdb"`
	AllFDB   int               `json:"all_fdb"`
	FDBLimit int               `json:"fdb_limit"`
	// What neighbour suppression has saved; absent without [tap].
	Suppression *control.Suppression `json:"suppression,omitempty"`
	HistoryEnd  int64                `json:"history_end"`
	StepS       int                  `json:"step_s"`
	Rx          []float64            `json:"rx"` // bits per second in each step, oldest first
	Tx          []float64            `json:"tx"`
}

type pagePeer struct {
	Name      string            `json:"name"`
	State     control.PeerState `json:"state"`
	Why       string            `json:"why,omitempty"`
	Endpoint  string            `json:"endpoint"`
	Handshake int64             `json:"handshake"` // 0: never
	Rx        uint64            `json:"rx"`
	Tx        uint64            `json:"tx"`
	RTTS      *float64          `json:"rtt_s,omitempty"`
	Drops     uint64            `json:"drops"` // that are losses
}

type pageDevice struct {
	Name      string   `json:"name"`
	Kind      string   `json:"kind"`
	Up        bool     `json:"up"`
	MTU       int      `json:"mtu"`
	Addresses []string `json:"addresses"`
	Bridge    string   `json:"bridge"`
	Rx        uint64   `json:"rx"`
	Tx        uint64   `json:"tx"`
}

type pageEntry struct {
	MAC  string `json:"mac"`
	VLAN int    `json:"vlan"`
	Port string `json:"port"`
	Kind string `json:"kind"`
	AgeS int64  `json:"age_s"`
}

// document makes what page.json says.
func (s *Site) document(i *control.Instance, r *doctor.Report, now time.Time) *pageDocument {
	d := &pageDocument{
		Name: i.Name, Host: i.Host, Version: i.Version, Port: i.ListenPort, Now: now.Unix(), UptimeS: int64(i.UptimeS),
		Worst: r.Worst, Findings: []doctor.Finding{}, Peers: []pagePeer{}, AllPeers: len(i.Peers), Devices: []pageDevice{},
		Drops: map[string]uint64{}, Spared: map[string]uint64{}, FDB: []pageEntry{}, AllFDB: len(i.FDB), FDBLimit: i.FDBLimit, StepS: int(historyStep / time.Second),
		Suppression: i.Suppression,
	}
	for _, f := range r.Findings {
		if f.Severity != doctor.OK {
			d.Findings = append(d.Findings, f)
		}
	}
	for reason, n := range i.Drops {
		if drop.IsLoss(reason) {
			d.Drops[reason] = n
		} else {
			d.Spared[reason] = n
		}
	}
	for n := range i.Peers[:min(len(i.Peers), maxPagePeers)] {
		p := &i.Peers[n]
		row := pagePeer{
			Name: p.Name, State: p.State, Why: p.LastError, Endpoint: p.Endpoint, Rx: p.RxBytes, Tx: p.TxBytes, RTTS: p.RTTS,
		}
		if !p.LastHandshake.IsZero() {
			row.Handshake = p.LastHandshake.Unix()
		}
		row.Drops = drop.Losses(p.Drops)
		d.Peers = append(d.Peers, row)
	}
	for n := range i.Devices {
		x := &i.Devices[n]
		d.Devices = append(d.Devices, pageDevice{x.Name, x.Kind, x.Up, x.MTU, x.Addresses, x.Bridge, x.RxBytes, x.TxBytes})
	}
	for n := range i.FDB[:min(len(i.FDB), maxPageFDB)] {
		e := &i.FDB[n]
		d.FDB = append(d.FDB, pageEntry{e.MAC, e.VLAN, e.Port, e.Kind, int64(e.AgeS)})
	}
	var end time.Time
	if d.Rx, d.Tx, end = s.history.read(); !end.IsZero() {
		d.HistoryEnd = end.Unix()
	}
	return d
}

// pages makes and keeps the document of the page, for all browsers together.
type pages struct {
	mu       sync.Mutex // guards the rest; held while the document is made
	text     []byte
	until    time.Time // text is new enough before this time
	report   doctor.Report
	examined time.Time // when report was made
}

// current returns the document, rebuilt if it is too old. What it costs is bounded like scrapes
// are: the more it takes, the longer it is kept.
func (s *Site) current() []byte {
	c := &s.pages
	c.mu.Lock()
	defer c.mu.Unlock()
	start := time.Now()
	if start.Before(c.until) {
		return c.text
	}
	instance := s.source.Instance()
	if start.Sub(c.examined) >= doctorRefresh {
		e := s.source.Evidence(&instance)
		c.report, c.examined = doctor.Examine(e), start
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(s.document(&instance, &c.report, start)); err != nil {
		panic("internal/web: cannot encode the page: " + err.Error()) // a type is wrong
	}
	c.text = b.Bytes()
	c.until = time.Now().Add(max(pageRefresh, (scrapeShare-1)*time.Since(start)))
	return c.text
}

func (s *Site) pageJSON(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(s.current()) // the only failure is a client that left
}

// pagePolicy allows the page its own style and its own script, by their hashes, and to ask where it
// came from: nothing else, and nothing from elsewhere.
var pagePolicy = "default-src 'none'; style-src 'sha256-" + hashOf("style") + "'; script-src 'sha256-" + hashOf("script") +
	"'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// hashOf returns the hash of the contents of the only element of a kind in the page, as CSP wants
// it.
func hashOf(element string) string {
	_, rest, _ := bytes.Cut(page, []byte("<"+element+">"))
	text, _, ok := bytes.Cut(rest, []byte("</"+element+">"))
	if !ok {
		panic("internal/web: page.html has no " + element)
	}
	sum := sha256.Sum256(text)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func pageHTML(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(page) // the same
}
