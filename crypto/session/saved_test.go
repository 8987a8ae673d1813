package session

import (
	"fmt"
	"strings"
	"testing"

	"tund/crypto/aead"
	"tund/crypto/replay"
	"tund/crypto/wire"
)

// across sends one message from a to b and reports whether b accepts it.
func across(t *testing.T, a, b *Session, msg []byte) bool {
	t.Helper()
	var sc Scratch
	if msg == nil {
		msg = message(t, a)
	}
	into := make([]byte, len(msg))
	if _, ok := b.Open(into, msg, &sc); !ok {
		t.Fatal("message does not open")
	}
	b.LockReceive()
	defer b.UnlockReceive()
	return b.Accept(wire.TransportCounter(msg))
}

func message(t *testing.T, s *Session) []byte {
	t.Helper()
	counter, ok := s.Reserve(1)
	if !ok {
		t.Fatal("no counter")
	}
	msg := make([]byte, wire.TransportOverhead+16)
	s.Seal(msg, counter, make([]byte, 16), new(Scratch))
	return msg
}

func TestSave_theSessionGoesOnElsewhereAndNowhereElse(t *testing.T) {
	t.Parallel()
	a, b := ends()
	savedGoesOn(t, a, b)
	one, two := [32]byte{1}, [32]byte{2}
	savedGoesOn(t, NewData(aead.AES256GCM, &one, &two, 1, 2, true), NewData(aead.AES256GCM, &two, &one, 2, 1, false))
}

func savedGoesOn(t *testing.T, a, b *Session) {
	t.Helper()
	late := message(t, a)
	old := message(t, b)
	across(t, b, a, old)
	saved, ok := a.Save()
	if !ok {
		t.Fatal("cannot be saved")
	}
	if _, ok := a.Reserve(1); ok {
		t.Error("the saved session still sends")
	}
	if _, ok := a.Save(); ok {
		t.Error("saved twice")
	}
	continued, err := Continue(saved)
	if err != nil {
		t.Fatal(err)
	}
	if continued.Sent() <= saved.Sent || continued.Initiator() != a.Initiator() || continued.LocalIndex() != a.LocalIndex() ||
		continued.Suite() != a.Suite() {
		t.Errorf("continued with %d sent, was %d", continued.Sent(), saved.Sent)
	}
	if across(t, b, continued, old) {
		t.Error("a datagram from before is accepted again")
	}
	for range 100 {
		if !across(t, continued, b, nil) || !across(t, b, continued, nil) {
			t.Fatal("a message is refused")
		}
	}
	if !across(t, a, b, late) {
		t.Error("what was sent before and arrives late is refused")
	}
}

func TestContinue_refuses(t *testing.T) {
	t.Parallel()
	a, _ := ends()
	good, _ := a.Save()
	for name, change := range map[string]func(*Saved){
		"another cipher":          func(s *Saved) { s.Suite = "rot13" },
		"no counters left":        func(s *Saved) { s.Sent = RejectAfterMessages - 1 },
		"a window of other size":  func(s *Saved) { s.Window.Ring = s.Window.Ring[1:] },
		"a window past its limit": func(s *Saved) { s.Window.Highest = replay.Limit },
	} {
		s := *good
		change(&s)
		if _, err := Continue(&s); err == nil {
			t.Errorf("%s: continued", name)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", *good, good, *good, good); strings.Count(text, "(hidden)") != 4 {
		t.Errorf("prints %s", text)
	}
	good.Zero()
	if good.Send != [32]byte{} || good.Receive != [32]byte{} {
		t.Error("Zero leaves a key")
	}
}
