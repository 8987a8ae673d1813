package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/crypto/session"
	"tund/crypto/wire"
	"tund/internal/boottime"
)

// shakePlay is what the handshake worker reads from its file: whom to call, and as whom.
type shakePlay struct {
	Responder string   `json:"responder"` // public key
	At        string   `json:"at"`        // address and port
	Private   []string `json:"private"`   // one key per peer it plays
}

type (
	// shakeOrder asks for one handshake as each peer.
	shakeOrder struct {
		// Confirm sends an empty transport packet after each, which makes the responder's session
		// usable.
		Confirm bool `json:"confirm"`
	}
	shakeReport struct {
		Answered int           `json:"answered"`
		Took     time.Duration `json:"took"` // from the first initiation to the last answer
	}
)

// window is how many initiations are in flight: enough to keep a responder busy, too few to put any
// contender under load, where it would answer with cookies.
const window = 32

// shakePatience is how long answers are waited for once nothing comes any more.
const shakePatience = 2 * time.Second

// caller is one peer that the worker plays.
type caller struct {
	id      *noise.Identity
	remote  *noise.Remote
	pending *noise.Pending
	message [wire.InitiationSize]byte
}

// serveHandshakes plays the initiators of a file.
func serveHandshakes(path string, in io.Reader, out io.Writer) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var play shakePlay
	if err := json.Unmarshal(text, &play); err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(play.At)
	if err != nil {
		return err
	}
	fd, err := udpSocket(netip.AddrPort{}, at)
	if err != nil {
		return err
	}
	patience := unix.NsecToTimeval(int64(shakePatience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return err
	}
	return serve(in, out, func(o shakeOrder) (shakeReport, error) {
		// Made before the clock starts: what they cost is not the responder's.
		callers, err := newCallers(play)
		if err != nil {
			return shakeReport{}, err
		}
		return shakeHands(fd, callers, o.Confirm)
	})
}

func newCallers(play shakePlay) ([]caller, error) {
	responder, err := keys.ParsePublic(play.Responder)
	if err != nil {
		return nil, err
	}
	callers := make([]caller, len(play.Private))
	for i := range callers {
		c := &callers[i]
		private, err := keys.ParsePrivate(play.Private[i])
		if err != nil {
			return nil, err
		}
		c.id = noise.NewIdentity(private)
		c.remote = noise.NewRemote(c.id, responder)
		// The sender index is the position, so that an answer leads straight to its caller.
		c.pending, err = c.id.Initiate(&c.message, c.remote, uint32(i), noise.NewTimestamp(time.Now()))
		if err != nil {
			return nil, err
		}
		noise.NewMacs(c.remote).Add(c.message[:], boottime.Now())
	}
	return callers, nil
}

// shakeHands keeps a window of initiations in flight until all are sent and no answer is missing,
// or none comes.
func shakeHands(fd int, callers []caller, confirm bool) (shakeReport, error) {
	began := time.Now()
	var r shakeReport
	next := 0
	send := func() error {
		if next == len(callers) {
			return nil
		}
		_, err := unix.Write(fd, callers[next].message[:])
		next++
		return err
	}
	for range min(window, len(callers)) {
		if err := send(); err != nil {
			return r, fmt.Errorf("send: %w", err)
		}
	}
	answered := make([]bool, len(callers))
	buf := make([]byte, 2048)
	for r.Answered < len(callers) {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			return r, nil // whoever is missing stays unanswered
		}
		if err != nil {
			return r, fmt.Errorf("receive: %w", err)
		}
		who, ok := answerTo(buf[:n])
		if !ok || int(who) >= len(callers) || answered[who] {
			continue
		}
		answered[who] = true
		r.Answered++
		r.Took = time.Since(began)
		if confirm {
			if err := callers[who].confirm(fd, buf[:n]); err != nil {
				return r, err
			}
		}
		if err := send(); err != nil {
			return r, fmt.Errorf("send: %w", err)
		}
	}
	return r, nil
}

// answerTo tells whose initiation a response answers.
func answerTo(datagram []byte) (index uint32, ok bool) {
	if kind, ok := wire.Kind(datagram); !ok || kind != wire.TypeResponse {
		return 0, false
	}
	return wire.ResponseReceiver(datagram), true
}

// confirm finishes the handshake and sends the keepalive that WireGuard's initiator sends first.
func (c *caller) confirm(fd int, response []byte) error {
	k, err := c.id.Finish(c.pending, c.remote, keys.PresharedKey{}, response)
	if err != nil {
		return fmt.Errorf("response: %w", err)
	}
	s := session.New(&k)
	counter, _ := s.Reserve(1) // a new session has counters left
	var scratch session.Scratch
	packet := make([]byte, wire.TransportOverhead)
	n := s.Seal(packet, counter, nil, &scratch)
	if _, err := unix.Write(fd, packet[:n]); err != nil {
		return fmt.Errorf("confirm: %w", err)
	}
	return nil
}
