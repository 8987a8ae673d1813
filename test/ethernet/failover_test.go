package ethernet

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

// Every way in which the gateway in use can end, one after the other within three minutes: the
// other takes over in time, the first is used again once it is back, and no host is frozen.
func TestSoakFailover_everyWayAGatewayEnds(t *testing.T) {
	testnet.Soak(t)
	alone(t)
	w := newWAN(t)
	berlin, rome, first, second := w.site("berlin"), w.site("rome"), w.site("first"), w.site("second")
	mesh(berlin, rome, first, second)
	a, b, c := berlin.host(1), first.host(2), rome.host(3)
	backDoor(t, first, second)
	start(t, berlin, rome, first, second)
	for _, s := range []*site{berlin, rome} {
		testnet.Await(t, "one gateway to be blocked", 5*time.Second, func() bool { return s.Lines("loop", "blocked") > 0 })
	}
	b.datagrams("udp4", 7, "").echo()
	observers := []*datagrams{a.datagrams("udp4", 0, ""), c.datagrams("udp4", 0, "")}
	answered := func(began time.Time) (took time.Duration) {
		for _, o := range observers {
			took = max(took, answersAfter(t, o, b, began, 30*time.Second))
		}
		return took
	}
	answered(time.Now())
	active := first
	if berlin.where(b.mac, 0) == "second" {
		active = second
	}
	uplink := strings.Fields(active.NS.Run(t, "ip", "-o", "-4", "address", "show", "to", active.addr))[1]
	for _, end := range []struct {
		name     string
		limit    time.Duration
		do, undo func()
	}{
		{"SIGTERM", 500 * time.Millisecond, active.Stop, active.start},
		{"SIGKILL", 3 * time.Second, active.Kill, active.start},
		{"uplink down", 3 * time.Second,
			func() { active.NS.Run(t, "ip", "link", "set", uplink, "down") },
			func() { active.NS.Run(t, "ip", "link", "set", uplink, "up") }},
		{"SIGSTOP", 3 * time.Second,
			func() { active.Process.Signal(syscall.SIGSTOP) }, func() { active.Process.Signal(syscall.SIGCONT) }},
		{"SIGKILL again", 3 * time.Second, active.Kill, active.start},
	} {
		began := time.Now()
		end.do()
		if end.name == "SIGTERM" {
			began = time.Now() // what counts is the time in which nobody carries the frames
		}
		took := answered(began)
		t.Logf("%s: answered after %v", end.name, took.Round(10*time.Millisecond))
		if took > slowly(end.limit) {
			t.Errorf("%s: answered after %v, want at most %v", end.name, took, end.limit)
		}
		end.undo()
		testnet.Await(t, end.name+": the gateway to be used again", 30*time.Second, func() bool {
			answered(time.Now())
			return berlin.where(b.mac, 0) == active.Name && rome.where(b.mac, 0) == active.Name
		})
		if took := answered(time.Now()); took > slowly(3*time.Second) {
			t.Errorf("%s: answered after %v when the gateway was back", end.name, took)
		}
		pause(5 * time.Second)
	}
	for _, s := range []*site{berlin, rome, first, second} {
		if n := s.Lines("frozen"); n > 0 {
			t.Errorf("%s has frozen %d addresses", s.Name, n)
		}
	}
}
