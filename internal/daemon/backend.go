package daemon

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap/zapcore"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/netwatch"
	"tund/route"
	"tund/tunnel"
	"tund/tunnel/timers"
	"tund/tunnel/udp"
)

// manyPeers is where describing all of them takes tens of megabytes.
const manyPeers = 1000

// Status describes the instance (control.Backend).
func (d *Daemon) Status() control.Instance {
	s := d.tunnel.Status()
	d.returnMemory(len(s.Peers))
	v := d.view(&s)
	host, _ := os.Hostname() // shown only
	i := control.Instance{
		Name: v.config.Instance, Version: d.opts.Version, PID: os.Getpid(), UptimeS: time.Since(d.started).Seconds(),
		PublicKey: s.PublicKey.String(), ListenPort: int(s.ListenPort), Host: host, Config: absolute(v.config.Path),
		ConfigLoaded: control.At(v.loaded), ConfigError: v.reloadEr, LogLevel: d.opts.Level.Level().String(),
		FwMark: v.mark, UnderLoad: s.UnderLoad, Underlay: underlay(v.conns), Lanes: laneCount(v.config), Drops: s.Drops,
		Warnings: v.warnings,
	}
	for _, dev := range s.Devices {
		i.Devices = append(i.Devices, d.device(&v, dev))
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

// view is what a description of the instance needs of the daemon: read at once, described without a lock.
type view struct {
	config   *config.Config
	loaded   time.Time
	reloadEr string
	applied  route.Applied
	links    map[string]netwatch.LinkState
	path     paths
	conns    []udp.Conn
	mark     uint32
	warnings []control.Warning

	configured map[keys.PublicKey]*config.Peer
	unresolved map[keys.PublicKey]string // why
	loops      map[string]string         // why, by name of the peer
}

func (d *Daemon) view(s *tunnel.Status) view {
	unresolved := d.names.Failures()
	d.mu.Lock()
	v := view{
		config: d.config, loaded: d.loaded, reloadEr: d.reloadEr, applied: d.applied, links: maps.Clone(d.links),
		path: d.path, conns: d.conns, mark: d.mark(d.config), warnings: d.warnings(),
		configured: make(map[keys.PublicKey]*config.Peer), unresolved: unresolved, loops: make(map[string]string),
	}
	for _, p := range d.problems {
		if p.kind == loopProblem {
			v.loops[p.subject] = p.message
		}
	}
	if text := d.atRunTime(s); text != "" {
		v.warnings = append(v.warnings, control.Warning{Kind: "runtime", Message: text, Since: control.At(d.override.since)})
	}
	d.mu.Unlock()
	for n := range v.config.Peers {
		p := &v.config.Peers[n]
		v.configured[p.PublicKey] = p
		if why := unresolved[p.PublicKey]; why != "" {
			v.warnings = append(v.warnings, control.Warning{Kind: "dns", Subject: p.Name, Message: why, Since: control.At(v.loaded)})
		}
	}
	if refused := fallbacks(v.conns); refused > 0 && !slices.Contains(underlay(v.conns), "gso") { // given up for now
		v.warnings = append(v.warnings, control.Warning{Kind: "offload", Since: control.At(d.started), Message: fmt.Sprintf(
			"the kernel refused to cut %d batches into datagrams (UDP_SEGMENT), which then took longer; udp_offload = \"off\" avoids the attempt", refused)})
	}
	return v
}

// offloading is what a *udp.Socket says of itself.
type offloading interface {
	GSO() bool
	GRO() bool
	IPv6() bool
	Fallbacks() uint64
}

// underlay lists what all of the sockets can do.
func underlay(conns []udp.Conn) []string {
	var list []string
	can := func(what string, has func(offloading) bool) {
		for _, c := range conns {
			if s, ok := c.(offloading); !ok || !has(s) {
				return
			}
		}
		if len(conns) > 0 {
			list = append(list, what)
		}
	}
	can("gso", offloading.GSO)
	can("gro", offloading.GRO)
	can("ipv6", offloading.IPv6)
	return list
}

// fallbacks sums what the kernel refused.
func fallbacks(conns []udp.Conn) (sum uint64) {
	for _, c := range conns {
		if s, ok := c.(offloading); ok {
			sum += s.Fallbacks()
		}
	}
	return sum
}

func (d *Daemon) device(v *view, s tunnel.DeviceStatus) control.Device {
	out := control.Device{
		Name: s.Name, MTU: s.MTU, Offload: s.Offload, Addresses: []string{}, Drops: s.Drops,
		RxPackets: s.RxPackets, RxBytes: s.RxBytes, TxPackets: s.TxPackets, TxBytes: s.TxBytes,
	}
	for _, dev := range d.devices {
		if d.nameOf(dev) != s.Name {
			continue
		}
		out.Kind, out.Queues = dev.Kind().String(), len(dev.Queues())
		f := dev.Features()
		for name, on := range map[string]bool{"checksum": f.Checksum, "tso": f.TSO, "uso": f.USO} {
			if on {
				out.Features = append(out.Features, name)
			}
		}
		slices.Sort(out.Features)
	}
	for _, dev := range v.applied.Devices {
		if dev.Name == s.Name {
			for _, a := range dev.Addrs {
				out.Addresses = append(out.Addresses, a.String())
			}
			out.Up, out.Bridge = dev.Up, dev.Bridge
		}
	}
	if l, seen := v.links[s.Name]; seen {
		out.Up = l.Up
		if len(v.applied.Devices) == 0 { // not configured by us
			for _, a := range l.Addrs {
				out.Addresses = append(out.Addresses, a.String())
			}
		}
	}
	return out
}

func (v *view) peer(s *tunnel.PeerStatus) control.Peer {
	out := control.Peer{
		Name: s.Name, PublicKey: s.PublicKey.String(), State: control.PeerState(s.State),
		LastHandshake: control.At(s.LastHandshake), RxBytes: s.RxBytes, TxBytes: s.TxBytes, Ethernet: s.Ethernet,
		KeepaliveS: int(s.Keepalive / time.Second), LastError: s.LastError, AllowedIPs: []string{},
		PresharedKey: !s.PresharedKey.IsZero(), StateSince: control.At(s.Since), Roamed: control.At(s.Roamed),
		LastRx: control.At(s.LastReceived), RxPackets: s.RxPackets, TxPackets: s.TxPackets, Staged: s.Staged,
		Handshake: handshakes(s.Handshakes), Drops: s.Drops,
	}
	out.Handshake.Tries = s.Attempts
	if ss := s.Session; ss != nil {
		out.Session = &control.Session{
			AgeS: ss.Age.Seconds(), Initiator: ss.Initiator, RekeyS: timers.RekeyAfterTime.Seconds(),
			RejectS: timers.RejectAfterTime.Seconds(), TxMessages: ss.Sent, RxHighest: ss.Highest, Suite: ss.Suite,
		}
	}
	if s.Endpoint.IsValid() {
		out.Endpoint, out.PathMTU = s.Endpoint.String(), v.path.mtu[s.Endpoint.Addr()]
	} else if why := v.unresolved[s.PublicKey]; why != "" {
		out.LastError = why
	}
	if why := v.loops[s.Name]; why != "" && s.State != tunnel.StateUp {
		out.LastError = why // more than "no answer", and the reason for it
	}
	for _, p := range s.AllowedIPs {
		out.AllowedIPs = append(out.AllowedIPs, p.String())
	}
	if p := v.configured[s.PublicKey]; p != nil {
		for _, e := range p.Endpoints {
			out.Endpoints = append(out.Endpoints, e.String())
		}
		if p.Ethernet && v.config.Tap != nil {
			out.MaxMACs = cmp.Or(p.MaxMACs, v.config.Tap.MaxMACsPerPeer)
		}
	}
	return out
}

func handshakes(c tunnel.HandshakeCounts) control.Handshakes {
	return control.Handshakes{
		InitiationsTx: c.InitiationsSent, InitiationsRx: c.InitiationsReceived,
		ResponsesTx: c.ResponsesSent, ResponsesRx: c.ResponsesReceived,
		CookiesRx: c.CookiesReceived, Completed: c.Completed, Failed: c.Failed,
	}
}

// add sums the counts of one peer into those of the instance.
func add(sum *control.Handshakes, c control.Handshakes) {
	sum.InitiationsTx += c.InitiationsTx
	sum.InitiationsRx += c.InitiationsRx
	sum.ResponsesTx += c.ResponsesTx
	sum.ResponsesRx += c.ResponsesRx
	sum.CookiesRx += c.CookiesRx
	sum.Completed += c.Completed
	sum.Failed += c.Failed
}

// LogLevel returns the level in force (control.Backend).
func (d *Daemon) LogLevel() string { return d.opts.Level.Level().String() }

// SetLogLevel changes the level (control.Backend).
func (d *Daemon) SetLogLevel(level string) error {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return &control.Error{Code: control.CodeInvalid, Message: err.Error()}
	}
	d.opts.Level.SetLevel(l)
	return nil
}

// absolute is the path of the configuration for those who work in another directory; "" without a configuration.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil && path != "" {
		return abs
	}
	return path
}
