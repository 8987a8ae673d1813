package noise

import (
	"crypto/ecdh"
	"crypto/rand"
	"fmt"

	"tund/crypto/keys"
	"tund/crypto/wire"
)

const (
	sealedStaticSize = keys.Size + tagSize
	// initiationNoiseSize is the Noise part of an initiation up to its payload: ephemeral and
	// sealed static.
	initiationNoiseSize = keys.Size + sealedStaticSize
)

// Keys is what a handshake yields: the transport keys of one session and the two indices that name
// it.
type Keys struct {
	// ChaCha20-Poly1305 keys of the two directions, as seen from here.
	Send, Receive [32]byte
	// Exporter is a third key that WireGuard itself does not use, the same on both sides. Neither
	// the other two nor anything sent under them tells about it.
	Exporter                [32]byte
	LocalIndex, RemoteIndex uint32 // receiver index of messages to us and to the peer
	Initiator               bool   // we sent the initiation
}

// Zero wipes k.
func (k *Keys) Zero() { *k = Keys{} }

// Format prints "(hidden)" for every verb.
func (Keys) Format(f fmt.State, _ rune) { keys.Hide(f) }

// MarshalText returns "(hidden)". The error is always nil.
func (Keys) MarshalText() ([]byte, error) { return []byte(keys.Hidden), nil }

// String returns "(hidden)".
func (Keys) String() string { return keys.Hidden }

// ── initiator ────────────────────────────────────────────────────────────────

// Pending is the state of a handshake between our initiation and the peer's response. About 150
// bytes.
type Pending struct {
	state     symmetric
	ephemeral *ecdh.PrivateKey // nil after Zero
	local     uint32
}

// LocalIndex returns the sender index of the initiation.
func (p *Pending) LocalIndex() uint32 { return p.local }

// Ephemeral returns our private key of this handshake, for those who are to decrypt the sessions
// made with it. It is the zero key after Zero.
func (p *Pending) Ephemeral() keys.PrivateKey { return keyOf(p.ephemeral) }

// Zero wipes p. Every response is ErrMalformed to it from then on.
func (p *Pending) Zero() { *p = Pending{} }

// Format prints "(hidden)" for every verb.
func (p *Pending) Format(f fmt.State, _ rune) { keys.Hide(f) }

// Initiate writes an initiation to r into dst and returns the state that waits for the response.
// The macs are left zero, for Macs.Add. The caller has made sender unique and ts greater than every
// timestamp sent to r before. Errors: ErrNoKey, ErrLowOrder. Whitepaper §5.4.2.
func (id *Identity) Initiate(dst *[wire.InitiationSize]byte, r *Remote, sender uint32, ts Timestamp) (*Pending, error) {
	ephemeral, err := newEphemeral()
	if err != nil {
		return nil, err
	}
	return id.initiate(dst, r, sender, ts, ephemeral)
}

func (id *Identity) initiate(dst *[wire.InitiationSize]byte, r *Remote, sender uint32, ts Timestamp, ephemeral *ecdh.PrivateKey) (*Pending, error) {
	p := &Pending{ephemeral: ephemeral, local: sender}
	p.state.start([]byte(identifier), (*[32]byte)(&r.public))
	clear(dst[:])
	if err := id.writeInitiation(&p.state, ephemeral, r, dst[wire.InitiationEphemeral:wire.InitiationMAC1], ts[:]); err != nil {
		clear(dst[:])
		p.Zero()
		return nil, err
	}
	wire.PutType(dst[:], wire.TypeInitiation)
	wire.PutSender(dst[:], sender)
	return p, nil
}

// writeInitiation is the message pattern "→ e, es, s, ss" and a payload. out is exactly as long as
// they are.
func (id *Identity) writeInitiation(s *symmetric, e *ecdh.PrivateKey, r *Remote, out, payload []byte) error {
	if id.private == nil {
		return ErrNoKey
	}
	if r.err != nil {
		return r.err
	}
	public := e.PublicKey().Bytes()
	copy(out, public)
	s.mixHash(public)
	s.mixChain(public)

	var secret [32]byte
	if err := dh(&secret, e, r.public[:]); err != nil {
		return err
	}
	s.mixKey(secret[:])
	clear(secret[:])
	s.seal(out[keys.Size:], id.public[:])

	s.mixKey(r.shared[:])
	s.seal(out[initiationNoiseSize:], payload)
	return nil
}

// Finish takes the response to p and returns the keys of the session. A preshared key that is not
// in use is the zero key. On error p is unchanged and waits on; after success the caller has no use
// for it and calls Zero. The caller has checked mac1 and found p by the receiver index. Errors:
// ErrMalformed, ErrLowOrder, ErrResponse. Whitepaper §5.4.3.
func (id *Identity) Finish(p *Pending, r *Remote, psk keys.PresharedKey, response []byte) (Keys, error) {
	if typ, ok := wire.Kind(response); !ok || typ != wire.TypeResponse ||
		p.ephemeral == nil || wire.ResponseReceiver(response) != p.local {
		return Keys{}, ErrMalformed
	}
	if r.err != nil {
		return Keys{}, r.err
	}
	s := p.state
	defer s.wipe()
	if err := id.readResponse(&s, p.ephemeral, psk, response[wire.ResponseEphemeral:wire.ResponseMAC1], nil); err != nil {
		return Keys{}, err
	}
	k := Keys{LocalIndex: p.local, RemoteIndex: wire.Sender(response), Initiator: true}
	k.Send, k.Receive, k.Exporter = s.split()
	return k, nil
}

// readResponse is the message pattern "← e, ee, se, psk" and a payload, which it writes to payload.
func (id *Identity) readResponse(s *symmetric, e *ecdh.PrivateKey, psk keys.PresharedKey, in, payload []byte) error {
	if id.private == nil {
		return ErrNoKey
	}
	public := in[:keys.Size]
	s.mixHash(public)
	s.mixChain(public)

	var secret [32]byte
	if err := dh(&secret, e, public); err != nil {
		return err
	}
	s.mixChain(secret[:])
	if err := dh(&secret, id.private, public); err != nil {
		return err
	}
	s.mixChain(secret[:])
	clear(secret[:])

	s.mixPSK((*[32]byte)(&psk))
	if !s.open(payload, in[keys.Size:]) {
		return ErrResponse
	}
	return nil
}

// ── responder ────────────────────────────────────────────────────────────────

// stage is how far an Incoming has come.
type stage uint8

const (
	stageOpened        stage = iota + 1 // static key decrypted: a claim, nothing is proved
	stageAuthenticated                  // timestamp decrypted: the sender owns the static key
	stageDone                           // answered, or failed
)

// Incoming is an initiation that is being answered.
type Incoming struct {
	state     symmetric
	ephemeral [keys.Size]byte
	public    keys.PublicKey
	sealed    [timestampSize + tagSize]byte // the timestamp, as received
	sender    uint32
	stage     stage
	own       *ecdh.PrivateKey // nil before Respond
}

// Public returns the static key the initiation claims to come from. Until Authenticate succeeds
// that is only a claim: anybody who knows our public key can make it.
func (in *Incoming) Public() keys.PublicKey { return in.public }

// Sender returns the sender index of the initiation.
func (in *Incoming) Sender() uint32 { return in.sender }

// Ephemeral returns our private key of this handshake once Respond has succeeded, for those who are
// to decrypt the session made with it; before that, and after Zero, it is the zero key.
func (in *Incoming) Ephemeral() keys.PrivateKey { return keyOf(in.own) }

// Zero wipes in. Calling it is good manners when no answer is given.
func (in *Incoming) Zero() { *in = Incoming{} }

// Format prints "(hidden)" for every verb.
func (in *Incoming) Format(f fmt.State, _ rune) { keys.Hide(f) }

// OpenInitiation decrypts the static key of an initiation: one scalar multiplication. msg is not
// kept. The caller has checked mac1. Errors: ErrNoKey, ErrMalformed, ErrLowOrder, ErrStatic.
// Whitepaper §5.4.2.
func (id *Identity) OpenInitiation(msg []byte) (*Incoming, error) {
	if typ, ok := wire.Kind(msg); !ok || typ != wire.TypeInitiation {
		return nil, ErrMalformed
	}
	if id.private == nil {
		return nil, ErrNoKey
	}
	in := &Incoming{sender: wire.Sender(msg), stage: stageOpened}
	in.state.start([]byte(identifier), (*[32]byte)(&id.public))
	if err := id.readStatic(in, msg[wire.InitiationEphemeral:wire.InitiationTimestamp]); err != nil {
		in.Zero()
		return nil, err
	}
	copy(in.sealed[:], msg[wire.InitiationTimestamp:wire.InitiationMAC1])
	return in, nil
}

// readStatic is the first half of the message pattern "→ e, es, s, ss": up to the static key, into
// in.public.
func (id *Identity) readStatic(in *Incoming, msg []byte) error {
	s := &in.state
	copy(in.ephemeral[:], msg)
	s.mixHash(in.ephemeral[:])
	s.mixChain(in.ephemeral[:])

	var secret [32]byte
	if err := dh(&secret, id.private, in.ephemeral[:]); err != nil {
		return err
	}
	s.mixKey(secret[:])
	clear(secret[:])
	if !s.open(in.public[:], msg[keys.Size:initiationNoiseSize]) {
		return ErrStatic
	}
	return nil
}

// Authenticate proves that the initiation was made by r, whose public key is in.Public, and returns
// its timestamp. No scalar multiplication. The caller drops the initiation unless the timestamp is
// after every earlier one of r: only that makes it fresh. Errors: ErrRemote, ErrOrder, ErrNoKey,
// ErrLowOrder, ErrTimestamp.
func (in *Incoming) Authenticate(r *Remote) (Timestamp, error) {
	var ts Timestamp
	switch {
	case in.stage != stageOpened:
		return ts, ErrOrder
	case r.public != in.public:
		return ts, ErrRemote
	case r.err != nil:
		in.fail()
		return ts, r.err
	}
	if !in.readPayload(r, ts[:], in.sealed[:]) {
		in.fail()
		return Timestamp{}, ErrTimestamp
	}
	in.stage = stageAuthenticated
	return ts, nil
}

// readPayload is the second half of the message pattern "→ e, es, s, ss": the payload.
func (in *Incoming) readPayload(r *Remote, payload, sealed []byte) bool {
	in.state.mixKey(r.shared[:])
	return in.state.open(payload, sealed)
}

// fail wipes the state and keeps the names, for the log.
func (in *Incoming) fail() {
	in.state.wipe()
	in.stage = stageDone
}

// Respond writes the response into dst and returns the keys of the session, of which the peer is
// the initiator; it works once. The macs are left zero, for Macs.Add. A preshared key that is not
// in use is the zero key. The caller has made local unique. Errors: ErrOrder, ErrRemote,
// ErrLowOrder. Whitepaper §5.4.3.
func (in *Incoming) Respond(dst *[wire.ResponseSize]byte, r *Remote, psk keys.PresharedKey, local uint32) (Keys, error) {
	ephemeral, err := newEphemeral()
	if err != nil {
		return Keys{}, err
	}
	return in.respond(dst, r, psk, local, ephemeral)
}

func (in *Incoming) respond(dst *[wire.ResponseSize]byte, r *Remote, psk keys.PresharedKey, local uint32, ephemeral *ecdh.PrivateKey) (Keys, error) {
	if in.stage != stageAuthenticated {
		return Keys{}, ErrOrder
	}
	if r.public != in.public {
		return Keys{}, ErrRemote
	}
	defer in.fail()
	clear(dst[:])
	if err := in.writeResponse(ephemeral, psk, dst[wire.ResponseEphemeral:wire.ResponseMAC1], nil); err != nil {
		clear(dst[:])
		return Keys{}, err
	}
	wire.PutType(dst[:], wire.TypeResponse)
	wire.PutSender(dst[:], local)
	wire.PutResponseReceiver(dst[:], in.sender)
	k := Keys{LocalIndex: local, RemoteIndex: in.sender}
	k.Receive, k.Send, k.Exporter = in.state.split()
	in.own = ephemeral
	return k, nil
}

// writeResponse is the message pattern "← e, ee, se, psk" and a payload. out is exactly as long as
// they are.
func (in *Incoming) writeResponse(e *ecdh.PrivateKey, psk keys.PresharedKey, out, payload []byte) error {
	s := &in.state
	public := e.PublicKey().Bytes()
	copy(out, public)
	s.mixHash(public)
	s.mixChain(public)

	var secret [32]byte
	if err := dh(&secret, e, in.ephemeral[:]); err != nil {
		return err
	}
	s.mixChain(secret[:])
	if err := dh(&secret, e, in.public[:]); err != nil {
		return err
	}
	s.mixChain(secret[:])
	clear(secret[:])

	s.mixPSK((*[32]byte)(&psk))
	s.seal(out[keys.Size:], payload)
	return nil
}

// keyOf returns the bytes of a private key, zero for nil.
func keyOf(private *ecdh.PrivateKey) (key keys.PrivateKey) {
	if private != nil {
		copy(key[:], private.Bytes())
	}
	return key
}

// newEphemeral makes a key for one handshake. The error is always nil with a working kernel.
func newEphemeral() (*ecdh.PrivateKey, error) {
	e, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate ephemeral key: %w", err)
	}
	return e, nil
}
