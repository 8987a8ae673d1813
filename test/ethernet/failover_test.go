package ethernet

import (
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

// dialogue is a TCP connection on which something is sent every 10 ms in both directions.
type dialogue struct{ directions [2]direction }

// direction is what one end of a dialogue has received.
type direction struct {
	last, longest atomic.Int64 // when, in Unix time in ns; and the longest pause, in ns
}

// talk begins a dialogue between two hosts that lasts until the test ends.
func talk(t *testing.T, a, b *host) *dialogue {
	t.Helper()
	d := new(dialogue)
	var listener net.Listener
	b.ns.Do(func() {
		var err error
		if listener, err = net.Listen("tcp", b.v4+":0"); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = listener.Close() })
	var ends [2]net.Conn
	a.ns.Do(func() {
		var err error
		if ends[0], err = net.DialTimeout("tcp", listener.Addr().String(), 10*time.Second); err != nil {
			t.Fatalf("connect from %s to %s: %v", a.v4, b.v4, err)
		}
	})
	var err error
	if ends[1], err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	for n, end := range ends {
		heard := &d.directions[n]
		heard.last.Store(time.Now().UnixNano())
		background(t, func() { _, _ = end.Write([]byte("word")); pause(10 * time.Millisecond) })
		background(t, func() {
			if _, err := end.Read(make([]byte, 4096)); err != nil {
				pause(10 * time.Millisecond)
				return
			}
			now := time.Now().UnixNano()
			heard.longest.Store(max(heard.longest.Load(), now-heard.last.Swap(now)))
		})
		t.Cleanup(func() { _ = end.Close() }) // before the goroutines are waited for
	}
	return d
}

// pause is the longest time since forget in which one end heard nothing.
func (d *dialogue) pause() (longest time.Duration) {
	for n := range d.directions {
		heard := &d.directions[n]
		longest = max(longest, time.Duration(heard.longest.Load()), time.Since(time.Unix(0, heard.last.Load())))
	}
	return longest
}

func (d *dialogue) forget() {
	for n := range d.directions {
		d.directions[n].longest.Store(0)
	}
}

// heardSince reports whether both ends have heard something since a moment.
func (d *dialogue) heardSince(t time.Time) bool {
	return d.directions[0].last.Load() > t.UnixNano() && d.directions[1].last.Load() > t.UnixNano()
}

// Every way in which the gateway in use can end, one after the other within three minutes: the
// other takes over in time, the first is used again once it is back, no host is frozen, and TCP
// connections go on.
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
	tcp := talk(t, a, b)
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
		tcp.forget()
		began := time.Now()
		end.do()
		if end.name == "SIGTERM" {
			began = time.Now() // what counts is the time in which nobody carries the frames
		}
		took := answered(began)
		testnet.Await(t, end.name+": TCP goes on", 30*time.Second, func() bool { return tcp.heardSince(began.Add(took)) })
		stalled := tcp.pause()
		t.Logf("%s: answered after %v, TCP paused for %v", end.name, took.Round(10*time.Millisecond), stalled.Round(10*time.Millisecond))
		if took > slowly(end.limit) {
			t.Errorf("%s: answered after %v, want at most %v", end.name, took, end.limit)
		}
		if stalled > slowly(end.limit) {
			t.Errorf("%s: TCP paused for %v, want at most %v", end.name, stalled, end.limit)
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
