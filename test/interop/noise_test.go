package interop

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	flynn "github.com/flynn/noise"
	"golang.zx2c4.com/wireguard/device"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/wire"
	"tund/internal/boottime"
)

// start is when the tests begin, and source the address that they send from.
const start = 1000 * boottime.Time(time.Second)

var source = netip.MustParseAddrPort("192.0.2.7:51820")

// side is one end of a handshake.
type side struct {
	id     *noise.Identity
	remote *noise.Remote
	key    keys.PrivateKey
}

func pair(t testing.TB) (a, b side) {
	t.Helper()
	for _, s := range []*side{&a, &b} {
		key, err := keys.GeneratePrivate()
		if err != nil {
			t.Fatal(err)
		}
		s.key, s.id = key, noise.NewIdentity(key)
	}
	a.remote, b.remote = noise.NewRemote(a.id, b.id.Public()), noise.NewRemote(b.id, a.id.Public())
	return a, b
}

var stamp = noise.NewTimestamp(time.Unix(1700000000, 123456789))

func initiate(t testing.TB, a side) (*noise.Pending, [wire.InitiationSize]byte) {
	t.Helper()
	var m [wire.InitiationSize]byte
	p, err := a.id.Initiate(&m, a.remote, 0x11223344, stamp)
	if err != nil {
		t.Fatal(err)
	}
	return p, m
}

func respond(t testing.TB, b side, psk keys.PresharedKey, initiation []byte) (noise.Keys, [wire.ResponseSize]byte) {
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

// flynnState is the other side of a handshake in an implementation that is not ours.
func flynnState(t *testing.T, me side, initiator bool, psk keys.PresharedKey) *flynn.HandshakeState {
	t.Helper()
	public := me.id.Public()
	config := flynn.Config{
		CipherSuite:           flynn.NewCipherSuite(flynn.DH25519, flynn.CipherChaChaPoly, flynn.HashBLAKE2s),
		Pattern:               flynn.HandshakeIK,
		Initiator:             initiator,
		Prologue:              []byte("WireGuard v1 zx2c4 Jason@zx2c4.com"),
		PresharedKey:          psk[:],
		PresharedKeyPlacement: 2,
		StaticKeypair:         flynn.DHKey{Private: me.key[:], Public: public[:]},
	}
	if initiator {
		peer := me.remote.Public()
		config.PeerStatic = peer[:]
	}
	hs, err := flynn.NewHandshakeState(config)
	if err != nil {
		t.Fatal(err)
	}
	return hs
}

func TestHandshake_interoperatesWithFlynnNoise(t *testing.T) {
	t.Parallel()
	const rounds = 40
	for i := range rounds {
		a, b := pair(t)
		var psk keys.PresharedKey
		if i%2 == 1 {
			var err error
			if psk, err = keys.GeneratePreshared(); err != nil {
				t.Fatal(err)
			}
		}
		oursAsInitiator(t, a, b, psk)
		oursAsResponder(t, a, b, psk)
	}
}

func oursAsInitiator(t *testing.T, a, b side, psk keys.PresharedKey) {
	t.Helper()
	p, m1 := initiate(t, a)
	other := flynnState(t, b, false, psk)
	ts, _, _, err := other.ReadMessage(nil, m1[wire.InitiationEphemeral:wire.InitiationMAC1])
	if err != nil || !bytes.Equal(ts, stamp[:]) {
		t.Fatalf("flynn reads timestamp %x, %v, want %x", ts, err, stamp)
	}
	body, toB, toA, err := other.WriteMessage(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var m2 [wire.ResponseSize]byte
	wire.PutType(m2[:], wire.TypeResponse)
	wire.PutResponseReceiver(m2[:], p.LocalIndex())
	copy(m2[wire.ResponseEphemeral:], body)
	k, err := a.id.Finish(p, a.remote, psk, m2[:])
	if err != nil {
		t.Fatal(err)
	}
	if k.Send != toB.UnsafeKey() || k.Receive != toA.UnsafeKey() {
		t.Error("initiator: other transport keys than flynn")
	}
}

func oursAsResponder(t *testing.T, a, b side, psk keys.PresharedKey) {
	t.Helper()
	other := flynnState(t, a, true, psk)
	body, _, _, err := other.WriteMessage(nil, stamp[:])
	if err != nil {
		t.Fatal(err)
	}
	var m1 [wire.InitiationSize]byte
	wire.PutType(m1[:], wire.TypeInitiation)
	copy(m1[wire.InitiationEphemeral:], body)
	k, m2 := respond(t, b, psk, m1[:])
	_, toB, toA, err := other.ReadMessage(nil, m2[wire.ResponseEphemeral:wire.ResponseMAC1])
	if err != nil {
		t.Fatal(err)
	}
	if k.Receive != toB.UnsafeKey() || k.Send != toA.UnsafeKey() {
		t.Error("responder: other transport keys than flynn")
	}
}

// wireguard-go's cookies are the judge of ours, in both directions.
func TestCookie_interoperatesWithWireguardGo(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	_, m1 := initiate(t, a)
	_, m2 := respond(t, b, keys.PresharedKey{}, m1[:])
	for name, msg := range map[string][]byte{"initiation": m1[:], "response": m2[:]} {
		src := []byte{192, 0, 2, 7, 0xca, 0x6c}

		// They check, we send.
		var theirChecker device.CookieChecker
		theirChecker.Init(device.NoisePublicKey(b.id.Public()))
		macs := noise.NewMacs(a.remote)
		macs.Add(msg, start)
		if !theirChecker.CheckMAC1(msg) {
			t.Errorf("%s: they refuse our mac1", name)
		}
		reply, err := theirChecker.CreateReply(msg, wire.Sender(msg), src)
		if err != nil {
			t.Fatal(err)
		}
		var buf [wire.CookieReplySize]byte
		if _, err := binary.Encode(buf[:], binary.LittleEndian, reply); err != nil {
			t.Fatal(err)
		}
		if err := macs.ConsumeReply(buf[:], start); err != nil {
			t.Errorf("%s: we refuse their reply: %v", name, err)
		}
		macs.Add(msg, start)
		if !theirChecker.CheckMAC2(msg, src) {
			t.Errorf("%s: they refuse our mac2", name)
		}

		// They send, we check.
		var theirMacs device.CookieGenerator
		theirMacs.Init(device.NoisePublicKey(b.id.Public()))
		checker := noise.NewCookieChecker(b.id)
		theirMacs.AddMacs(msg)
		if !noise.NewMAC1Checker(b.id).Valid(msg) {
			t.Errorf("%s: we refuse their mac1", name)
		}
		if err := checker.Reply(&buf, msg, source, start); err != nil {
			t.Fatal(err)
		}
		var parsed device.MessageCookieReply
		if _, err := binary.Decode(buf[:], binary.LittleEndian, &parsed); err != nil {
			t.Fatal(err)
		}
		if !theirMacs.ConsumeReply(&parsed) {
			t.Errorf("%s: they refuse our reply", name)
		}
		theirMacs.AddMacs(msg)
		if !checker.ValidMAC2(msg, source, start) {
			t.Errorf("%s: we refuse their mac2", name)
		}
	}
}
