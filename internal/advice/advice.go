// Package advice examines the host around a running instance, at intervals, and notes the settings
// that keep its tunnel from working among the problems that status shows. It also notes that
// another version of the program was installed, and which endpoints are reached through the tunnel
// itself.
//
// It collects what internal/hostcheck judges: the state of the tunnel, the routes of the kernel and
// the rules of nftables. It changes neither the host nor the tunnel. An Adviser belongs to one
// goroutine, which calls Run.
package advice

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"tund/config"
	"tund/internal/desired"
	"tund/internal/hostcheck"
	"tund/internal/statusview"
	"tund/route"
	"tund/route/mark"
	"tund/tunnel"
)

const (
	// adviseEvery is how often the host is checked for settings that keep the tunnel from working.
	// The kernel does not announce changes of a sysctl.
	adviseEvery = 5 * time.Second
	// quietFor is how long no peer may be heard before the firewall of the host is looked at.
	quietFor = 5 * time.Second
	// maxAdviceLookups bounds the endpoints, and the allowed IPs, whose routes are looked up for
	// the check.
	maxAdviceLookups = 256
	// filterShare limits the share of time spent on reading rules to one part in this number.
	filterShare = 100
	// ownProtocol is that of the routes that tund makes.
	ownProtocol = mark.Protocol
)

// Instance is what is advised on. All fields are needed.
type Instance struct {
	Log      *zap.Logger
	Tunnel   *tunnel.Tunnel
	Routes   *route.Manager
	Problems *statusview.Problems // which the findings go to
	Program  Program              // that runs
	Version  string               // of it
	// Sent is the newest time that this host ever told a peer in a handshake; zero: none is known.
	Sent func() time.Time
	// AskForDNS has systemd-resolved told once more which servers are wanted.
	AskForDNS func()
	// Reapply has the kernel's state compared with the configuration, and corrected.
	Reapply func()
	// Now returns the configuration in force, the fwmark of our datagrams, and our UDP port.
	Now func() (c *config.Config, mark uint32, port uint16)
}

// Adviser examines the host for an instance, and remembers what it compares with the next time.
type Adviser struct {
	Instance

	filters      []hostcheck.Filter               // read last
	filtersNext  time.Time                        // not read again before this time
	barriers     []hostcheck.Rule                 // at the hook forward, read last
	muted        []hostcheck.Rule                 // at the hook output, read last
	barriersNext time.Time                        // neither is read again before this time
	bridged      []hostcheck.Rule                 // at the bridge of the TAP, read last
	framed       []hostcheck.Rule                 // of the family bridge, read last
	bridgedNext  time.Time                        // not read again before this time
	queues       map[string]hostcheck.QueueCounts // of our devices, at the last check
	pathDrops    *uint64                          // at the last check; nil: this is the first
	parts        []hostcheck.Part                 // of allowed IPs routed elsewhere, read last
	partsNext    time.Time                        // not read again before this time
	outward      outward                          // what peers sent on to the Internet last
	withoutDNS   int                              // checks in a row without them in resolved
	settings     settings                         // at the last check
}

// New makes an Adviser. It does nothing until Run is called.
func New(i Instance) *Adviser { return &Adviser{Instance: i} }

// Run reports settings of the host that keep the tunnel from working, until ctx ends.
func (a *Adviser) Run(ctx context.Context) {
	tick := time.NewTicker(adviseEvery)
	defer tick.Stop()
	for {
		a.advise()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// advise checks the host once. Problems that have been corrected are forgotten.
func (a *Adviser) advise() {
	c, mark, port := a.Now()
	a.checkProgram(c)
	host, err := hostcheck.Read()
	if err != nil {
		a.Log.Debug("cannot read the host's settings", zap.Error(err))
		return
	}
	a.checkDNS(c, host)
	a.checkSettings(c, host)
	t := hostcheck.Tunnel{File: filepath.Base(c.Path), Sent: a.Sent()}
	if info, err := os.Stat(c.Path); err == nil {
		t.Written = info.ModTime()
	}
	t.Earlier = a.queues
	a.queues = make(map[string]hostcheck.QueueCounts)
	for _, name := range ownDevices(c) {
		for i := range host.Links {
			if host.Links[i].Name == name {
				a.queues[name] = host.Links[i].Queue
			}
		}
	}
	t.EarlierDrops = host.ReversePathDrops
	if a.pathDrops != nil {
		t.EarlierDrops = *a.pathDrops
	}
	a.pathDrops = &host.ReversePathDrops
	a.readFilters(&t, c, port)
	if c.Tap != nil {
		t.Tap, t.Bridge = c.Tap.Device, c.Tap.Bridge
		a.readBridged(&t)
	}
	if c.Tun != nil {
		a.describe(&t, c, host, mark)
	}
	var list []statusview.Problem
	for _, f := range hostcheck.Find(t, host) {
		list = append(list, statusview.Problem{Kind: string(f.Kind), Subject: f.Subject, Message: f.Message, Remedy: f.Remedy})
	}
	var kinds []string
	for _, k := range hostcheck.Kinds() {
		kinds = append(kinds, string(k))
	}
	a.Problems.Renew(list, kinds...)
}

// ownDevices names the devices of a configuration.
func ownDevices(c *config.Config) (names []string) {
	if c.Tun != nil {
		names = append(names, c.Tun.Device)
	}
	if c.Tap != nil {
		names = append(names, c.Tap.Device)
	}
	return names
}

// readFilters adds what nftables does to datagrams for our port, unless some have come lately.
// Rules that take long to read are read less often.
func (a *Adviser) readFilters(t *hostcheck.Tunnel, c *config.Config, port uint16) {
	// Whether there are peers that have to call us: connection tracking does not know them.
	called := false
	for n := range c.Peers {
		called = called || len(c.Peers[n].Endpoints) == 0
		t.SomeUp = t.SomeUp || a.Tunnel.PeerState(c.Peers[n].PublicKey) == tunnel.StateUp
	}
	if a.Tunnel.Quiet() < quietFor {
		a.filters = nil
		return
	}
	t.Port = port
	start := time.Now()
	if !start.Before(a.filtersNext) {
		traffic := hostcheck.Traffic{Port: port}
		for e := range a.Tunnel.Endpoints {
			traffic.Endpoints = append(traffic.Endpoints, e.Addr)
		}
		var err error
		if a.filters, err = hostcheck.ReadFilters(traffic); err != nil {
			a.Log.Debug("cannot read the firewall", zap.Error(err))
		}
		a.filtersNext = start.Add(filterShare * time.Since(start))
	}
	for _, f := range a.filters {
		if f.Certain || f.Drops || f.Hook == "nat" || f.Untracked != nil || called {
			t.Filters = append(t.Filters, f)
		}
	}
}

// readBarriers adds the rules that keep the networks of a gateway from the tunnel. Rules that take
// long to read are read less often.
func (a *Adviser) readBarriers(t *hostcheck.Tunnel, host hostcheck.Host) {
	if !t.Forwards && !t.Gateway(host) {
		a.barriers, a.muted = nil, nil
		return
	}
	if start := time.Now(); !start.Before(a.barriersNext) {
		var err error
		if a.barriers, err = hostcheck.ReadForward(t.Device); err != nil {
			a.Log.Debug("cannot read the firewall", zap.Error(err))
		}
		if a.muted, err = t.ReadMuted(host); err != nil {
			a.Log.Debug("cannot read the firewall", zap.Error(err))
		}
		a.barriersNext = start.Add(filterShare * time.Since(start))
	}
	t.Barriers, t.Muted = a.barriers, a.muted
}

// readBridged adds the rules that drop what the bridge of the TAP passes between its ports.
func (a *Adviser) readBridged(t *hostcheck.Tunnel) {
	if t.Bridge == "" {
		return
	}
	if start := time.Now(); !start.Before(a.bridgedNext) {
		var err error
		if a.bridged, err = hostcheck.ReadBridged(t.Bridge); err != nil {
			a.Log.Debug("cannot read the firewall", zap.Error(err))
		}
		if a.framed, err = hostcheck.ReadFrames(t.Tap); err != nil {
			a.Log.Debug("cannot read the firewall", zap.Error(err))
		}
		a.bridgedNext = start.Add(filterShare * time.Since(start))
	}
	t.Bridged, t.Framed = a.bridged, a.framed
}

// describe adds the state of the TUN device: its peers' networks, and where they and the endpoints
// are routed.
func (a *Adviser) describe(t *hostcheck.Tunnel, c *config.Config, host hostcheck.Host, mark uint32) {
	t.Device = c.Tun.Device
	if c.Tap != nil {
		t.Own = []string{c.Tap.Device, c.Tap.Bridge}
	}
	link := make(map[int]*hostcheck.Link, len(host.Links))
	for i := range host.Links {
		link[host.Links[i].Index] = &host.Links[i]
	}
	by := func(addr netip.Addr, mark uint32) string {
		if n, err := a.Routes.Departure(addr, netip.Addr{}, mark); err == nil && link[n] != nil {
			return link[n].Name
		}
		return ""
	}
	inside := func(addr netip.Addr) string { // for what our sockets do not send
		if n, err := a.Routes.Leaves(addr); err == nil && link[n] != nil {
			return link[n].Name
		}
		return ""
	}
	for e := range a.Tunnel.Endpoints {
		if t.Uplinks = append(t.Uplinks, by(e.Addr.Addr(), mark)); len(t.Uplinks) == maxAdviceLookups {
			break
		}
	}
	for _, addr := range desired.StandIns {
		t.Uplinks = append(t.Uplinks, by(addr, mark))
	}
	for n := range c.Peers {
		t.Allowed = append(t.Allowed, c.Peers[n].AllowedIPs...)
		t.Waiting = t.Waiting || a.Tunnel.PeerState(c.Peers[n].PublicKey) != tunnel.StateUp
	}
	if !c.Tun.Masquerade {
		t.Outward = a.untranslated(time.Now(), t.Device, inside)
	}
	t.Forwards = c.Tun.Forward
	a.readBarriers(t, host)
	t.Routed, t.Protocol = c.Tun.Routes && c.Tun.Table == 0, ownProtocol
	for _, p := range t.Allowed[:min(len(t.Allowed), maxAdviceLookups)] {
		first, last := hosts(p)
		one, other := inside(first), inside(last)
		if one != "" && other != "" && one != t.Device && other != t.Device {
			t.Astray = append(t.Astray, hostcheck.Astray{Prefix: p, Link: one})
		} else if refused := a.refused(first); one == "" && refused != "" && refused == a.refused(last) {
			t.Astray = append(t.Astray, hostcheck.Astray{Prefix: p, Refused: refused})
		}
	}
	a.readParts(t, host)
}

// refused returns the type of the route or rule, as ip(8) writes it, by which the kernel refuses to
// send to an address; "" if none does, or if it may be a guard of ours, which is of type
// unreachable.
func (a *Adviser) refused(addr netip.Addr) string {
	switch _, err := a.Routes.Leaves(addr); {
	case errors.Is(err, unix.EACCES):
		return "prohibit"
	case errors.Is(err, unix.EINVAL):
		return "blackhole"
	}
	return ""
}

// readParts reads which parts of allowed IPs are routed elsewhere. A router's table may be long.
func (a *Adviser) readParts(t *hostcheck.Tunnel, host hostcheck.Host) {
	if start := time.Now(); !start.Before(a.partsNext) {
		var err error
		if a.parts, err = t.ReadParts(host); err != nil {
			a.Log.Debug("cannot read the routes", zap.Error(err))
		}
		a.partsNext = start.Add(filterShare * time.Since(start))
	}
	t.Parts = append(t.ReadDiverted(host), a.parts...)
}

// outward is a packet that a peer sent on to the Internet.
type outward struct {
	src, dst netip.Addr
	at       time.Time // zero: there was none
}

// outwardShown is for how long a packet to the Internet counts after it was sent. Without that, a
// client that pauses would make the warning come and go.
const outwardShown = 5 * time.Minute

// untranslated returns what peers sent lately from a private address to the Internet, by the link
// of the default route, if nothing translates such addresses; nil otherwise. by returns the link by
// which an address is reached.
func (a *Adviser) untranslated(now time.Time, tun string, by func(netip.Addr) string) *hostcheck.Outward {
	if src, dst, ok := a.Tunnel.TakeOutward(); ok {
		a.outward = outward{src, dst, now}
	}
	o := a.outward
	if o.at.IsZero() || now.Sub(o.at) > outwardShown {
		return nil
	}
	// Only a link that leads to the whole Internet is of interest.
	link := by(o.dst)
	if link == "" || link == tun || link != by(desired.StandIns[0]) {
		return nil
	}
	translated, err := hostcheck.Translates(o.src)
	if err != nil {
		a.Log.Debug("cannot read the address translation", zap.Error(err))
	}
	if translated || err != nil {
		return nil
	}
	return &hostcheck.Outward{Src: o.src, Dst: o.dst, Link: link}
}

// hosts returns the first and the last address in a network that a host may have; for the whole
// Internet, addresses that belong to nobody.
func hosts(p netip.Prefix) (first, last netip.Addr) {
	if p.Bits() == 0 {
		for _, addr := range desired.StandIns {
			if addr.Is4() == p.Addr().Is4() {
				return addr, addr
			}
		}
	}
	if p.IsSingleIP() {
		return p.Addr(), p.Addr()
	}
	end := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(end)*8; bit++ {
		end[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ = netip.AddrFromSlice(end)
	return p.Masked().Addr().Next(), last.Prev()
}
