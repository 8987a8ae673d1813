// Package statusview describes a running instance in the types of the control API. It combines the
// information of the tunnel, the route manager, the configuration and the resolver.
//
// It depends on its inputs only: it makes no requests, its only state is the list of Problems, and
// it changes nothing. internal/control decides who may read a description. No description contains
// a secret.
package statusview

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/netwatch"
	"tund/route"
	"tund/tunnel"
	"tund/tunnel/udp"
)

// Process describes the process of an instance. It does not change.
type Process struct {
	Version string
	PID     int
	Host    string // name of the host, only shown
	Started time.Time
}

// View is the input for the description of an instance, all of it read at about the same time. Its
// maps and slices are only read.
type View struct {
	Process Process
	Now     time.Time
	Tunnel  *tunnel.Status
	// Config is the configuration in force, read at Loaded.
	Config *config.Config
	Loaded time.Time
	Peers  []*config.Peer // of the configuration and of the agent
	// Sources says who each peer of Tunnel belongs to.
	Sources map[keys.PublicKey]Source
	// Removed are the names of peers that the agent has had and has removed, by key.
	Removed map[keys.PublicKey]string
	// ReloadError tells why the last reload was refused, or is "" if it was not.
	ReloadError string
	LogLevel    string
	Lanes       int
	FwMark      uint32 // of our datagrams
	// Applied is what the kernel has of the configuration; zero for an interface without a file.
	Applied route.Applied
	Links   map[string]netwatch.LinkState // of our devices, by name
	PathMTU map[netip.Addr]int            // to endpoints, in bytes
	// Unresolved tells why endpoints given by name have no address, by peer.
	Unresolved map[keys.PublicKey]string
	Problems   []Problem
	RunTime    RunTime

	peers map[keys.PublicKey]*config.Peer // those of Peers
	loops map[string]string               // routing loops, by name of the peer
}

// Source is who a peer belongs to.
type Source struct {
	Name    string // as control.Peer.Source
	Shadows bool
}

// Instance describes the instance. The result belongs to the caller, except for maps of drops,
// which belong to Tunnel.
func (v *View) Instance() control.Instance {
	v.index()
	s := v.Tunnel
	i := control.Instance{
		Name: v.Config.Instance, Version: v.Process.Version, PID: v.Process.PID,
		UptimeS: v.Now.Sub(v.Process.Started).Seconds(), Host: v.Process.Host,
		PublicKey: s.PublicKey.String(), ListenPort: int(s.ListenPort), Config: absolute(v.Config.Path),
		ConfigLoaded: control.At(v.Loaded), ConfigError: v.ReloadError, LogLevel: v.LogLevel,
		FwMark: v.FwMark, UnderLoad: s.UnderLoad, Underlay: underlay(s.Sockets), Lanes: v.Lanes,
		Drops: s.Drops, Warnings: v.warnings(),
	}
	for n := range s.Devices {
		i.Devices = append(i.Devices, v.device(&s.Devices[n]))
	}
	for n := range s.Peers {
		peer := v.peer(&s.Peers[n])
		add(&i.Handshakes, peer.Handshake)
		i.Peers = append(i.Peers, peer)
	}
	i.Handshakes.CookiesTx = s.CookiesSent
	if s.Ethernet != nil {
		describeSwitch(&i, s.Ethernet)
	}
	slices.SortStableFunc(i.Warnings, func(a, b control.Warning) int {
		return cmp.Or(a.Since.Compare(b.Since.Time), cmp.Compare(a.Message, b.Message))
	})
	return i
}

// index prepares the look-ups that are needed for each peer.
func (v *View) index() {
	v.peers = make(map[keys.PublicKey]*config.Peer, len(v.Peers))
	for _, p := range v.Peers {
		v.peers[p.PublicKey] = p
	}
	v.loops = make(map[string]string)
	for _, p := range v.Problems {
		if p.Kind == KindRoutingLoop {
			v.loops[p.Subject] = p.Message
		}
	}
}

// warnings lists the reasons why an operator should look at the instance, except for those that the
// switch reports.
func (v *View) warnings() []control.Warning {
	var list []control.Warning
	add := func(kind, subject, message string, since time.Time) {
		list = append(list, control.Warning{
			Kind: kind, Subject: subject, Message: message, Since: control.At(since),
		})
	}
	for _, p := range slices.Concat(v.Problems, v.refused(), v.previousKey(), v.clocks()) {
		add(p.Kind, p.Subject, p.Message, p.Since)
		list[len(list)-1].Remedy = p.Remedy
	}
	for _, w := range v.Config.Warnings {
		add("config", w.File, w.Place()+": "+w.Msg, v.Loaded)
	}
	for _, w := range v.Applied.Warnings {
		add(KindNetwork, "", w, v.Loaded)
	}
	for _, text := range v.RunTime.differences(v.Tunnel, v.Sources) {
		add("runtime", "", text, v.RunTime.Since)
	}
	for n := range v.Tunnel.Peers {
		if p := &v.Tunnel.Peers[n]; p.WantsFrames {
			list = append(list, noTAP(p.Name, v.Loaded))
		}
	}
	for _, p := range v.Peers {
		if why := v.Unresolved[p.PublicKey]; why != "" {
			add("dns", p.Name, why, v.Loaded)
		}
	}
	// While UDP_SEGMENT is suspended, the list of the sockets' features shows that.
	if refused := fallbacks(v.Tunnel.Sockets); refused > 0 && !slices.Contains(underlay(v.Tunnel.Sockets), "gso") {
		add(KindOffload, "", fmt.Sprintf("the kernel refused to cut %d batches into datagrams "+
			"(UDP_SEGMENT), which then took longer; udp_offload = \"off\" avoids the attempt", refused), v.Process.Started)
	}
	return list
}

// refused describes the hosts that ask for a session and get none.
func (v *View) refused() []Problem {
	var list []Problem
	for n := range v.Tunnel.Strangers {
		s := &v.Tunnel.Strangers[n]
		message, remedy := v.stranger(s)
		list = append(list, Problem{Kind: KindUnknownPeer, Since: s.First, Message: message, Remedy: remedy})
	}
	if k := v.Tunnel.WrongKey; k != nil && !v.upAt(k.From) && !v.loopsTo(k.From) {
		list = append(list, Problem{
			Kind: KindWrongKey, Since: k.Since,
			Message: fmt.Sprintf("handshakes for a public key other than ours arrive, the last from %s (unauthenticated: anyone can send one)", k.From),
			Remedy:  fmt.Sprintf("if a host of yours is there, it needs public_key = \"%s\" for us", v.Tunnel.PublicKey),
		})
	}
	return list
}

// stranger says who asks for a session and is no peer. One that the agent has removed was probably
// revoked: a section in the file would let it in again.
func (v *View) stranger(s *tunnel.Stranger) (message, remedy string) {
	if name, removed := v.Removed[s.PublicKey]; removed {
		return fmt.Sprintf("%s, at %s, asks for a session, and the agent has removed it: %s", name, s.Endpoint, s.PublicKey),
			"nothing needs to be done if it was revoked, has left, or its grant has ended: [[peer]] would let it in again; " +
				"if it is to come back, the signers have to grant it again (tunctl net grant)"
	}
	message = fmt.Sprintf("a host at %s asks for a session, and its public key is in no [[peer]] here: %s", s.Endpoint, s.PublicKey)
	remedy = fmt.Sprintf("if it is yours, add [[peer]] with public_key = \"%s\" and its allowed_ips, and reload", s.PublicKey)
	if v.Config.Agent == nil {
		return message, remedy
	}
	return message + ", and the agent has not handed it in", "if it is a site of the registry, tund-agent --status says what it refuses, " +
		"and tunctl net verify whether the site was revoked; " + remedy
}

// loopsTo reports whether a peer has this endpoint, which leads back to us: the handshakes are our
// own, and that is said already.
func (v *View) loopsTo(from netip.AddrPort) bool {
	return slices.ContainsFunc(v.Tunnel.Peers, func(p tunnel.PeerStatus) bool { return p.Endpoint == from && v.loops[p.Name] != "" })
}

// upAt reports whether a peer is up at an address: what came from there before is corrected.
func (v *View) upAt(from netip.AddrPort) bool {
	return slices.ContainsFunc(v.Tunnel.Peers, func(p tunnel.PeerStatus) bool {
		return p.Endpoint == from && p.State == tunnel.StateUp
	})
}

// previousKey says which peers still have sessions with our previous key, for as long as that is
// accepted.
func (v *View) previousKey() []Problem {
	if v.Tunnel.PreviousKey.IsZero() {
		return nil
	}
	var with []string
	for n := range v.Tunnel.Peers {
		p := &v.Tunnel.Peers[n]
		if p.Session != nil && p.Session.Own == v.Tunnel.PreviousKey {
			with = append(with, p.Name)
		}
	}
	one := Problem{
		Kind: KindPreviousKey, Since: v.Loaded, Message: "our previous key is still accepted, and no session uses it",
		Remedy: "when all peers have the new public key, remove previous_private_key_file and reload",
	}
	if n := len(with); n > 0 {
		if n > maxNamed {
			with = append(with[:maxNamed], fmt.Sprintf("%d more", n-maxNamed))
		}
		one.Message = "these peers still use our previous key: " + strings.Join(with, ", ")
		one.Remedy = fmt.Sprintf("give them public_key = \"%s\" for us", v.Tunnel.PublicKey)
	}
	return []Problem{one}
}

// clockSlack is how far the clocks of two hosts may differ before that is worth a word.
const clockSlack = 2 * time.Minute

// clocks names the peers whose clocks differ from that of this host.
func (v *View) clocks() (list []Problem) {
	for n := range v.Tunnel.Peers {
		p := &v.Tunnel.Peers[n]
		if p.ClockAhead.Abs() < clockSlack {
			continue
		}
		how := "ahead of"
		if p.ClockAhead < 0 {
			how = "behind"
		}
		list = append(list, Problem{
			Kind: KindClock, Subject: p.Name, Since: p.LastHandshake,
			Message: fmt.Sprintf("by its last handshake, the clock of %s is about %s %s that of this host: one of the two is wrong", p.Name,
				p.ClockAhead.Abs().Round(time.Minute), how),
			Remedy: "set it, and keep both with NTP (timedatectl set-ntp true)",
		})
	}
	return list
}

// underlay lists the features that every socket has.
func underlay(sockets []udp.Features) []string {
	var list []string
	can := func(what string, has func(udp.Features) bool) {
		for _, s := range sockets {
			if !has(s) {
				return
			}
		}
		if len(sockets) > 0 {
			list = append(list, what)
		}
	}
	can("gso", func(f udp.Features) bool { return f.GSO })
	can("gro", func(f udp.Features) bool { return f.GRO })
	can("ipv6", func(f udp.Features) bool { return f.IPv6 })
	return list
}

// fallbacks counts the messages for which the kernel refused UDP_SEGMENT.
func fallbacks(sockets []udp.Features) (sum uint64) {
	for _, s := range sockets {
		sum += s.Fallbacks
	}
	return sum
}

// absolute makes the path of the configuration usable for readers who work in another directory. It
// is "" without a configuration.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil && path != "" {
		return abs
	}
	return path
}
