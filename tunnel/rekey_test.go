package tunnel

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
)

// newKey gives a another private key, with the present one as the previous, or without it.
func (e *end) newKey(keep bool) {
	e.t.Helper()
	old := e.key
	var err error
	if e.key, err = keys.GeneratePrivate(); err != nil {
		e.t.Fatal(err)
	}
	c := Change{PrivateKey: &e.key}
	if keep {
		c.PreviousKey = old
	}
	e.configure(c)
	synctest.Wait()
}

// known returns the public key of ours with which e's session with other was made.
func (e *end) known(other *end) keys.PublicKey {
	e.t.Helper()
	s := e.peerOf(other).Status(e.clock.Now(), e.clock.Wall())
	if s.Session == nil {
		return keys.PublicKey{}
	}
	return s.Session.Own
}

func TestRekey_thePreviousKeyServesPeersThatHaveNotChangedOver(t *testing.T) {
	for _, calls := range []string{"the one with the new key", "the other one", "both"} {
		inBubble(t, func(w *world) {
			a, b := w.connected()
			old := a.key
			w.ears.take()
			a.newKey(true)
			if i, _, _, _, _ := w.ears.take(); i != 0 {
				t.Errorf("%d handshakes for a new key beside the previous one", i)
			}
			sent := 0
			talk := func(d time.Duration) {
				for range int(d / time.Second) {
					if calls != "the other one" {
						a.sends(b, 10)
						sent++
					}
					if calls != "the one with the new key" {
						b.sends(a, 10)
					}
					time.Sleep(time.Second)
				}
			}
			talk(400 * time.Second) // three renewals with a peer that knows the old key only
			if i, _, _, _, _ := w.ears.take(); i < 2 {
				t.Fatalf("%s: %d initiations in 400 s", calls, i)
			}
			if calls != "the other one" {
				b.expect(400, calls+": from the end with the new key")
			}
			if calls != "the one with the new key" {
				a.expect(400, calls+": to the end with the new key")
			}
			if a.known(b) != old.Public() {
				t.Errorf("%s: the session is not one of the previous key", calls)
			}

			// The peer changes over.
			b.configure(Change{Peers: []PeerChange{{PublicKey: old.Public(), Remove: true}}})
			b.knows(a, true)
			b.tun.Handshake(a.key.Public())
			synctest.Wait()
			if a.known(b) != a.key.Public() {
				t.Errorf("%s: after the change-over the session is not one of the new key", calls)
			}
			talk(400 * time.Second)
			if calls != "the other one" {
				b.expect(400, calls+": after the change-over")
			}
			if calls != "the one with the new key" {
				a.expect(400, calls+": after the change-over")
			}

			// The previous key goes, and nothing changes.
			w.ears.take()
			a.configure(Change{PrivateKey: &a.key})
			synctest.Wait()
			a.sends(b, 10)
			b.expect(1, calls+": without the previous key")
			if i, _, _, _, _ := w.ears.take(); i != 0 {
				t.Errorf("%s: %d handshakes when the previous key goes", calls, i)
			}
		})
	}
}

// The peer changes over without saying so: it is found under the other key.
func TestRekey_bothKeysAreTried(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		old := a.key
		a.newKey(true)
		b.configure(Change{Peers: []PeerChange{{PublicKey: old.Public(), Remove: true}}})
		b.knows(a, false)
		for range 40 {
			a.sends(b, 10)
			time.Sleep(time.Second)
		}
		b.got()
		a.sends(b, 10)
		b.expect(1, "40 s later")
		if a.known(b) != a.key.Public() {
			t.Error("the session is not one of the new key")
		}
	})
}

func TestRekey_sessionsOfAKeyThatIsGoneEnd(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		a.newKey(true)
		a.configure(Change{PrivateKey: &a.key}) // the peer never changed over
		synctest.Wait()
		b.got()
		a.sends(b, 10)
		b.expect(0, "from an end whose key it does not know any more")
		if a.peerOf(b).Current() != nil {
			t.Error("the session of the previous key is still there")
		}
	})
}

// A peer that knows the new key already is called at once: it may wait for us.
func TestRekey_callsThePeersThatHadASession(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		old := a.key
		key, err := keys.GeneratePrivate()
		if err != nil {
			t.Fatal(err)
		}
		next := &end{t: t, key: key, inner: a.inner, addr: a.addr}
		b.configure(Change{Peers: []PeerChange{{PublicKey: old.Public(), Remove: true}}})
		b.knows(next, false)
		a.key = key
		a.configure(Change{PrivateKey: &a.key, CallPeers: true})
		synctest.Wait()
		b.got()
		b.sends(a, 10)
		a.expect(1, "from the peer, which never spoke first")
	})
}

func TestContinue_sessionsOfThePreviousKey(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.connected()
		old := a.key
		a.newKey(true)
		sessions := a.suspend()
		w.assemble(a, w.clock)
		a.configure(Change{PrivateKey: &a.key, PreviousKey: old})
		a.knows(b, false)
		if n, err := a.tun.Continue(sessions); n != 1 || err != nil {
			t.Errorf("%d peers continued, %v", n, err)
		}
		a.tun.Start()
		synctest.Wait()
		a.sends(b, 10)
		b.expect(1, "under the previous key, from another process")
	})
}

func TestConfigure_newKeyDoesNotWaitForTheOldHandshake(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.end(), w.end()
		a.knows(b, true)
		next := newKey(t)
		b.configure(Change{Peers: []PeerChange{{PublicKey: next.Public(), AllowedIPs: []netip.Prefix{netip.PrefixFrom(a.inner, 32)}}}})
		a.sends(b, 10) // b does not know this key: no response
		passes(time.Second)
		a.configure(Change{PrivateKey: &next})
		passes(10 * time.Millisecond)
		b.expect(1, "staged before the key was changed")
	})
}
