package screen

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
	"tund/internal/screen/screentest"
	"tund/internal/testnet"
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
		t.Fatalf("%v (go test ./internal/screen -update makes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./internal/screen -update, and look at the diff)\ngot:\n%s\nwant:\n%s", name, got, want)
	}
}

// draw renders with the given style.
func draw(s Style, f func(*Page)) string {
	x := NewPage(s, screentest.Noon(), false)
	f(x)
	return x.String()
}

func TestPage_statusFitsEveryWidth(t *testing.T) {
	t.Parallel()
	both := []control.Instance{screentest.Office(), screentest.Lab()}
	for name, s := range map[string]Style{
		"status-80.golden":    {UTF8: true, Width: 80},
		"status-120.golden":   {UTF8: true, Width: 120},
		"status-200.golden":   {UTF8: true, Width: 200},
		"status-C-80.golden":  {Width: 80},
		"status-piped.golden": {UTF8: true},
		"status-color.golden": {UTF8: true, Color: true, Width: 120},
	} {
		got := draw(s, func(x *Page) { x.Status(both) })
		golden(t, name, got)
		for _, line := range strings.Split(got, "\n") {
			if strings.HasSuffix(line, " ") {
				t.Errorf("%s: line ends with spaces: %q", name, line)
			}
			if s.Width > 0 && !s.Color && columns(line) > s.Width {
				t.Errorf("%s: line is %d columns wide: %s", name, columns(line), line)
			}
			for _, r := range line {
				if r < ' ' && !s.Color || r > 0x7f && !s.UTF8 {
					t.Errorf("%s: %q in %q", name, r, line)
				}
			}
		}
	}
}

func TestPage_peerAndFDB(t *testing.T) {
	t.Parallel()
	i := screentest.Office()
	for n, name := range []string{"berlin", "ana", "oslo", "vmhost"} {
		golden(t, "peer-"+name+".golden", draw(Style{UTF8: true, Width: 100}, func(x *Page) { x.Peer(i.Name, &i.Peers[n]) }))
	}
	tables := []control.FDBInstance{{Name: "office", FDB: i.FDB, Limit: i.FDBLimit,
		Blocked: []control.BlockedPort{{Port: "vm-host-3", VLAN: 20}, {Port: "berlin"}}}, {Name: "lab"}}
	golden(t, "fdb.golden", draw(Style{UTF8: true, Width: 80}, func(x *Page) { x.FDB(tables) }))
}

func TestPage_healthyIsSaidFirst(t *testing.T) {
	t.Parallel()
	i := screentest.Lab()
	got := draw(Style{UTF8: true, Width: 80}, func(x *Page) { x.Status([]control.Instance{i}) })
	if want := "✓ healthy - 2 peers: 1 up, 1 idle\n"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want it to begin with %q", got, want)
	}
	i.ConfigError = "lab.toml:3:1: unknown key"
	i.Devices[0].Up = false
	i.UnderLoad = true
	got = draw(Style{UTF8: true}, func(x *Page) { x.Status([]control.Instance{i}) })
	for _, want := range []string{"✗ 3 problems", "lab.toml:3:1: unknown key", "device lab is down", "under load"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

// crowd is an instance with n peers, each tenth of them down.
func crowd(n int) control.Instance {
	i := screentest.Office()
	i.Peers, i.Warnings = nil, nil
	for k := range n {
		p := control.Peer{Name: fmt.Sprintf("site-%04d", k), PublicKey: screentest.Key(fmt.Sprint(k)), State: control.StateUp, Active: true, Endpoint: fmt.Sprintf("198.51.100.7:%d", k),
			LastHandshake: screentest.Ago(time.Duration(k) * time.Second), RxBytes: uint64(k) << 20, TxBytes: uint64(k) << 30,
			AllowedIPs: []string{fmt.Sprintf("10.%d.%d.0/24", k/256, k%256)}, Drops: map[string]uint64{"replay": uint64(k)}}
		if k%10 == 9 {
			p.State, p.LastError = control.StateDown, "no answer"
		}
		i.Peers = append(i.Peers, p)
	}
	return i
}

func TestPage_cutListsKeepEveryTroubledPeer(t *testing.T) {
	t.Parallel()
	i := crowd(200)
	got := draw(Style{UTF8: true, Width: 120}, func(x *Page) { x.Status([]control.Instance{i}) })
	if n := strings.Count(got, "✗ down"); n != 20 {
		t.Errorf("%d of 20 down peers in the table", n)
	}
	if n := strings.Count(got, "● up"); n != calmPeers+len(i.Devices) {
		t.Errorf("%d rows are up, want %d", n, calmPeers+len(i.Devices))
	}
	if !strings.Contains(got, "… 160 more up (-a shows all)") || !strings.Contains(got, "… 8 more (-a shows all)") {
		t.Errorf("what was cut is not said:\n%s", got)
	}
	for name, x := range map[string]*Page{
		"piped": NewPage(Style{UTF8: true}, screentest.Noon(), false),
		"-a":    NewPage(Style{UTF8: true, Width: 120}, screentest.Noon(), true),
	} {
		x.Status([]control.Instance{i})
		if n := bytes.Count(x.Bytes(), []byte("site-")); n != 200+20 {
			t.Errorf("%s: %d mentions of peers, want 220", name, n)
		}
	}
}

func TestPage_thousandPeersAreQuick(t *testing.T) {
	i := crowd(1000)
	best := time.Hour
	for range 5 {
		start := time.Now()
		x := NewPage(Style{UTF8: true, Color: true, Width: 200}, screentest.Noon(), true)
		x.Status([]control.Instance{i})
		best = min(best, time.Since(start))
	}
	limit := 100 * time.Millisecond
	if testnet.RaceDetector {
		limit *= 10
	}
	if best > limit {
		t.Errorf("1000 peers took %v", best)
	}
}

func TestPage_peerWithDataSessions(t *testing.T) {
	t.Parallel()
	i := screentest.Office()
	p := i.Peers[0]
	session := *p.Session
	session.Suite = "aes-256-gcm"
	p.Session, p.Suite, p.Lanes, p.PostQuantum = &session, "aes-256-gcm", 2, true
	p.LanesDetail = []control.Lane{{RxPackets: 10, TxPackets: 11}, {RxPackets: 20, TxPackets: 21}}
	got := draw(Style{UTF8: true, Width: 140}, func(x *Page) { x.Peer(i.Name, &p) })
	for _, want := range []string{
		"aes-256-gcm, 2 lanes, post-quantum\n", "  lane 0          received 10, sent 11 packets\n",
		"  lane 1          received 20, sent 21 packets\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "data sessions") {
		t.Errorf("they stand, and are mentioned:\n%s", got)
	}
	p.DataSessionsError = "no answer to our offer"
	got = draw(Style{UTF8: true, Width: 140}, func(x *Page) { x.Peer(i.Name, &p) })
	if want := "  data sessions   none: no answer to our offer\n"; !strings.Contains(got, want) {
		t.Errorf("no %q in:\n%s", want, got)
	}
}

// What is as it should be is shown and is no warning. A warning says for how long it has been
// there.
func TestPage_notesAreNoWarnings(t *testing.T) {
	t.Parallel()
	noon := screentest.Noon()
	i := control.Instance{
		Name: "office", Notes: []control.Warning{{Kind: "switch", Subject: "paris", Message: "paris stands by", Since: control.At(noon.Add(-time.Hour))}},
	}
	got := draw(Style{UTF8: true}, func(x *Page) { x.Status([]control.Instance{i}) })
	if !strings.Contains(got, "healthy") || !strings.Contains(got, "office/paris: paris stands by (for 1h00m)") {
		t.Errorf("got:\n%s", got)
	}
	i.Warnings = []control.Warning{{Subject: "rome", Message: "differs", Remedy: "set mtu", Since: control.At(noon.Add(-time.Minute))}}
	got = draw(Style{UTF8: true}, func(x *Page) { x.Status([]control.Instance{i}) })
	if !strings.Contains(got, "1 warning") || !strings.Contains(got, "office/rome: differs; set mtu (for 1m00s)") {
		t.Errorf("got:\n%s", got)
	}
}
