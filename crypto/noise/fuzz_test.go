package noise

import (
	"errors"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"tund/crypto/keys"
	"tund/crypto/wire"
)

// The fuzz targets know the captured handshakes: whatever is not one of them must be refused, by
// one of the documented errors, without a panic and without a change.

func FuzzOpenInitiation(f *testing.F) {
	c := captures(f)[0]
	bob := NewIdentity(keys.PrivateKey(c.ResponderStatic))
	toAlice := NewRemote(bob, NewIdentity(keys.PrivateKey(c.InitiatorStatic)).Public())
	f.Add([]byte(c.Initiation))
	f.Add([]byte(c.Response))
	f.Add([]byte(c.Initiation)[:147])
	f.Add([]byte{})
	for _, point := range lowOrder(f) {
		m := append([]byte(nil), c.Initiation...)
		copy(m[wire.InitiationEphemeral:], point[:])
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		in, err := bob.OpenInitiation(msg)
		if err != nil {
			if in != nil || !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrLowOrder) && !errors.Is(err, ErrStatic) {
				t.Errorf("undocumented: %v, %v", in, err)
			}
			return
		}
		if in.Public() != toAlice.Public() {
			return // a valid claim by somebody else; the fuzzer will not find one
		}
		ts, err := in.Authenticate(toAlice)
		if err == nil && string(ts[:]) != string(c.Timestamp) {
			t.Errorf("a forged timestamp %x", ts)
		}
		if err != nil && !errors.Is(err, ErrTimestamp) {
			t.Errorf("undocumented: %v", err)
		}
	})
}

func FuzzFinish(f *testing.F) {
	c := captures(f)[2] // with a preshared key
	alice := NewIdentity(keys.PrivateKey(c.InitiatorStatic))
	toBob := NewRemote(alice, NewIdentity(keys.PrivateKey(c.ResponderStatic)).Public())
	psk := keys.PresharedKey(c.Preshared)
	p, err := alice.initiate(new([wire.InitiationSize]byte), toBob, wire.Sender(c.Initiation), Timestamp(c.Timestamp), ephemeral(f, c.InitiatorEphemeral))
	if err != nil {
		f.Fatal(err)
	}
	before := *p
	f.Add([]byte(c.Response))
	f.Add([]byte(c.Initiation))
	f.Add([]byte(c.Response)[:91])
	f.Add([]byte{})
	for _, point := range lowOrder(f) {
		m := append([]byte(nil), c.Response...)
		copy(m[wire.ResponseEphemeral:], point[:])
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		k, err := alice.Finish(p, toBob, psk, msg)
		if *p != before {
			t.Fatal("the pending handshake has changed")
		}
		if err != nil {
			if k != (Keys{}) || !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrLowOrder) && !errors.Is(err, ErrResponse) {
				t.Errorf("undocumented: %v", err)
			}
			return
		}
		if string(msg[8:wire.ResponseMAC1]) != string(c.Response[8:wire.ResponseMAC1]) {
			t.Error("a forged response")
		}
	})
}

func FuzzConsumeReply(f *testing.F) {
	// Everything is fixed, so that the seeds mean the same to every worker process.
	c := captures(f)[0]
	alice, bob := NewIdentity(keys.PrivateKey(c.InitiatorStatic)), NewIdentity(keys.PrivateKey(c.ResponderStatic))
	macs := NewMacs(NewRemote(alice, bob.Public()))
	macs.Add(c.Initiation, start)
	reply := [wire.CookieReplySize]byte{0: wire.TypeCookieReply, 8: 42}
	newAEAD(bob.cookieKey[:], chacha20poly1305.NewX).Seal(reply[:wire.CookieReplyCookie],
		reply[wire.CookieReplyNonce:wire.CookieReplyCookie], make([]byte, wire.MACSize), wire.MAC1(c.Initiation))
	f.Add(reply[:])
	f.Add(reply[:63])
	f.Add([]byte(c.Initiation))
	f.Add([]byte{3, 63: 0})
	f.Fuzz(func(t *testing.T, msg []byte) {
		fresh := *macs
		err := fresh.ConsumeReply(msg, start)
		if genuine := len(msg) == len(reply) && string(msg[8:]) == string(reply[8:]); err == nil && !genuine {
			t.Error("a forged reply")
		}
		if err != nil && (fresh != *macs || !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrCookie)) {
			t.Errorf("undocumented: %v", err)
		}
	})
}
