package session

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"tund/crypto/aead"
	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/wire"
)

// hexBytes reads a hex string of a test data file.
type hexBytes []byte

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

func load(t testing.TB, file string, into any) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// capture is the transport data of one session of the kernel's WireGuard.
type capture struct {
	Name           string
	InitiatorSends hexBytes `json:"initiator_sends"`
	ResponderSends hexBytes `json:"responder_sends"`
	InitiatorIndex uint32   `json:"initiator_index"`
	ResponderIndex uint32   `json:"responder_index"`
	Messages       []struct {
		FromInitiator      bool `json:"from_initiator"`
		Message, Plaintext hexBytes
	}
}

func (c *capture) sessions() (initiator, responder *Session) {
	a, b := [32]byte(c.InitiatorSends), [32]byte(c.ResponderSends)
	initiator = New(&noise.Keys{Send: a, Receive: b, LocalIndex: c.InitiatorIndex, RemoteIndex: c.ResponderIndex, Initiator: true})
	responder = New(&noise.Keys{Send: b, Receive: a, LocalIndex: c.ResponderIndex, RemoteIndex: c.InitiatorIndex})
	return initiator, responder
}

// ends returns the two ends of one session.
func ends() (a, b *Session) {
	c := capture{InitiatorSends: bytes.Repeat([]byte{1}, 32), ResponderSends: bytes.Repeat([]byte{2}, 32), InitiatorIndex: 11, ResponderIndex: 22}
	return c.sessions()
}

func accept(s *Session, counter uint64) bool {
	s.LockReceive()
	defer s.UnlockReceive()
	return s.Accept(counter)
}

func TestSession_reproducesCapturesOfTheKernel(t *testing.T) {
	t.Parallel()
	var captures []capture
	load(t, "transport.json", &captures)
	total := 0
	for _, c := range captures {
		initiator, responder := c.sessions()
		for i, m := range c.Messages {
			total++
			from, to := initiator, responder
			if !m.FromInitiator {
				from, to = responder, initiator
			}
			if got := wire.TransportReceiver(m.Message); got != to.LocalIndex() || got != from.remote {
				t.Errorf("%s, message %d: for %#x, want %#x", c.Name, i, got, to.LocalIndex())
			}
			counter := wire.TransportCounter(m.Message)
			sealed := make([]byte, len(m.Message))
			if n := from.Seal(sealed, counter, m.Plaintext, new(Scratch)); n != len(sealed) || !bytes.Equal(sealed, m.Message) {
				t.Errorf("%s, message %d: sealed %x (%d), want %x", c.Name, i, sealed, n, []byte(m.Message))
			}
			opened := make([]byte, len(m.Plaintext))
			if n, ok := to.Open(opened, m.Message, new(Scratch)); !ok || n != len(opened) || !bytes.Equal(opened, m.Plaintext) {
				t.Errorf("%s, message %d: opened %x (%d, %t), want %x", c.Name, i, opened, n, ok, []byte(m.Plaintext))
			}
			if !accept(to, counter) || accept(to, counter) {
				t.Errorf("%s, message %d: counter %d is not accepted exactly once", c.Name, i, counter)
			}
			if _, ok := from.Open(opened, m.Message, new(Scratch)); ok {
				t.Errorf("%s, message %d: opens with the keys of the other direction", c.Name, i)
			}
		}
	}
	if total != 18 {
		t.Errorf("%d messages, want 18", total)
	}
}

func TestSession_sealedOpensAtEveryLength(t *testing.T) {
	t.Parallel()
	a, b := ends()
	var sc, other Scratch
	plain := make([]byte, 1500)
	for i := range plain {
		plain[i] = byte(i * 7)
	}
	for n := range len(plain) {
		counter, ok := a.Reserve(1)
		if !ok || counter != uint64(n) {
			t.Fatalf("Reserve: %d, %t, want %d", counter, ok, n)
		}
		msg := bytes.Repeat([]byte{0xee}, n+32+8)
		if got := a.Seal(msg, counter, plain[:n], &sc); got != n+32 {
			t.Fatalf("Seal of %d bytes returned %d", n, got)
		}
		if !bytes.Equal(msg[n+32:], bytes.Repeat([]byte{0xee}, 8)) {
			t.Fatalf("Seal of %d bytes wrote past the end", n)
		}
		if typ, ok := wire.Kind(msg[:n+32]); !ok || typ != wire.TypeTransport || wire.TransportReceiver(msg) != b.LocalIndex() || wire.TransportCounter(msg) != counter {
			t.Fatalf("header %x", msg[:16])
		}
		out := bytes.Repeat([]byte{0xdd}, n+8)
		if got, ok := b.Open(out, msg[:n+32], &other); !ok || got != n || !bytes.Equal(out[:n], plain[:n]) {
			t.Fatalf("Open of %d bytes: %d, %t", n, got, ok)
		}
		if !bytes.Equal(out[n:], bytes.Repeat([]byte{0xdd}, 8)) {
			t.Fatalf("Open of %d bytes wrote past the end", n)
		}
	}
	if a.Sent() != uint64(len(plain)) || b.Sent() != 0 {
		t.Errorf("Sent %d and %d, want %d and 0", a.Sent(), b.Sent(), len(plain))
	}
}

func TestSession_forgeriesLeaveZerosAndChangeNothing(t *testing.T) {
	t.Parallel()
	a, b := ends()
	var sc Scratch
	msg := make([]byte, 32+48)
	a.Seal(msg, 5, bytes.Repeat([]byte{7}, 48), &sc)
	out := make([]byte, 48)
	for i := range msg {
		if i < 8 {
			continue // type and receiver index choose the session; a wrong one finds another key
		}
		for bit := range 8 {
			msg[i] ^= 1 << bit
			copy(out, bytes.Repeat([]byte{0xdd}, 48))
			n, ok := b.Open(out, msg, &sc)
			if ok || n != 0 || !bytes.Equal(out, make([]byte, 48)) {
				t.Errorf("byte %d bit %d: %d, %t, left %x", i, bit, n, ok, out)
			}
			msg[i] ^= 1 << bit
		}
	}
	for n := range len(msg) {
		if _, ok := b.Open(out, msg[:n], &sc); ok {
			t.Errorf("%d of %d bytes open", n, len(msg))
		}
	}
	if got, ok := b.Open(out[:47], msg, &sc); ok || got != 0 {
		t.Error("opens into a buffer that is too small")
	}
	if b.Highest() != 0 || !accept(b, 5) {
		t.Error("a forgery has moved the window")
	}
	if n, ok := b.Open(out, msg, &sc); !ok || n != 48 {
		t.Error("the true message does not open")
	}
}

func TestSession_reservesUpToTheLimitAndNoFurther(t *testing.T) {
	t.Parallel()
	a, _ := ends()
	a.sent.Store(RejectAfterMessages - 4)
	if _, ok := a.Reserve(-1); ok {
		t.Error("a negative number of counters")
	}
	if _, ok := a.Reserve(5); ok || a.Sent() != RejectAfterMessages-4 {
		t.Errorf("5 of 4 counters: %t, sent %d", ok, a.Sent())
	}
	for i := range uint64(4) {
		if got, ok := a.Reserve(1); !ok || got != RejectAfterMessages-4+i {
			t.Errorf("counter %d, %t, want %d", got, ok, RejectAfterMessages-4+i)
		}
	}
	for range 10 {
		if _, ok := a.Reserve(1); ok {
			t.Fatal("a counter past the limit")
		}
	}
	if a.Sent() != RejectAfterMessages {
		t.Errorf("Sent() = %d, want %d", a.Sent(), uint64(RejectAfterMessages))
	}
	if !accept(a, RejectAfterMessages-1) || accept(a, RejectAfterMessages) || accept(a, math.MaxUint64) {
		t.Error("the limit does not hold on receive")
	}
}

func TestSession_constants(t *testing.T) {
	t.Parallel()
	if got, want := uint64(RejectAfterMessages), min(uint64(math.MaxUint64)-8128-1, uint64(math.MaxUint64)-1<<13); got != want {
		t.Errorf("RejectAfterMessages = %d, want %d", got, want)
	}
	if got, want := uint64(RekeyAfterMessages), uint64(1)<<60; got != want {
		t.Errorf("RekeyAfterMessages = %d, want %d", got, want)
	}
}

func TestSession_concurrentReservationsNeverMeet(t *testing.T) {
	t.Parallel()
	a, _ := ends()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		used []uint64
	)
	for g := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			var mine []uint64
			for range 500 {
				n := 1 + rnd.IntN(45)
				first, ok := a.Reserve(n)
				if !ok {
					t.Error("refused")
				}
				for i := range n {
					mine = append(mine, first+uint64(i))
				}
			}
			mu.Lock()
			used = append(used, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	slices.Sort(used)
	for i, c := range used {
		if c != uint64(i) {
			t.Fatalf("counter %d at place %d", c, i)
		}
	}
}

func TestSession_zeroEndsEverything(t *testing.T) {
	t.Parallel()
	a, b := ends()
	var sc Scratch
	msg := make([]byte, 64)
	b.Seal(msg, 0, make([]byte, 32), &sc)
	a.Zero()
	a.Zero()
	if _, ok := a.Reserve(1); ok {
		t.Error("Reserve after Zero")
	}
	if _, ok := a.Open(make([]byte, 32), msg, &sc); ok {
		t.Error("Open after Zero")
	}
	out := make([]byte, 64)
	if n := a.Seal(out, 0, make([]byte, 32), &sc); n != 0 || !bytes.Equal(out, make([]byte, 64)) {
		t.Errorf("Seal after Zero: %d, %x", n, out)
	}
	if a.LocalIndex() != 11 || a.remote != 22 || !a.Initiator() || b.Initiator() {
		t.Error("the names are gone")
	}
}

// A session is zeroed while lanes use it: no message may be sealed under another key than its own.
func TestSession_zeroDuringUseIsSafe(t *testing.T) {
	t.Parallel()
	for range 20 {
		a, b := ends()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				sc, plain, msg, out := new(Scratch), make([]byte, 100), make([]byte, 132), make([]byte, 100)
				for {
					c, ok := a.Reserve(1)
					if !ok {
						return
					}
					n := a.Seal(msg, c, plain, sc)
					if n == 0 {
						return
					}
					if _, ok := b.Open(out, msg[:n], sc); !ok {
						t.Error("sealed under a key that is not the session's")
						return
					}
				}
			})
		}
		wg.Go(a.Zero)
		wg.Wait()
	}
}

func TestSession_packetPathDoesNotAllocate(t *testing.T) {
	a, b := ends()
	sc := new(Scratch)
	plain, msg, out := make([]byte, 1424), make([]byte, 1456), make([]byte, 1424)
	if got := testing.AllocsPerRun(200, func() {
		c, ok := a.Reserve(1)
		if !ok || a.Seal(msg, c, plain, sc) != len(msg) {
			t.Fatal("not sealed")
		}
		if _, ok := b.Open(out, msg, sc); !ok {
			t.Fatal("not opened")
		}
		b.LockReceive()
		if !b.Accept(c) || b.Highest() != c {
			t.Fatal("not accepted")
		}
		b.UnlockReceive()
	}); got != 0 {
		t.Errorf("%v allocations a packet, want 0", got)
	}
	msg[20] ^= 1
	if got := testing.AllocsPerRun(200, func() {
		if _, ok := b.Open(out, msg, sc); ok {
			t.Fatal("a forgery opened")
		}
	}); got != 0 {
		t.Errorf("%v allocations a forged packet, want 0", got)
	}
}

func TestSession_printsNothingSecret(t *testing.T) {
	t.Parallel()
	a, _ := ends()
	holder := struct{ S *Session }{a}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		if got := fmt.Sprintf(verb, a); got != keys.Hidden {
			t.Errorf("%s: %q, want %q", verb, got, keys.Hidden)
		}
	}
	if got := fmt.Sprintf("%+v", holder); got != "{S:"+keys.Hidden+"}" {
		t.Errorf("in a struct: %q", got)
	}
	//nolint:staticcheck // SA9005: that nothing of a session is marshalled is what is tested
	if text, err := json.Marshal(a); err != nil || string(text) != "{}" {
		t.Errorf("JSON %s, %v", text, err)
	}
}

func TestSession_dataSessionsOfBothSuites(t *testing.T) {
	t.Parallel()
	for suite, limit := range map[aead.Suite]uint64{
		aead.ChaCha20Poly1305: RekeyAfterMessages, aead.AES256GCM: RekeyAfterMessagesAES,
	} {
		x, y := [32]byte{1}, [32]byte{2}
		a, b := NewData(suite, &x, &y, 3, 4, true), NewData(suite, &y, &x, 4, 3, false)
		if a.Suite() != suite || a.RekeyAfter() != limit || a.LocalIndex() != 3 || !a.Initiator() || b.Initiator() {
			t.Errorf("%v: %v, %d, %d", suite, a.Suite(), a.RekeyAfter(), a.LocalIndex())
		}
		plain, sc := bytes.Repeat([]byte{7}, 1424), new(Scratch)
		msg, out := make([]byte, len(plain)+wire.TransportOverhead), make([]byte, len(plain))
		n := a.Seal(msg, 9, plain, sc)
		if n != len(msg) || wire.TransportReceiver(msg) != 4 || wire.TransportCounter(msg) != 9 {
			t.Errorf("%v: %d bytes, to %d, counter %d", suite, n, wire.TransportReceiver(msg), wire.TransportCounter(msg))
		}
		if n, ok := b.Open(out, msg, sc); !ok || !bytes.Equal(out[:n], plain) {
			t.Errorf("%v: does not open", suite)
		}
		if _, ok := a.Open(out, msg, sc); ok {
			t.Errorf("%v: its sender opens it", suite)
		}
	}
}
