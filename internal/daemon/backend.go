package daemon

import (
	"os"
	"slices"
	"time"

	"go.uber.org/zap/zapcore"

	"tund/config"
	"tund/internal/control"
	"tund/tunnel"
	"tund/tunnel/protocol"
)

// manyPeers is where describing all of them takes tens of megabytes.
const manyPeers = 1000

// Status describes the instance (control.Backend).
func (d *Daemon) Status() control.Instance {
	s := d.tunnel.Status()
	d.returnMemory(len(s.Peers))
	d.mu.Lock()
	defer d.mu.Unlock()
	host, _ := os.Hostname() // shown only
	i := control.Instance{
		Name: d.config.Instance, Version: d.opts.Version, PID: os.Getpid(), UptimeS: time.Since(d.started).Seconds(),
		PublicKey: s.PublicKey.String(), ListenPort: int(s.ListenPort), Host: host, Config: d.config.Path,
		ConfigLoaded: control.At(d.loaded), ConfigError: d.reloadEr, LogLevel: d.opts.Level.Level().String(),
		FwMark: d.mark(d.config), UnderLoad: s.UnderLoad, Lanes: laneCount(d.config), Drops: s.Drops,
	}
	for _, dev := range s.Devices {
		i.Devices = append(i.Devices, d.device(dev))
	}
	for _, p := range s.Peers {
		peer := d.peer(p)
		add(&i.Handshakes, peer.Handshake)
		i.Peers = append(i.Peers, peer)
	}
	i.Warnings = d.warnings()
	if text := d.atRunTime(&s); text != "" {
		i.Warnings = append(i.Warnings, control.Warning{Kind: "runtime", Message: text, Since: control.At(d.override.since)})
	}
	if s.Ethernet != nil {
		d.describeSwitch(&i, s.Ethernet)
	}
	slices.SortFunc(i.Warnings, func(a, b control.Warning) int { return a.Since.Compare(b.Since.Time) })
	return i
}

func (d *Daemon) device(s tunnel.DeviceStatus) control.Device {
	out := control.Device{
		Name: s.Name, MTU: s.MTU, Offload: s.Offload, Addresses: []string{},
		RxPackets: s.RxPackets, RxBytes: s.RxBytes, TxPackets: s.TxPackets, TxBytes: s.TxBytes,
	}
	for _, dev := range d.devices {
		if dev.Name() != s.Name {
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
	for _, dev := range d.applied.Devices {
		if dev.Name == s.Name {
			for _, a := range dev.Addrs {
				out.Addresses = append(out.Addresses, a.String())
			}
			out.Up, out.Bridge = dev.Up, dev.Bridge
		}
	}
	if l, seen := d.links[s.Name]; seen {
		out.Up = l.Up
	}
	return out
}

func (d *Daemon) peer(s tunnel.PeerStatus) control.Peer {
	out := control.Peer{
		Name: s.Name, PublicKey: s.PublicKey.String(), State: control.PeerState(s.State),
		LastHandshake: control.At(s.LastHandshake), RxBytes: s.RxBytes, TxBytes: s.TxBytes, Ethernet: s.Ethernet,
		KeepaliveS: int(s.Keepalive / time.Second), LastError: s.LastError, AllowedIPs: []string{},
		PresharedKey: !s.PresharedKey.IsZero(), StateSince: control.At(s.Since), Roamed: control.At(s.Roamed),
		LastRx: control.At(s.LastReceived), RxPackets: s.RxPackets, TxPackets: s.TxPackets, Staged: s.Staged,
		Handshake: handshakes(s.Handshakes),
	}
	out.Handshake.Tries = s.Attempts
	if ss := s.Session; ss != nil {
		out.Session = &control.Session{
			AgeS: ss.Age.Seconds(), Initiator: ss.Initiator, RekeyS: protocol.RekeyAfterTime.Seconds(),
			RejectS: protocol.RejectAfterTime.Seconds(), TxMessages: ss.Sent, RxHighest: ss.Highest, Suite: "chacha20-poly1305",
		}
	}
	if s.Endpoint.IsValid() {
		out.Endpoint = s.Endpoint.String()
	}
	for _, p := range s.AllowedIPs {
		out.AllowedIPs = append(out.AllowedIPs, p.String())
	}
	if n := slices.IndexFunc(d.config.Peers, func(p config.Peer) bool { return p.PublicKey == s.PublicKey }); n >= 0 {
		for _, e := range d.config.Peers[n].Endpoints {
			out.Endpoints = append(out.Endpoints, e.String())
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
