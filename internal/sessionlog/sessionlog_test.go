package sessionlog

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tund/config"
	"tund/crypto/keys"
	"tund/tunnel"
)

// peersNamed makes peers whose keys begin with their number.
func peersNamed(names ...string) []*config.Peer {
	peers := make([]*config.Peer, len(names))
	for n, name := range names {
		peers[n] = &config.Peer{Name: name, PublicKey: keys.PublicKey{byte(n), byte(n >> 8), 1}}
	}
	return peers
}

// states answers with one state for each peer of peersNamed.
func states(all ...tunnel.State) func(keys.PublicKey) tunnel.State {
	return func(k keys.PublicKey) tunnel.State { return all[int(k[0])|int(k[1])<<8] }
}

func TestLog_upLostRecovered(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	c := New(zap.New(core))
	now := time.Unix(1e9, 0)
	peers := peersNamed("berlin", "paris")
	for _, step := range []struct {
		berlin, paris tunnel.State
		want          string
	}{
		{tunnel.StateConnecting, tunnel.StateIdle, ""},
		{tunnel.StateUp, tunnel.StateIdle, "session up berlin"},
		{tunnel.StateUp, tunnel.StateDown, ""}, // was never up
		{tunnel.StateIdle, tunnel.StateUp, "session up paris"},
		// One peer was idle, the other may still come back.
		{tunnel.StateUp, tunnel.StateConnecting, ""},
		{tunnel.StateDown, tunnel.StateUp, "session lost berlin"},
		{tunnel.StateDown, tunnel.StateUp, ""},
		{tunnel.StateUp, tunnel.StateUp, "session recovered berlin 20s"},
	} {
		now = now.Add(10 * time.Second)
		c.Look(peers, states(step.berlin, step.paris), now)
		var said []string
		for _, e := range logs.TakeAll() {
			line := e.Message + " " + fmt.Sprint(e.ContextMap()["peer"])
			if after, ok := e.ContextMap()["after"]; ok {
				line += " " + fmt.Sprint(after)
			}
			said = append(said, line)
		}
		if got := strings.Join(said, "; "); got != step.want {
			t.Errorf("%s, %s: said %q, want %q", step.berlin, step.paris, got, step.want)
		}
	}
}

func TestLog_isBounded(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	c := New(zap.New(core))
	names := make([]string, 1000)
	up, down := make([]tunnel.State, len(names)), make([]tunnel.State, len(names))
	for n := range names {
		names[n], up[n], down[n] = fmt.Sprint("peer", n), tunnel.StateUp, tunnel.StateDown
	}
	peers, now := peersNamed(names...), time.Unix(1e9, 0)
	for n := range 20 { // an uplink that comes and goes
		c.Look(peers, states([][]tunnel.State{up, down}[n%2]...), now)
		now = now.Add(2 * time.Second)
	}
	if got := logs.Len(); got != maxLines {
		t.Errorf("%d lines in a minute, want %d", got, maxLines)
	}
	c.Look(peers, states(down...), now.Add(time.Minute))
	if e := logs.All()[maxLines]; e.ContextMap()["changes"] != int64(20*len(names)-maxLines) {
		t.Errorf("then %q %v, want how many more there were", e.Message, e.ContextMap())
	}
	c.Look(nil, nil, now)
	if len(c.peers) != 0 {
		t.Errorf("%d peers of an old configuration are remembered", len(c.peers))
	}
}

func TestSummary_followsReality(t *testing.T) {
	t.Parallel()
	all := func(s tunnel.State, n int) []tunnel.State {
		list := make([]tunnel.State, n)
		for i := range list {
			list[i] = s
		}
		return list
	}
	for _, test := range []struct {
		states []tunnel.State
		want   string
	}{
		{nil, "port 1, 0 peers"},
		{all(tunnel.StateUp, 1), "port 1, 1 peer: 1 up"},
		{all(tunnel.StateUp, 2), "port 1, 2 peers: 2 up"},
		{append(all(tunnel.StateUp, 1), tunnel.StateDown, tunnel.StateIdle), "port 1, 3 peers: 1 up, 1 idle, 1 down (b)"},
		{all(tunnel.StateDown, 5), "port 1, 5 peers: 5 down (a, b, c, …)"},
	} {
		peers := peersNamed("a", "b", "c", "d", "e")[:len(test.states)]
		if got := Summary(peers, states(test.states...), 1); got != test.want {
			t.Errorf("%v: %q, want %q", test.states, got, test.want)
		}
	}
}

func TestLog_isWhatTheManualSays(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/tund.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := strings.Join(strings.Fields(string(text)), " ")
	for _, want := range []string{
		fmt.Sprintf("looked at every %d seconds", int(interval.Seconds())),
		fmt.Sprintf("at most %d lines a minute", maxLines),
		"`" + Summary(peersNamed("a", "b", "berlin"), states(tunnel.StateUp, tunnel.StateUp, tunnel.StateDown), 51820) + "`",
	} {
		if !strings.Contains(manual, want) {
			t.Errorf("docs/tund.md does not say %q", want)
		}
	}
}
