package noise

import (
	"bytes"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/crypto/wire"
	"tund/internal/boottime"
)

const (
	second = boottime.Time(time.Second)
	start  = 1000 * second
)

var source = netip.MustParseAddrPort("192.0.2.7:51820")

// handshakes returns an initiation of a and the response of b, macs left zero.
func handshakes(t testing.TB, a, b side) map[string][]byte {
	t.Helper()
	_, m1 := initiate(t, a)
	_, m2 := respond(t, b, keys.PresharedKey{}, m1[:])
	return map[string][]byte{"initiation": m1[:], "response": m2[:]}
}

func TestMAC1Checker_noticesEveryChangedByte(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	checker := NewMAC1Checker(b.id)
	for name, msg := range handshakes(t, a, b) {
		NewMacs(a.remote).Add(msg, start)
		if !checker.Valid(msg) {
			t.Fatalf("%s: refused", name)
		}
		for i := range len(msg) - wire.MACSize {
			msg[i] ^= 1
			if checker.Valid(msg) {
				t.Errorf("%s: byte %d changed and accepted", name, i)
			}
			msg[i] ^= 1
		}
		msg[len(msg)-1] ^= 1 // mac2 is not covered
		if !checker.Valid(msg) {
			t.Errorf("%s: mac1 depends on mac2", name)
		}
		for _, n := range []int{0, 1, 31, 32, 64, len(msg) - 1} {
			if checker.Valid(msg[:n]) {
				t.Errorf("%s: %d bytes accepted", name, n)
			}
		}
	}
	for _, other := range [][]byte{{3, 63: 0}, {4, 147: 0}, {4, 91: 0}, nil} {
		if checker.Valid(other) {
			t.Errorf("%d bytes of type %v accepted", len(other), other[:min(1, len(other))])
		}
	}
}

func TestMAC1Checker_doesNotAllocate(t *testing.T) {
	a, b := pair(t)
	checker := NewMAC1Checker(b.id)
	for name, msg := range handshakes(t, a, b) {
		NewMacs(a.remote).Add(msg, start)
		if got := testing.AllocsPerRun(100, func() {
			if !checker.Valid(msg) {
				t.Fatal("refused")
			}
		}); got != 0 {
			t.Errorf("%s: %v allocations, want 0", name, got)
		}
	}
}

// cookieRun sends msg without a cookie, takes the reply, and sends it again, now with one.
func cookieRun(t *testing.T, macs *Macs, checker *CookieChecker, msg []byte, now boottime.Time) {
	t.Helper()
	macs.Add(msg, now)
	var reply [wire.CookieReplySize]byte
	if err := checker.Reply(&reply, msg, source, now); err != nil {
		t.Fatal(err)
	}
	if typ, ok := wire.Kind(reply[:]); !ok || typ != wire.TypeCookieReply {
		t.Fatalf("not a cookie reply: %x", reply)
	}
	if got, want := wire.CookieReplyReceiver(reply[:]), wire.Sender(msg); got != want {
		t.Fatalf("cookie reply for %#x, want %#x", got, want)
	}
	if err := macs.ConsumeReply(reply[:], now); err != nil {
		t.Fatal(err)
	}
	macs.Add(msg, now)
}

func TestCookie_isAskedForGivenAndReturned(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for name, msg := range handshakes(t, a, b) {
		macs, checker := NewMacs(a.remote), NewCookieChecker(b.id)
		macs.Add(msg, start)
		if !bytes.Equal(wire.MAC2(msg), make([]byte, 16)) {
			t.Errorf("%s: a mac2 without a cookie", name)
		}
		if checker.ValidMAC2(msg, source, start) {
			t.Errorf("%s: no mac2, and valid", name)
		}
		cookieRun(t, macs, checker, msg, start)
		if !checker.ValidMAC2(msg, source, start) {
			t.Errorf("%s: mac2 with the right cookie refused", name)
		}
		if !NewMAC1Checker(b.id).Valid(msg) {
			t.Errorf("%s: mac1 is wrong when there is a mac2", name)
		}
		for i := range msg {
			msg[i] ^= 1
			if checker.ValidMAC2(msg, source, start) {
				t.Errorf("%s: byte %d changed and mac2 valid", name, i)
			}
			msg[i] ^= 1
		}
		if checker.ValidMAC2(msg[:64], source, start) || checker.ValidMAC2(nil, source, start) {
			t.Errorf("%s: a piece of it is valid", name)
		}
		if NewCookieChecker(b.id).ValidMAC2(msg, source, start) {
			t.Errorf("%s: valid for a checker with another secret", name)
		}
	}
}

func TestCookie_bindsAddressAndPort(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	_, m := initiate(t, a)
	macs, checker := NewMacs(a.remote), NewCookieChecker(b.id)
	cookieRun(t, macs, checker, m[:], start)
	for text, want := range map[string]bool{
		"192.0.2.7:51820":          true,
		"[::ffff:192.0.2.7]:51820": true, // the same address as a dual-stack socket writes it
		"192.0.2.7:51821":          false,
		"192.0.2.7:20":             false,
		"192.0.2.8:51820":          false,
		"[::c000:207]:51820":       false,
		"[2001:db8::1]:51820":      false,
	} {
		if got := checker.ValidMAC2(m[:], netip.MustParseAddrPort(text), start); got != want {
			t.Errorf("from %s: valid %t, want %t", text, got, want)
		}
	}
}

func TestCookie_ages(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	_, m := initiate(t, a)
	zero := make([]byte, 16)
	for _, tt := range []struct {
		after time.Duration
		sent  bool // the sender still uses it
		valid bool // the receiver would still take it
	}{
		{0, true, true},
		{115*time.Second - 1, true, true},
		{115 * time.Second, false, true},
		{120*time.Second - 1, false, true},
		{120 * time.Second, false, false},
		{100 * time.Hour, false, false},
	} {
		macs, checker := NewMacs(a.remote), NewCookieChecker(b.id)
		cookieRun(t, macs, checker, m[:], start)
		later := start.Add(tt.after)
		if got := checker.ValidMAC2(m[:], source, later); got != tt.valid {
			t.Errorf("after %v: valid %t, want %t", tt.after, got, tt.valid)
		}
		macs.Add(m[:], later)
		if got := !bytes.Equal(wire.MAC2(m[:]), zero); got != tt.sent {
			t.Errorf("after %v: sent %t, want %t", tt.after, got, tt.sent)
		}
	}
}

func TestCookieChecker_secretRotatesOnlyWhenOld(t *testing.T) {
	t.Parallel()
	_, b := pair(t)
	c := NewCookieChecker(b.id)
	first := c.cookie(source, 0) // the clock may read anything at the first call
	if c.cookie(source, 119*second) != first {
		t.Error("another cookie within 120 s")
	}
	second1 := c.cookie(source, 120*second)
	if second1 == first {
		t.Error("the same cookie after 120 s")
	}
	if c.cookie(source, 239*second) != second1 {
		t.Error("the age of the second secret is not counted from its birth")
	}
}

func TestMacs_takesOneReplyToItsLastMessage(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	_, old := initiate(t, a)
	_, m := initiate(t, a)
	macs, checker := NewMacs(a.remote), NewCookieChecker(b.id)
	var reply [wire.CookieReplySize]byte
	if err := checker.Reply(&reply, m[:], source, start); err != nil {
		t.Fatal(err)
	}
	if err := macs.ConsumeReply(reply[:], start); !errors.Is(err, ErrCookie) {
		t.Errorf("before the first message: %v, want ErrCookie", err)
	}
	macs.Add(old[:], start)
	macs.Add(m[:], start)
	if err := checker.Reply(&reply, old[:], source, start); err != nil {
		t.Fatal(err)
	}
	if err := macs.ConsumeReply(reply[:], start); !errors.Is(err, ErrCookie) {
		t.Errorf("reply to an older message: %v, want ErrCookie", err)
	}
	if err := checker.Reply(&reply, m[:], source, start); err != nil {
		t.Fatal(err)
	}
	before := *macs
	for i := range reply {
		if i >= 4 && i < 8 {
			continue // the receiver index is for whoever finds the Macs
		}
		reply[i] ^= 0x20
		want := ErrCookie
		if i < 4 {
			want = ErrMalformed
		}
		if err := macs.ConsumeReply(reply[:], start); !errors.Is(err, want) {
			t.Errorf("byte %d changed: %v, want %v", i, err, want)
		}
		reply[i] ^= 0x20
	}
	if *macs != before {
		t.Error("a forged reply has changed something")
	}
	if err := NewCookieChecker(a.id).Reply(&reply, m[:], source, start); err != nil {
		t.Fatal(err)
	}
	if err := macs.ConsumeReply(reply[:], start); !errors.Is(err, ErrCookie) {
		t.Errorf("reply of another peer: %v, want ErrCookie", err)
	}
	if err := checker.Reply(&reply, m[:], source, start); err != nil {
		t.Fatal(err)
	}
	if err := macs.ConsumeReply(reply[:], start); err != nil {
		t.Errorf("the true reply: %v", err)
	}
	if err := macs.ConsumeReply(reply[:], start); !errors.Is(err, ErrCookie) {
		t.Errorf("the same reply again: %v, want ErrCookie", err)
	}
}

func TestCookieChecker_repliesToHandshakesOnly(t *testing.T) {
	t.Parallel()
	_, b := pair(t)
	c := NewCookieChecker(b.id)
	for _, msg := range [][]byte{nil, {3, 63: 0}, {4, 147: 0}, {1, 146: 0}, {2, 92: 0}} {
		var reply [wire.CookieReplySize]byte
		if err := c.Reply(&reply, msg, source, start); !errors.Is(err, ErrMalformed) || reply != ([64]byte{}) {
			t.Errorf("%d bytes: %v, want ErrMalformed and no reply", len(msg), err)
		}
	}
}

func TestCookieChecker_isSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	_, m := initiate(t, a)
	checker := NewCookieChecker(b.id)
	cookieRun(t, NewMacs(a.remote), checker, m[:], start)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				var reply [wire.CookieReplySize]byte
				if err := checker.Reply(&reply, m[:], source, start); err != nil {
					t.Error(err)
				}
				if !checker.ValidMAC2(m[:], source, start) {
					t.Error("refused")
				}
			}
		})
	}
	wg.Wait()
}
