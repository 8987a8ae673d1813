// Package screentest has instances as the control API describes them, for tests of what is shown of
// them. It holds examples, and no assertions.
package screentest

import (
	"strings"
	"time"

	"tund/internal/control"
)

// Noon is when pages are drawn.
func Noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// Ago is a time before Noon.
func Ago(d time.Duration) control.Time { return control.At(Noon().Add(-d)) }

// Key is a made-up public key that begins with name.
func Key(name string) string { return (name + strings.Repeat("x", 43))[:43] + "=" }

// Office is an instance with a bit of everything. It belongs to the caller.
func Office() control.Instance {
	return control.Instance{
		Name: "office", Version: "1.4.0", PID: 812, UptimeS: 12*86400 + 4*3600, PublicKey: Key("gw"), ListenPort: 51820,
		Host: "gw-fra-1", Config: "/etc/tund/office.toml", ConfigLoaded: Ago(3 * time.Hour), LogLevel: "info", Lanes: 2,
		Underlay: []string{"gso", "gro", "ipv6"},
		Warnings: []control.Warning{
			{Kind: "storm", Subject: "vm-host-3", Message: "storm control dropped 1204 broadcast frames in the last 60s"},
		},
		Devices: []control.Device{
			{Name: "office", Kind: "tun", DNS: []string{}, MTU: 1420, Addresses: []string{"10.9.0.1/24", "fd09::1/64"}, Offload: true, Up: true,
				Queues: 2, Features: []string{"checksum", "tso", "uso"}, RxBytes: 1_561_000_000_000, TxBytes: 949_000_000_000,
				Drops: map[string]uint64{"no-peer": 3}},
			{Name: "office-tap", Kind: "tap", DNS: []string{}, MTU: 1500, Offload: true, Up: true, Bridge: "br0", Queues: 2,
				Features: []string{"tso"}, RxBytes: 98_900_000_000, TxBytes: 97_000_000_000},
		},
		Drops:      map[string]uint64{"bad-mac1": 12, "unknown-index": 3, "no-peer": 3, "storm-broadcast": 1204, "replay": 0},
		Handshakes: control.Handshakes{Completed: 9021, Failed: 17},
		Peers: []control.Peer{
			{Name: "branch-berlin", PublicKey: Key("berlin"), State: control.StateUp, Active: true, StateSince: Ago(26 * time.Hour),
				Endpoint: "198.51.100.7:51820", Endpoints: []string{"berlin.example.org:51820"}, LastHandshake: Ago(48 * time.Second),
				RxBytes: 1_400_000_000_000, TxBytes: 848_000_000_000, RxPackets: 1_000_000_000, TxPackets: 1,
				AllowedIPs: []string{"10.20.0.0/16", "fd20::/48"}, KeepaliveS: 25, PresharedKey: true, PathMTU: 1500, LastRx: Ago(time.Second),
				Suite: "chacha20-poly1305", Lanes: 1,
				Session:   &control.Session{AgeS: 48, Initiator: true, RekeyS: 120, RejectS: 180, TxMessages: 88123, RxHighest: 90211, Suite: "chacha20-poly1305"},
				Handshake: control.Handshakes{InitiationsTx: 500, InitiationsRx: 300, ResponsesTx: 300, ResponsesRx: 498, Completed: 798, Failed: 2}},
			{Name: "laptop-ana", PublicKey: Key("ana"), State: control.StateIdle, Active: true, Endpoint: "[2001:db8::9]:40112",
				LastHandshake: Ago(118 * time.Minute), Roamed: Ago(2 * time.Hour), AllowedIPs: []string{"10.9.0.17/32"}, RxBytes: 1023, TxBytes: 1024},
			{Name: "branch-oslo", PublicKey: Key("oslo"), State: control.StateDown, Active: true, StateSince: Ago(252 * time.Second),
				Endpoint: "203.0.113.4:51820", Endpoints: []string{"vpn.oslo.example:51820", "[2001:db8:1:2::3]:51820"}, LastHandshake: Ago(26 * time.Hour),
				LastError:  "no answer to 17 initiations; the last could not be sent: no route to host",
				AllowedIPs: []string{"10.30.0.0/16", "10.31.0.0/16", "10.32.0.0/16", "10.33.0.0/16"}, Handshake: control.Handshakes{Tries: 17}, Staged: 128},
			{Name: "vm-host-3", PublicKey: Key("vmhost"), State: control.StateUp, Active: true, StateSince: Ago(49 * time.Hour), Endpoint: "192.0.2.33:51821",
				LastHandshake: Ago(70 * time.Second), RxBytes: 98_900_000_000, TxBytes: 97_000_000_000, Suite: "aes-256-gcm", Lanes: 2, PostQuantum: true, Ethernet: true, MACs: 14, MaxMACs: 256,
				Capabilities: []string{"ethernet", "fragments"}, Drops: map[string]uint64{"storm-broadcast": 1204}},
		},
		FDB: []control.FDBEntry{
			{MAC: "02:00:00:00:00:01", Port: "vm-host-3", Kind: "learned", AgeS: 3.2, IPs: []string{"10.9.1.7", "fe80::1"}},
			{MAC: "02:00:00:00:00:02", VLAN: 20, Port: "vm-host-3", Kind: "learned", AgeS: 130, Frozen: true, FrozenS: 240, Blocked: true, Moves: 5},
			{MAC: "02:00:00:00:00:03", Port: "vm-host-3", Kind: "static"},
			{MAC: "02:00:00:00:00:04", Port: "office-tap", Kind: "local", AgeS: 12, BridgePort: "eth1", IPs: []string{"10.9.1.9"}},
		},
		FDBLimit: 16384, Suppression: &control.Suppression{Answered: 120, Local: 30, Flooded: 12, Again: 3},
	}
}

// Lab is a quiet instance with a peer named in another script, and one whose name holds an escape
// sequence. It belongs to the caller.
func Lab() control.Instance {
	return control.Instance{
		Name: "lab", Version: "1.4.0", PID: 813, UptimeS: 61, PublicKey: Key("lab"), ListenPort: 40001, Lanes: 1,
		Devices: []control.Device{{Name: "lab", Kind: "tun", DNS: []string{}, MTU: 1420, Up: true}},
		Peers: []control.Peer{
			{Name: "上海办公室", PublicKey: Key("sh"), State: control.StateIdle, Active: true, Endpoints: []string{"sh.example.cn:51820"}, AllowedIPs: []string{"10.40.0.0/16"}},
			{Name: "evil\x1b[31m\nname", PublicKey: Key("evil"), State: control.StateUp, Active: true, LastHandshake: control.At(Noon().Add(time.Hour))},
		},
	}
}
