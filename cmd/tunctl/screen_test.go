package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tund/internal/control"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test ./cmd/tunctl -update makes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./cmd/tunctl -update, and look at the diff)\ngot:\n%s\nwant:\n%s", name, got, want)
	}
}

// noon is when all test screens are drawn.
func noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

func ago(d time.Duration) control.Time { return control.At(noon().Add(-d)) }

// key is a made-up public key that begins with name.
func key(name string) string { return (name + strings.Repeat("x", 43))[:43] + "=" }

// office is an instance with a bit of everything.
func office() control.Instance {
	return control.Instance{
		Name: "office", Version: "1.4.0", PID: 812, UptimeS: 12*86400 + 4*3600, PublicKey: key("gw"), ListenPort: 51820,
		Host: "gw-fra-1", Config: "/etc/tund/office.toml", ConfigLoaded: ago(3 * time.Hour), LogLevel: "info", Lanes: 2,
		Underlay: []string{"gso", "gro", "ipv6"},
		Warnings: []control.Warning{
			{Kind: "storm", Subject: "vm-host-3", Message: "storm control dropped 1204 broadcast frames in the last 60s"},
		},
		Devices: []control.Device{
			{Name: "office", Kind: "tun", MTU: 1420, Addresses: []string{"10.9.0.1/24", "fd09::1/64"}, Offload: true, Up: true,
				Queues: 2, Features: []string{"checksum", "tso", "uso"}, RxBytes: 1_561_000_000_000, TxBytes: 949_000_000_000,
				Drops: map[string]uint64{"no-peer": 3}},
			{Name: "office-tap", Kind: "tap", MTU: 1500, Offload: true, Up: true, Bridge: "br0", Queues: 2,
				Features: []string{"tso"}, RxBytes: 98_900_000_000, TxBytes: 97_000_000_000},
		},
		Drops:      map[string]uint64{"bad-mac1": 12, "unknown-index": 3, "no-peer": 3, "storm-broadcast": 1204, "replay": 0},
		Handshakes: control.Handshakes{Completed: 9021, Failed: 17},
		Peers: []control.Peer{
			{Name: "branch-berlin", PublicKey: key("berlin"), State: control.StateUp, StateSince: ago(26 * time.Hour),
				Endpoint: "198.51.100.7:51820", Endpoints: []string{"berlin.example.org:51820"}, LastHandshake: ago(48 * time.Second),
				RxBytes: 1_400_000_000_000, TxBytes: 848_000_000_000, RxPackets: 1_000_000_000, TxPackets: 1,
				AllowedIPs: []string{"10.20.0.0/16", "fd20::/48"}, KeepaliveS: 25, PresharedKey: true, PathMTU: 1500, LastRx: ago(time.Second),
				Session:   &control.Session{AgeS: 48, Initiator: true, RekeyS: 120, RejectS: 180, TxMessages: 88123, RxHighest: 90211, Suite: "chacha20-poly1305"},
				Handshake: control.Handshakes{InitiationsTx: 500, InitiationsRx: 300, ResponsesTx: 300, ResponsesRx: 498, Completed: 798, Failed: 2}},
			{Name: "laptop-ana", PublicKey: key("ana"), State: control.StateIdle, Endpoint: "[2001:db8::9]:40112",
				LastHandshake: ago(118 * time.Minute), Roamed: ago(2 * time.Hour), AllowedIPs: []string{"10.9.0.17/32"}, RxBytes: 1023, TxBytes: 1024},
			{Name: "branch-oslo", PublicKey: key("oslo"), State: control.StateDown, StateSince: ago(252 * time.Second),
				Endpoint: "203.0.113.4:51820", Endpoints: []string{"vpn.oslo.example:51820", "[2001:db8:1:2::3]:51820"}, LastHandshake: ago(26 * time.Hour),
				LastError:  "no answer to 17 initiations; the last could not be sent: no route to host",
				AllowedIPs: []string{"10.30.0.0/16", "10.31.0.0/16", "10.32.0.0/16", "10.33.0.0/16"}, Handshake: control.Handshakes{Tries: 17}, Staged: 128},
			{Name: "vm-host-3", PublicKey: key("vmhost"), State: control.StateUp, StateSince: ago(49 * time.Hour), Endpoint: "192.0.2.33:51821",
				LastHandshake: ago(70 * time.Second), RxBytes: 98_900_000_000, TxBytes: 97_000_000_000, Ethernet: true, MACs: 14, MaxMACs: 256,
				Capabilities: []string{"ethernet", "fragments"}, Drops: map[string]uint64{"storm-broadcast": 1204}},
		},
		FDB: []control.FDBEntry{
			{MAC: "02:00:00:00:00:01", Port: "vm-host-3", Kind: "learned", AgeS: 3.2},
			{MAC: "02:00:00:00:00:02", VLAN: 20, Port: "vm-host-3", Kind: "learned", AgeS: 130, Frozen: true, Moves: 5},
			{MAC: "02:00:00:00:00:03", Port: "vm-host-3", Kind: "static"},
			{MAC: "02:00:00:00:00:04", Port: "office-tap", Kind: "local"},
		},
		FDBLimit: 16384,
	}
}

// lab is a quiet instance with a name from another script, and one that would like to paint the terminal.
func lab() control.Instance {
	return control.Instance{
		Name: "lab", Version: "1.4.0", PID: 813, UptimeS: 61, PublicKey: key("lab"), ListenPort: 40001, Lanes: 1,
		Devices: []control.Device{{Name: "lab", Kind: "tun", MTU: 1420, Up: true}},
		Peers: []control.Peer{
			{Name: "上海办公室", PublicKey: key("sh"), State: control.StateIdle, Endpoints: []string{"sh.example.cn:51820"}, AllowedIPs: []string{"10.40.0.0/16"}},
			{Name: "evil\x1b[31m\nname", PublicKey: key("evil"), State: control.StateUp, LastHandshake: control.At(noon().Add(time.Hour))},
		},
	}
}

// draw renders with the given style.
func draw(s style, f func(*screen)) string {
	x := &screen{style: s, now: noon()}
	f(x)
	return x.String()
}

func TestScreen_statusFitsEveryWidth(t *testing.T) {
	t.Parallel()
	both := []control.Instance{office(), lab()}
	for name, s := range map[string]style{
		"status-80.golden":    {utf8: true, width: 80},
		"status-120.golden":   {utf8: true, width: 120},
		"status-200.golden":   {utf8: true, width: 200},
		"status-C-80.golden":  {width: 80},
		"status-piped.golden": {utf8: true},
		"status-color.golden": {utf8: true, color: true, width: 120},
	} {
		got := draw(s, func(x *screen) { x.status(both) })
		golden(t, name, got)
		for _, line := range strings.Split(got, "\n") {
			if strings.HasSuffix(line, " ") {
				t.Errorf("%s: line ends with spaces: %q", name, line)
			}
			if s.width > 0 && !s.color && columns(line) > s.width {
				t.Errorf("%s: line is %d columns wide: %s", name, columns(line), line)
			}
			for _, r := range line {
				if r < ' ' && !s.color || r > 0x7f && !s.utf8 {
					t.Errorf("%s: %q in %q", name, r, line)
				}
			}
		}
	}
}

func TestScreen_peerAndFDB(t *testing.T) {
	t.Parallel()
	i := office()
	for n, name := range []string{"berlin", "ana", "oslo", "vmhost"} {
		golden(t, "peer-"+name+".golden", draw(style{utf8: true, width: 100}, func(x *screen) { x.peer(i.Name, &i.Peers[n]) }))
	}
	tables := []control.FDBInstance{{Name: "office", FDB: i.FDB, Limit: i.FDBLimit}, {Name: "lab"}}
	golden(t, "fdb.golden", draw(style{utf8: true, width: 80}, func(x *screen) { x.fdb(tables) }))
}

func TestScreen_healthyIsSaidFirst(t *testing.T) {
	t.Parallel()
	i := lab()
	got := draw(style{utf8: true, width: 80}, func(x *screen) { x.status([]control.Instance{i}) })
	if want := "✓ healthy - 2 peers: 1 up, 1 idle\n"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want it to begin with %q", got, want)
	}
	i.ConfigError = "lab.toml:3:1: unknown key"
	i.Devices[0].Up = false
	i.UnderLoad = true
	got = draw(style{utf8: true}, func(x *screen) { x.status([]control.Instance{i}) })
	for _, want := range []string{"✗ 3 problems", "lab.toml:3:1: unknown key", "device lab is down", "under load"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

// crowd is an instance with n peers, each tenth of them down.
func crowd(n int) control.Instance {
	i := office()
	i.Peers, i.Warnings = nil, nil
	for k := range n {
		p := control.Peer{Name: fmt.Sprintf("site-%04d", k), PublicKey: key(fmt.Sprint(k)), State: control.StateUp, Endpoint: fmt.Sprintf("198.51.100.7:%d", k),
			LastHandshake: ago(time.Duration(k) * time.Second), RxBytes: uint64(k) << 20, TxBytes: uint64(k) << 30,
			AllowedIPs: []string{fmt.Sprintf("10.%d.%d.0/24", k/256, k%256)}, Drops: map[string]uint64{"replay": uint64(k)}}
		if k%10 == 9 {
			p.State, p.LastError = control.StateDown, "no answer"
		}
		i.Peers = append(i.Peers, p)
	}
	return i
}

func TestScreen_cutListsKeepEveryTroubledPeer(t *testing.T) {
	t.Parallel()
	i := crowd(200)
	got := draw(style{utf8: true, width: 120}, func(x *screen) { x.status([]control.Instance{i}) })
	if n := strings.Count(got, "✗ down"); n != 20 {
		t.Errorf("%d of 20 down peers in the table", n)
	}
	if n := strings.Count(got, "● up"); n != calmPeers+len(i.Devices) {
		t.Errorf("%d rows are up, want %d", n, calmPeers+len(i.Devices))
	}
	if !strings.Contains(got, "… 160 more up (-a shows all)") || !strings.Contains(got, "… 8 more (-a shows all)") {
		t.Errorf("what was cut is not said:\n%s", got)
	}
	for name, x := range map[string]*screen{
		"piped": {style: style{utf8: true}, now: noon()},
		"-a":    {style: style{utf8: true, width: 120}, now: noon(), all: true},
	} {
		x.status([]control.Instance{i})
		if n := bytes.Count(x.Bytes(), []byte("site-")); n != 200+20 {
			t.Errorf("%s: %d mentions of peers, want 220", name, n)
		}
	}
}

func TestScreen_thousandPeersAreQuick(t *testing.T) {
	i := crowd(1000)
	best := time.Hour
	for range 5 {
		start := time.Now()
		x := &screen{style: style{utf8: true, color: true, width: 200}, now: noon(), all: true}
		x.status([]control.Instance{i})
		best = min(best, time.Since(start))
	}
	if best > 100*time.Millisecond {
		t.Errorf("1000 peers took %v", best)
	}
}

func TestBytesIEC_hasThreeDigits(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1.00 KiB", 10 << 10: "10.0 KiB", 102300: "99.9 KiB", 102399: "100 KiB",
		999 << 10: "999 KiB", 1000 << 10: "0.977 MiB", 1023 << 10: "0.999 MiB", 1<<20 - 1: "1.00 MiB", 1 << 20: "1.00 MiB",
		1_561_000_000_000: "1.42 TiB", 1<<64 - 1: "16.0 EiB",
	} {
		if got := bytesIEC(n); got != want {
			t.Errorf("bytesIEC(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestAge_hasTwoUnits(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 48 * time.Second: "48s", 125 * time.Second: "2m05s", 3*time.Hour + 2*time.Minute: "3h02m",
		76 * time.Hour: "3d4h", 100 * 24 * time.Hour: "100d",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %q, want %q", d, got, want)
		}
	}
	if got := since(noon().Add(time.Minute), noon()); got != "clock wound back" {
		t.Errorf("a time in the future: %q", got)
	}
}
