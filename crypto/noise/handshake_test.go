package noise

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/crypto/wire"
)

// side is one end of a handshake.
type side struct {
	id     *Identity
	remote *Remote
	key    keys.PrivateKey
}

func private(t testing.TB) keys.PrivateKey {
	t.Helper()
	k, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func preshared(t testing.TB) keys.PresharedKey {
	t.Helper()
	k, err := keys.GeneratePreshared()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pair(t testing.TB) (a, b side) {
	t.Helper()
	a.key, b.key = private(t), private(t)
	a.id, b.id = NewIdentity(a.key), NewIdentity(b.key)
	a.remote, b.remote = NewRemote(a.id, b.id.Public()), NewRemote(b.id, a.id.Public())
	return a, b
}

var stamp = NewTimestamp(time.Unix(1700000000, 123456789))

func initiate(t testing.TB, a side) (*Pending, [wire.InitiationSize]byte) {
	t.Helper()
	var m [wire.InitiationSize]byte
	p, err := a.id.Initiate(&m, a.remote, 0x11223344, stamp)
	if err != nil {
		t.Fatal(err)
	}
	return p, m
}

func respond(t testing.TB, b side, psk keys.PresharedKey, initiation []byte) (Keys, [wire.ResponseSize]byte) {
	t.Helper()
	in, err := b.id.OpenInitiation(initiation)
	if err != nil {
		t.Fatal(err)
	}
	if ts, err := in.Authenticate(b.remote); err != nil || ts != stamp {
		t.Fatalf("timestamp %x, %v, want %x", ts, err, stamp)
	}
	var m [wire.ResponseSize]byte
	k, err := in.Respond(&m, b.remote, psk, 0x55667788)
	if err != nil {
		t.Fatal(err)
	}
	return k, m
}

func TestHandshake_yieldsMirroredKeys(t *testing.T) {
	t.Parallel()
	for _, psk := range []keys.PresharedKey{{}, preshared(t)} {
		a, b := pair(t)
		p, m1 := initiate(t, a)
		if !bytes.Equal(m1[wire.InitiationMAC1:], make([]byte, 32)) {
			t.Error("the macs of the initiation are not zero")
		}
		bk, m2 := respond(t, b, psk, m1[:])
		if !bytes.Equal(m2[wire.ResponseMAC1:], make([]byte, 32)) {
			t.Error("the macs of the response are not zero")
		}
		ak, err := a.id.Finish(p, a.remote, psk, m2[:])
		if err != nil {
			t.Fatal(err)
		}
		if ak.Send != bk.Receive || ak.Receive != bk.Send || ak.Send == ak.Receive {
			t.Error("the transport keys do not mirror")
		}
		if ak.LocalIndex != 0x11223344 || ak.RemoteIndex != 0x55667788 || bk.LocalIndex != ak.RemoteIndex || bk.RemoteIndex != ak.LocalIndex {
			t.Errorf("indices %#x %#x, %#x %#x", ak.LocalIndex, ak.RemoteIndex, bk.LocalIndex, bk.RemoteIndex)
		}
		if !ak.Initiator || bk.Initiator {
			t.Errorf("initiator: %t and %t, want true and false", ak.Initiator, bk.Initiator)
		}
		ak.Zero()
		if ak != (Keys{}) {
			t.Error("Zero left something")
		}
	}
}

func TestFinish_presharedKeyMismatchLeavesPendingIntact(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	right, wrong := preshared(t), preshared(t)
	p, m1 := initiate(t, a)
	before := *p
	_, m2 := respond(t, b, right, m1[:])
	for _, psk := range []keys.PresharedKey{wrong, {}} {
		k, err := a.id.Finish(p, a.remote, psk, m2[:])
		if !errors.Is(err, ErrResponse) || k != (Keys{}) {
			t.Errorf("error %v, want ErrResponse and no keys", err)
		}
	}
	if *p != before {
		t.Error("the pending handshake has changed")
	}
	if _, err := a.id.Finish(p, a.remote, right, m2[:]); err != nil {
		t.Errorf("with the right key: %v", err)
	}
}

func TestFinish_forgedResponsesLeavePendingIntact(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	psk := preshared(t)
	p, m1 := initiate(t, a)
	before := *p
	_, m2 := respond(t, b, psk, m1[:])
	for i := range wire.ResponseMAC1 {
		if i >= 4 && i < 8 {
			continue // the responder's index: mac1 covers it, Noise does not
		}
		forged := m2
		forged[i] ^= 0x40
		want := ErrResponse
		if i < wire.ResponseEphemeral {
			want = ErrMalformed
		}
		if k, err := a.id.Finish(p, a.remote, psk, forged[:]); !errors.Is(err, want) || k != (Keys{}) {
			t.Errorf("byte %d changed: error %v, want %v and no keys", i, err, want)
		}
	}
	for _, n := range []int{0, 1, 91} {
		if _, err := a.id.Finish(p, a.remote, psk, m2[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: error %v, want ErrMalformed", n, err)
		}
	}
	if *p != before {
		t.Error("the pending handshake has changed")
	}
	if _, err := a.id.Finish(p, a.remote, psk, m2[:]); err != nil {
		t.Errorf("the true response: %v", err)
	}
	p.Zero()
	if _, err := a.id.Finish(p, a.remote, psk, m2[:]); !errors.Is(err, ErrMalformed) {
		t.Errorf("after Zero: error %v, want ErrMalformed", err)
	}
}

func TestOpenInitiation_everyChangedByteIsNoticed(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	_, m1 := initiate(t, a)
	for i := range wire.InitiationMAC1 {
		if i >= 4 && i < 8 {
			continue // the initiator's index: mac1 covers it, Noise does not
		}
		forged := m1
		forged[i] ^= 0x40
		in, err := b.id.OpenInitiation(forged[:])
		want := ErrStatic
		switch {
		case i < 4:
			want = ErrMalformed
		case i >= wire.InitiationTimestamp:
			want = ErrTimestamp
			if err != nil {
				t.Errorf("byte %d: %v from OpenInitiation", i, err)
				continue
			}
			_, err = in.Authenticate(b.remote)
		}
		if !errors.Is(err, want) {
			t.Errorf("byte %d changed: error %v, want %v", i, err, want)
		}
	}
}

func TestOpenInitiation_forAnotherKeyOfOursIsErrStatic(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	_, m1 := initiate(t, a)
	newKey := NewIdentity(private(t))
	if in, err := newKey.OpenInitiation(m1[:]); !errors.Is(err, ErrStatic) || in != nil {
		t.Errorf("error %v, want ErrStatic", err)
	}
	if _, err := b.id.OpenInitiation(m1[:]); err != nil {
		t.Error(err)
	}
}

// An impostor knows both public keys and claims to be a; only the timestamp, sealed with the shared
// static secret, gives it away.
func TestAuthenticate_impostorIsErrTimestamp(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	impostor := NewIdentity(private(t))
	r := NewRemote(impostor, b.id.Public())
	impostor.public = a.id.Public()
	_, m1 := initiate(t, side{id: impostor, remote: r})
	in, err := b.id.OpenInitiation(m1[:])
	if err != nil || in.Public() != a.id.Public() {
		t.Fatalf("claims %v, %v", in.Public(), err)
	}
	if ts, err := in.Authenticate(b.remote); !errors.Is(err, ErrTimestamp) || ts != (Timestamp{}) {
		t.Errorf("%x, error %v, want ErrTimestamp", ts, err)
	}
	var m2 [wire.ResponseSize]byte
	if _, err := in.Respond(&m2, b.remote, keys.PresharedKey{}, 1); !errors.Is(err, ErrOrder) || m2 != ([92]byte{}) {
		t.Errorf("answered an impostor: %v", err)
	}
}

func TestIncoming_refusesWrongOrderAndWrongRemote(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	_, m1 := initiate(t, a)
	in, err := b.id.OpenInitiation(m1[:])
	if err != nil {
		t.Fatal(err)
	}
	stranger := NewRemote(b.id, NewIdentity(private(t)).Public())
	var m2 [wire.ResponseSize]byte
	if _, err := in.Respond(&m2, b.remote, keys.PresharedKey{}, 1); !errors.Is(err, ErrOrder) {
		t.Errorf("Respond before Authenticate: %v, want ErrOrder", err)
	}
	if _, err := in.Authenticate(stranger); !errors.Is(err, ErrRemote) {
		t.Errorf("Authenticate a stranger: %v, want ErrRemote", err)
	}
	if _, err := in.Authenticate(b.remote); err != nil {
		t.Errorf("Authenticate: %v", err)
	}
	if _, err := in.Authenticate(b.remote); !errors.Is(err, ErrOrder) {
		t.Errorf("Authenticate twice: %v, want ErrOrder", err)
	}
	if _, err := in.Respond(&m2, stranger, keys.PresharedKey{}, 1); !errors.Is(err, ErrRemote) {
		t.Errorf("Respond to a stranger: %v, want ErrRemote", err)
	}
	if _, err := in.Respond(&m2, b.remote, keys.PresharedKey{}, 1); err != nil {
		t.Errorf("Respond: %v", err)
	}
	if k, err := in.Respond(&m2, b.remote, keys.PresharedKey{}, 1); !errors.Is(err, ErrOrder) || k != (Keys{}) {
		t.Errorf("Respond twice: %v, want ErrOrder", err)
	}
	in.Zero()
	if *in != (Incoming{}) {
		t.Error("Zero left something")
	}
}

// lowOrder are the seven encodings whose X25519 product with any scalar is zero: 0, 1, two points
// of order 8, and p-1, p, p+1.
func lowOrder(t testing.TB) (points []keys.PublicKey) {
	t.Helper()
	for _, h := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		b, err := hex.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		points = append(points, keys.PublicKey(b))
	}
	return points
}

func TestHandshake_lowOrderPointsAreRefused(t *testing.T) {
	t.Parallel()
	for _, point := range lowOrder(t) {
		a, b := pair(t)

		// As a peer's static key: nothing is ever sent to it.
		var m [wire.InitiationSize]byte
		r := NewRemote(a.id, point)
		if p, err := a.id.Initiate(&m, r, 1, stamp); !errors.Is(err, ErrLowOrder) || p != nil || m != ([148]byte{}) {
			t.Errorf("initiation to %v: error %v, want ErrLowOrder and no message", point, err)
		}

		// As the static key an initiation claims: sealed correctly, for its shared secret is no
		// secret.
		cheat := &Identity{private: a.id.private, public: point}
		fake := &Remote{public: b.id.public}
		if _, err := cheat.Initiate(&m, fake, 1, stamp); err != nil {
			t.Fatal(err)
		}
		in, err := b.id.OpenInitiation(m[:])
		if err != nil || in.Public() != point {
			t.Fatalf("claim of %v: %v", point, err)
		}
		if _, err := in.Authenticate(NewRemote(b.id, point)); !errors.Is(err, ErrLowOrder) {
			t.Errorf("authenticating %v: error %v, want ErrLowOrder", point, err)
		}
		if _, err := in.Respond(new([92]byte), NewRemote(b.id, point), keys.PresharedKey{}, 1); !errors.Is(err, ErrOrder) {
			t.Errorf("answering %v: error %v, want ErrOrder", point, err)
		}

		// As an ephemeral key, of either side.
		p, m1 := initiate(t, a)
		bad := m1
		copy(bad[wire.InitiationEphemeral:], point[:])
		if _, err := b.id.OpenInitiation(bad[:]); !errors.Is(err, ErrLowOrder) {
			t.Errorf("initiation with ephemeral %v: error %v, want ErrLowOrder", point, err)
		}
		_, m2 := respond(t, b, keys.PresharedKey{}, m1[:])
		badResponse := m2
		copy(badResponse[wire.ResponseEphemeral:], point[:])
		if _, err := a.id.Finish(p, a.remote, keys.PresharedKey{}, badResponse[:]); !errors.Is(err, ErrLowOrder) {
			t.Errorf("response with ephemeral %v: error %v, want ErrLowOrder", point, err)
		}
		if _, err := a.id.Finish(p, a.remote, keys.PresharedKey{}, m2[:]); err != nil {
			t.Errorf("true response after %v: %v", point, err)
		}
	}
}

func TestIdentity_withoutKeyDoesNothing(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	none := NewIdentity(keys.PrivateKey{})
	if !none.Public().IsZero() {
		t.Errorf("public key %v, want none", none.Public())
	}
	r := NewRemote(none, b.id.Public())
	var m [wire.InitiationSize]byte
	if _, err := none.Initiate(&m, r, 1, stamp); !errors.Is(err, ErrNoKey) || m != ([148]byte{}) {
		t.Errorf("Initiate: %v, want ErrNoKey", err)
	}
	p, m1 := initiate(t, a)
	if _, err := none.OpenInitiation(m1[:]); !errors.Is(err, ErrNoKey) {
		t.Errorf("OpenInitiation: %v, want ErrNoKey", err)
	}
	_, m2 := respond(t, b, keys.PresharedKey{}, m1[:])
	if _, err := none.Finish(p, r, keys.PresharedKey{}, m2[:]); !errors.Is(err, ErrNoKey) {
		t.Errorf("Finish: %v, want ErrNoKey", err)
	}
	toNobody := NewRemote(a.id, keys.PublicKey{})
	NewMacs(toNobody).Add(m1[:], 1)
	if NewMAC1Checker(none).Valid(m1[:]) {
		t.Error("a mac1 for nobody is valid")
	}
}
