package session

import (
	"errors"
	"fmt"

	"tund/crypto/aead"
	"tund/crypto/keys"
	"tund/crypto/replay"
)

// counterReserve is how many counters a session skips when another process continues it. Nothing
// was sent under them: the former process has stopped sending before it saves a session. They are
// a margin, small enough (replay.Size is 8128) that the peer still accepts what was sent last and
// arrives late.
const counterReserve = 1024

// Saved is a session in a form in which another process can continue it. It contains the keys, and
// prints as "(hidden)".
type Saved struct {
	Suite         string // its name
	Send, Receive [aead.KeySize]byte
	Local, Remote uint32
	Initiator     bool
	Sent          uint64 // the next counter
	Window        replay.Saved
}

// Format prints "(hidden)" for every verb.
func (s Saved) Format(f fmt.State, _ rune) { keys.Hide(f) }

// Zero erases the keys.
func (s *Saved) Zero() {
	clear(s.Send[:])
	clear(s.Receive[:])
}

// Save ends the session, as Zero does, and returns what continues it; ok is false if it had ended
// before. From now on Reserve refuses, and a counter reserved earlier is not used any more: the
// caller has stopped every sender and receiver of the session.
func (s *Session) Save() (saved *Saved, ok bool) {
	c := s.ciphers.Swap(nil)
	if c == nil {
		return nil, false
	}
	saved = &Saved{
		Suite: s.suite.String(), Send: c.send.Key(), Receive: c.receive.Key(), Local: s.local, Remote: s.remote,
		Initiator: s.initiator, Sent: s.sent.Load(),
	}
	s.receive.Lock()
	defer s.receive.Unlock()
	saved.Window = s.window.Save()
	return saved, true
}

// Continue returns the session that Save has ended in another process. It copies the keys. An error
// means that this program cannot continue it.
func Continue(saved *Saved) (*Session, error) {
	suite, ok := suiteOf(saved.Suite)
	if !ok {
		return nil, fmt.Errorf("session is sealed with %q", saved.Suite)
	}
	if saved.Sent > RejectAfterMessages-counterReserve {
		return nil, errors.New("session has no counters left")
	}
	s := NewData(suite, &saved.Send, &saved.Receive, saved.Local, saved.Remote, saved.Initiator)
	if err := s.window.Restore(saved.Window); err != nil {
		return nil, err
	}
	s.sent.Store(saved.Sent + counterReserve)
	return s, nil
}

func suiteOf(name string) (aead.Suite, bool) {
	for _, suite := range []aead.Suite{aead.ChaCha20Poly1305, aead.AES256GCM} {
		if suite.String() == name {
			return suite, true
		}
	}
	return 0, false
}
