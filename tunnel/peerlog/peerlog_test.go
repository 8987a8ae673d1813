package peerlog

import (
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"tund/crypto/keys"
	"tund/internal/boottime"
	"tund/tunnel/peer"
)

const start = boottime.Time(time.Hour)

var somewhere = netip.MustParseAddrPort("192.0.2.1:51820")

// observed returns a Log and what it writes. settle writes what waits.
func observed() (l *Log, lines *observer.ObservedLogs, settle func()) {
	core, lines := observer.New(zapcore.InfoLevel)
	l = New(zap.New(core))
	return l, lines, func() {
		for len(l.events) > 0 {
			(<-l.events)()
		}
	}
}

// count returns a field of the last line, 0 when it is not there.
func count(lines *observer.ObservedLogs, field string) uint64 {
	all := lines.All()
	n, _ := all[len(all)-1].ContextMap()[field].(uint64)
	return n
}

// A peer that moves with each datagram is written down once a minute, with a count of the others.
func TestMoved_isLimitedByPeer(t *testing.T) {
	t.Parallel()
	l, lines, settle := observed()
	flapping, other := peer.New(keys.PublicKey{1}), peer.New(keys.PublicKey{2})
	wall := time.Unix(1000, 0)
	for i := range 2000 {
		l.Moved(flapping, somewhere, start.Add(time.Duration(i)*time.Millisecond), wall)
		settle()
	}
	if n := lines.Len(); n != 1 {
		t.Errorf("%d lines for 2,000 moves in 2 s, want 1", n)
	}
	l.Moved(other, somewhere, start.Add(2*time.Second), wall)
	settle()
	if n := lines.Len(); n != 2 {
		t.Errorf("%d lines, want one about the other peer as well", n)
	}
	l.Moved(flapping, somewhere, start.Add(time.Minute), wall)
	settle()
	if n := count(lines, "suppressed"); lines.Len() != 3 || n != 1999 {
		t.Errorf("%d lines, and the last stands for %d more; want 3, 1999", lines.Len(), n)
	}
	if got := flapping.Status(start, wall).Roamed; !got.Equal(wall) {
		t.Errorf("status has the last move at %v, want %v", got, wall)
	}
}

// Ten thousand peers that move, fail or change the switch at once do not write ten thousand lines.
func TestLog_allPeersTogetherHaveABudget(t *testing.T) {
	t.Parallel()
	for name, say := range map[string]func(*Log, *peer.Peer, boottime.Time){
		"moved":    func(l *Log, p *peer.Peer, now boottime.Time) { l.Moved(p, somewhere, now, time.Unix(1, 0)) },
		"failed":   func(l *Log, p *peer.Peer, now boottime.Time) { l.Peer(p, now, "handshake failed") },
		"Ethernet": func(l *Log, p *peer.Peer, now boottime.Time) { l.Ethernet("p", now, "standby") },
	} {
		l, lines, settle := observed()
		for i := range 10_000 {
			say(l, peer.New(keys.PublicKey{byte(i), byte(i >> 8)}), start)
			settle()
		}
		if n := lines.Len(); n != burst {
			t.Errorf("%s: %d lines at once, want %d", name, n, burst)
		}
		say(l, peer.New(keys.PublicKey{0, 0, 1}), start.Add(time.Hour))
		settle()
		if n := count(lines, "suppressed_others"); n != 10_000-burst {
			t.Errorf("%s: the next line stands for %d others, want %d", name, n, 10_000-burst)
		}
	}
}

// Whoever finds a message that makes us panic fills no disk with stacks.
func TestBug_isLimited(t *testing.T) {
	t.Parallel()
	l, lines, settle := observed()
	for i := range 10_000 {
		l.Bug(start.Add(time.Duration(i)*time.Millisecond), "handshake worker", "broken")
		settle()
	}
	if n := lines.Len(); n != bugBurst {
		t.Errorf("%d lines for 10,000 panics in 10 s, want %d", n, bugBurst)
	}
}
