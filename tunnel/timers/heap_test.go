package timers

import (
	"testing"
	"time"
)

func TestHeap_onlyAnEarlierDeadlineMovesIt(t *testing.T) {
	t.Parallel()
	type owner struct{ d Deadline[owner] }
	kicks := 0
	h := NewHeap[owner](func() { kicks++ })
	var a, b owner
	a.d.Owner, b.d.Owner = &a, &b
	h.Arm(&a.d, at(10*time.Second))
	h.Arm(&b.d, at(3*time.Second))
	h.Arm(&b.d, at(4*time.Second))
	h.Arm(&a.d, at(time.Second))
	if kicks != 3 {
		t.Errorf("the earliest deadline moved forward %d times, want 3", kicks)
	}
	if o, sleep := h.Next(start); o != nil || sleep != time.Second {
		t.Errorf("before the first: %p, %v; want to sleep 1 s", o, sleep)
	}
	for i, want := range []*owner{&a, &b, nil} {
		if o, _ := h.Next(at(3 * time.Second)); o != want {
			t.Errorf("number %d is %p, want %p", i, o, want)
		}
	}
	h.Arm(&a.d, at(time.Hour))
	if _, sleep := h.Next(start); sleep != maxSleep {
		t.Errorf("sleeps %v at once, want at most %v", sleep, maxSleep)
	}
	h.Remove(&a.d)
	h.Arm(&a.d, start)
	if h.Len() != 0 {
		t.Error("what was removed is armed again")
	}
}

func TestTimers_handshakesAreRekeyTimeoutApart(t *testing.T) {
	t.Parallel()
	var tm Timers
	if when, arm := tm.WantHandshake(start); when != start || !arm {
		t.Errorf("the first may begin at %v, %v", when.Sub(start), arm)
	}
	if _, arm := tm.WantHandshake(start); arm {
		t.Error("a second wish is told as well")
	}
	if a := tm.Due(start); a != SendInitiation {
		t.Errorf("due %b, want SendInitiation", a)
	}
	tm.HandshakeInitiated(start, 0)
	if _, arm := tm.WantHandshake(at(time.Second)); arm {
		t.Error("a wish while a response is awaited")
	}
	tm.HandshakeComplete()
	if when, arm := tm.WantHandshake(at(time.Second)); when != at(RekeyTimeout) || !arm {
		t.Errorf("the next may begin after %v, %v; want %v", when.Sub(start), arm, RekeyTimeout)
	}
	if tm.RenewOnReceive(true, RekeyBeforeReject-1) || tm.RenewOnReceive(false, RejectAfterTime) {
		t.Error("renews on receive too early, or as the responder")
	}
	if !tm.RenewOnReceive(true, RekeyBeforeReject) || tm.RenewOnReceive(true, RekeyBeforeReject) {
		t.Error("renews on receive not once")
	}
}
