package timers

import (
	"testing"
	"time"

	"tund/internal/boottime"
)

const start = boottime.Time(1_000_000_000_000)

func at(d time.Duration) boottime.Time { return start.Add(d) }

// run performs nothing and returns, for each instant at which something was due until limit, what
// it was.
func run(t *Timers, limit time.Duration, react func(boottime.Time, Actions)) map[time.Duration]Actions {
	out := map[time.Duration]Actions{}
	for {
		next, ok := t.Next()
		if !ok || next > at(limit) {
			return out
		}
		a := t.Due(next)
		out[next.Sub(start)] |= a
		if react != nil {
			react(next, a)
		}
	}
}

func TestTimers_handshakeRetriesEveryFiveSecondsForNinetyThenGivesUp(t *testing.T) {
	t.Parallel()
	var tm Timers
	tm.restart()
	tm.HandshakeInitiated(start, 0)
	sent := 1
	fired := run(&tm, 20*time.Minute, func(now boottime.Time, a Actions) {
		if a&SendInitiation != 0 {
			if a&ClearSource == 0 {
				t.Error("a retry keeps the source address that may be to blame")
			}
			sent++
			tm.HandshakeInitiated(now, 0)
		}
	})
	if sent != 1+MaxHandshakeAttempts {
		t.Errorf("%d initiations, want %d", sent, 1+MaxHandshakeAttempts)
	}
	if got := fired[95*time.Second]; got != GiveUp {
		t.Errorf("at 95 s: %b, want GiveUp", got)
	}
	if got := fired[95*time.Second+ZeroKeysAfter]; got != ZeroKeys {
		t.Errorf("540 s after giving up: %b, want ZeroKeys", got)
	}
	if !tm.GaveUp() {
		t.Error("GaveUp is false")
	}
	tm.restart()
	if tm.GaveUp() || tm.attempts != 0 {
		t.Error("a new wish for a handshake does not start anew")
	}
}

func TestTimers_retryWaitsForItsJitter(t *testing.T) {
	t.Parallel()
	var tm Timers
	tm.HandshakeInitiated(start, 300*time.Millisecond)
	if a := tm.Due(at(5200 * time.Millisecond)); a != 0 {
		t.Errorf("due before the jitter: %b", a)
	}
	if a := tm.Due(at(5300 * time.Millisecond)); a&SendInitiation == 0 {
		t.Errorf("not due after the jitter: %b", a)
	}
}

func TestTimers_dataReceivedIsAnsweredAfterTenSecondsOfOurSilence(t *testing.T) {
	t.Parallel()
	var tm Timers
	tm.AuthenticatedReceived(at(0))
	tm.DataReceived(at(0))
	if next, _ := tm.Next(); next != at(10*time.Second) {
		t.Fatalf("next = %v", next.Sub(start))
	}
	if a := tm.Due(at(10 * time.Second)); a != SendKeepalive {
		t.Errorf("due %b, want SendKeepalive", a)
	}
	tm.AuthenticatedSent(at(10 * time.Second))
	if _, ok := tm.Next(); ok {
		t.Error("something is still pending after the keepalive")
	}
}

func TestTimers_moreDataBeforeTheKeepaliveAsksForOneMore(t *testing.T) {
	t.Parallel()
	var tm Timers
	tm.DataReceived(at(0))
	tm.DataReceived(at(time.Second))
	fired := run(&tm, time.Hour, nil)
	if len(fired) != 2 || fired[10*time.Second] != SendKeepalive || fired[20*time.Second] != SendKeepalive {
		t.Errorf("fired %v, want keepalives at 10 s and 20 s", fired)
	}
}

func TestTimers_anythingSentCancelsThePassiveKeepalive(t *testing.T) {
	t.Parallel()
	var tm Timers
	tm.DataReceived(at(0))
	tm.AuthenticatedSent(at(9 * time.Second))
	if a := tm.Due(at(30 * time.Second)); a != 0 {
		t.Errorf("due %b", a)
	}
}

func TestTimers_keepalivesDoNotAnswerKeepalives(t *testing.T) {
	t.Parallel()
	var tm Timers
	tm.AuthenticatedReceived(at(0)) // a keepalive: authenticated, no data
	if _, ok := tm.Next(); ok {
		t.Error("a received keepalive arms a timer")
	}
	tm.AuthenticatedSent(at(0))
	if _, ok := tm.Next(); ok {
		t.Error("a sent keepalive arms a timer")
	}
}

func TestTimers_unansweredDataStartsAHandshakeAfterFifteenSeconds(t *testing.T) {
	t.Parallel()
	var tm Timers
	tm.DataSent(at(0))
	tm.DataSent(at(14 * time.Second)) // later data does not push it back
	if a := tm.Due(at(15*time.Second - 1)); a != 0 {
		t.Errorf("early: %b", a)
	}
	if a := tm.Due(at(15 * time.Second)); a != SendInitiation|ClearSource|Unanswered {
		t.Errorf("due %b", a)
	}
	tm.DataSent(at(20 * time.Second))
	tm.AuthenticatedReceived(at(21 * time.Second))
	if a := tm.Due(at(60 * time.Second)); a != 0 {
		t.Errorf("answered data still counts: %b", a)
	}
}

func TestTimers_persistentKeepaliveOnlyInSilence(t *testing.T) {
	t.Parallel()
	var tm Timers
	tm.SetPersistent(25*time.Second, at(0))
	tm.AuthenticatedSent(at(20 * time.Second))
	if a := tm.Due(at(25 * time.Second)); a != 0 {
		t.Errorf("sent although traffic flowed: %b", a)
	}
	if a := tm.Due(at(45 * time.Second)); a != SendKeepalive {
		t.Errorf("due %b", a)
	}
	if next, _ := tm.Next(); next != at(70*time.Second) {
		t.Errorf("next at %v, want 70 s", next.Sub(start))
	}
	tm.SetPersistent(0, at(46*time.Second))
	if _, ok := tm.Next(); ok {
		t.Error("pending after it was turned off")
	}
}

func TestTimers_keysAreZeroed540SecondsAfterTheNewestSession(t *testing.T) {
	t.Parallel()
	var tm Timers
	tm.SessionDerived(at(0), 0)
	tm.SessionDerived(at(120*time.Second), 0)
	fired := run(&tm, time.Hour, nil)
	if len(fired) != 1 || fired[660*time.Second] != ZeroKeys {
		t.Errorf("fired %v", fired)
	}
}

func TestTimers_hooksOfLanesDoNotAllocate(t *testing.T) {
	var tm Timers
	n := testing.AllocsPerRun(100, func() {
		tm.DataSent(start)
		tm.DataReceived(start)
		tm.AuthenticatedSent(start)
		tm.AuthenticatedReceived(start)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
