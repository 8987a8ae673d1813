package linkbench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// stage is one row while it is measured: namespaces, and where its traffic begins and ends.
type stage struct {
	dir  string // for files
	tund string // path of the daemon

	from, to *space
	at       netip.Addr // of the receiver
	name     string     // of the device by which the sender reaches it

	spaces  []*space
	closers []func() // run before the namespaces are closed, the last first
}

// space makes a namespace that belongs to the stage.
func (st *stage) space() (*space, error) {
	s, err := newSpace()
	if err == nil {
		st.spaces = append(st.spaces, s)
	}
	return s, err
}

// later registers what close does.
func (st *stage) later(f func()) { st.closers = append(st.closers, f) }

// close takes everything down that has been built so far.
func (st *stage) close() {
	for n := len(st.closers) - 1; n >= 0; n-- {
		st.closers[n]()
	}
	for _, s := range st.spaces {
		s.close()
	}
}

// flow says where the traffic of the stage begins and ends.
func (st *stage) flow(from *space, name string, to *space, at netip.Addr) {
	st.from, st.name, st.to, st.at = from, name, to, at
}

// device returns the MTU of the sender's device and the speed that it claims.
func (st *stage) device() (mtu int, claimed *int) {
	if l, err := st.from.links.LinkByName(st.name); err == nil {
		mtu = l.Attrs().MTU
	}
	_ = st.from.do(func() error {
		if speed, err := claimedSpeed(st.name); err == nil {
			claimed = &speed
		}
		return nil
	})
	return mtu, claimed
}

// Limits of the wait for the first answer.
const (
	answerLimit = 10 * time.Second      // a device that carries nothing after that never will
	answerPause = 20 * time.Millisecond // between two attempts
)

// awaitAnswer returns when a packet crosses and comes back, which a tunnel needs a handshake for.
func (st *stage) awaitAnswer(ctx context.Context) error {
	echo, err := st.echo()
	if err != nil {
		return err
	}
	defer echo.stop()
	fd, err := st.udpTo(echo.port)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	wait := unix.NsecToTimeval(int64(answerPause))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return fmt.Errorf("wait for an answer: %w", err)
	}
	buf := make([]byte, smallPacket)
	var last error
	for end := time.Now().Add(answerLimit); time.Now().Before(end) && ctx.Err() == nil; {
		if _, last = unix.Write(fd, buf); last == nil {
			if _, last = unix.Read(fd, buf); last == nil {
				return nil
			}
		}
		if !errors.Is(last, unix.EAGAIN) {
			time.Sleep(answerPause) // an error came at once
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("no packet from %s came back within %v: %w", st.name, answerLimit, last)
}
