package main

import (
	"bytes"
	"flag"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseCPU_countsGuestTimeOnce(t *testing.T) {
	t.Parallel()
	before, err := parseCPU("cpu  100 10 50 1000 5 3 7 20 99 99\ncpu0 1 2 3\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := (cpuTimes{busy: 170, steal: 20, total: 1195}); before != want {
		t.Errorf("parseCPU = %+v, want %+v", before, want)
	}
	after := cpuTimes{busy: 370, steal: 30, total: 1605}
	d := after.since(before)
	if d.seconds() != 2 || d.stealShare() != 10.0/410 {
		t.Errorf("since: %v s busy and %v stolen, want 2 and %v", d.seconds(), d.stealShare(), 10.0/410)
	}
	for _, bad := range []string{"", "cpu 1 2", "intr 1 2 3 4 5 6 7 8 9", "cpu a b c d e f g h"} {
		if _, err := parseCPU(bad); err == nil {
			t.Errorf("parseCPU(%q) worked", bad)
		}
	}
}

func TestParseProcessSeconds_skipsANameWithSpacesAndBrackets(t *testing.T) {
	t.Parallel()
	got, err := parseProcessSeconds("12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0")
	if err != nil || got != 2 {
		t.Errorf("parseProcessSeconds = %v, %v, want 2", got, err)
	}
	if _, err := parseProcessSeconds("nothing"); err == nil {
		t.Error("parseProcessSeconds accepted nonsense")
	}
}

func TestParseResident_readsKilobytes(t *testing.T) {
	t.Parallel()
	if got, err := parseResident("Name:\tx\nVmRSS:\t    2048 kB\nThreads: 3\n"); err != nil || got != 2 {
		t.Errorf("parseResident = %v, %v, want 2", got, err)
	}
	if _, err := parseResident("Name: x\n"); err == nil {
		t.Error("parseResident found memory where there was none")
	}
}

func TestParseNetstat_pairsNamesWithValues(t *testing.T) {
	t.Parallel()
	got, err := parseNetstat("TcpExt: SyncookiesSent TCPOFOQueue TCPSACKReorder\nTcpExt: 0 17 4\nIpExt: InNoRoutes\nIpExt: 3\n")
	if err != nil || got["TCPOFOQueue"] != 17 || got["TCPSACKReorder"] != 4 {
		t.Errorf("parseNetstat = %v, %v", got, err)
	}
	for _, bad := range []string{"", "TcpExt: A B\nTcpExt: 1\n"} {
		if _, err := parseNetstat(bad); err == nil {
			t.Errorf("parseNetstat(%q) worked", bad)
		}
	}
}

func TestParseIperf_addsBothDirections(t *testing.T) {
	t.Parallel()
	one := `{"end":{"sum_sent":{"bytes":11,"retransmits":3},"sum_received":{"bytes":1000,"bits_per_second":8000}}}`
	got, err := parseIperf([]byte(one))
	if want := (flowResult{bytes: 1000, bitsPerSec: 8000, retransmits: 3}); err != nil || got != want {
		t.Errorf("one way: %+v, %v, want %+v", got, err, want)
	}
	both := `{"end":{"sum_sent":{"retransmits":3},"sum_received":{"bytes":1000,"bits_per_second":8000},
		"sum_sent_bidir_reverse":{"retransmits":4},"sum_received_bidir_reverse":{"bytes":500,"bits_per_second":4000}}}`
	got, err = parseIperf([]byte(both))
	if want := (flowResult{bytes: 1500, bitsPerSec: 12000, retransmits: 7}); err != nil || got != want {
		t.Errorf("both ways: %+v, %v, want %+v", got, err, want)
	}
}

func TestParseIperf_reportsItsComplaint(t *testing.T) {
	t.Parallel()
	if _, err := parseIperf([]byte(`{"error":"unable to connect"}`)); err == nil || !strings.Contains(err.Error(), "unable to connect") {
		t.Errorf("error = %v, want iperf3's own", err)
	}
	for _, bad := range []string{"", "{}", "iperf3: error"} {
		if _, err := parseIperf([]byte(bad)); err == nil {
			t.Errorf("parseIperf(%q) worked", bad)
		}
	}
}

func TestParseOptions_flagsWinOverTheEnvironment(t *testing.T) {
	t.Parallel()
	env := map[string]string{"ROUNDS": "7", "T": "2", "CASES": "tcp1,bidir", "CONTENDERS": "wireguard-go tund", "LINK": "nic", "SEED": "9"}
	o, err := parseOptions([]string{"-rounds", "3"}, func(k string) string { return env[k] }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.Rounds != 3 || o.Length != 2*time.Second || o.Seed != 9 {
		t.Errorf("rounds %d, seconds %v, seed %d, want 3, 2s, 9", o.Rounds, o.Length, o.Seed)
	}
	if !slices.Equal(o.Cases, []string{"tcp1", "bidir"}) || !slices.Equal(o.Contenders, []string{"wireguard-go", "tund"}) {
		t.Errorf("cases %v, contenders %v", o.Cases, o.Contenders)
	}
}

func TestParseOptions_namesEveryMistake(t *testing.T) {
	t.Parallel()
	env := map[string]string{"ROUNDS": "none", "CASES": "tcp1,tpc4", "CONTENDERS": "wiregard,tund,tund:tcp1", "LINK": "wifi"}
	_, err := parseOptions(nil, func(k string) string { return env[k] }, io.Discard)
	if err == nil {
		t.Fatal("parseOptions accepted nonsense")
	}
	for _, word := range []string{"ROUNDS", "tpc4", "wiregard", "tund is entered twice", "wifi"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not name %s", err, word)
		}
	}
	if _, err := parseOptions([]string{"-h"}, func(string) string { return "" }, io.Discard); err != flag.ErrHelp {
		t.Errorf("-h: %v, want %v", err, flag.ErrHelp)
	}
}

func TestNewEntrant_standsOnlyInTheCasesAsked(t *testing.T) {
	t.Parallel()
	e, err := newEntrant("tund@/opt/tund:tcp1+gateway")
	if err != nil {
		t.Fatal(err)
	}
	var cases []string
	for _, c := range allCases() {
		if c.accepts(e) {
			cases = append(cases, c.name)
		}
	}
	if !slices.Equal(cases, []string{"tcp1", "gateway"}) || e.about().Name != "tund@/opt/tund" {
		t.Errorf("%s stands in %v", e.about().Name, cases)
	}
	for _, wrong := range []string{"tund:", "tund:tcp", "tun:tcp1"} {
		if _, err := newEntrant(wrong); err == nil {
			t.Errorf("%q was accepted", wrong)
		}
	}
}

func TestDefaults_everyCaseHasAContenderAndEveryContenderACase(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, c := range allCases() {
		stands := false
		for _, name := range defaultContenders {
			x, err := newEntrant(name)
			if err != nil {
				t.Fatal(err)
			}
			if c.accepts(x) {
				used[name], stands = true, true
			}
		}
		if !stands {
			t.Errorf("no default contender stands in %s", c.name)
		}
	}
	for _, name := range defaultContenders {
		if !used[name] {
			t.Errorf("%s stands in no case", name)
		}
	}
}

func TestConfigs_holdEveryPeer(t *testing.T) {
	t.Parallel()
	peers, err := newIdentities(300)
	if err != nil {
		t.Fatal(err)
	}
	if peers[299].inner != netip.MustParseAddr("10.128.1.43") {
		t.Errorf("peer 299 has %v, want 10.128.1.43", peers[299].inner)
	}
	h := &host{tunnel: netip.MustParseAddr("10.77.0.1")}
	wg := wgConfig(peers[0], nil, key{}, peers)
	td := (&tund{}).config("dev", h, peers[0], nil, key{}, peers)
	for name, text := range map[string]string{"wg": wg, "tund": td} {
		for _, p := range peers {
			if !strings.Contains(text, p.public.String()) {
				t.Fatalf("%s configuration lacks %s", name, p.public)
			}
		}
	}
}

func TestMachine_readsProc(t *testing.T) {
	t.Parallel()
	if got := cpuModel("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n"); got != "Some CPU @ 3 GHz" {
		t.Errorf("cpuModel = %q", got)
	}
	text := "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel\t\t: 18\n"
	if got := cpuModel(text); got != "AMD EPYC (family 25, model 17)" {
		t.Errorf("cpuModel = %q", got)
	}
	if got := memoryGiB("MemTotal:       2097152 kB\n"); got != 2 {
		t.Errorf("memoryGiB = %v, want 2", got)
	}
	if got := lastLines([]byte("a\nb\nc\n"), 2); got != "b | c" {
		t.Errorf("lastLines = %q", got)
	}
}

func TestServe_answersUntilTheInputEnds(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := serve(strings.NewReader(`{"trial":1} {"trial":2}`), &out, func(o countOrder) (countReport, error) {
		return countReport{Received: uint64(o.Trial) * 10}, nil
	})
	if want := "{\"received\":10}\n{\"received\":20}\n"; err != nil || out.String() != want {
		t.Errorf("serve wrote %q, %v, want %q", out.String(), err, want)
	}
}
