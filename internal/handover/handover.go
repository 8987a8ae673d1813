// Package handover keeps a secret in anonymous memory, from the end of one process to the start of
// the next: the sessions of an instance that is restarted. A descriptor of that memory goes through
// the store of the service manager (internal/sdnotify).
//
// The secret is never on a disk. It can be taken once: Take overwrites it with zeros before it
// returns it, so that no second process, after whatever crash, continues the same sessions, whose
// counters have moved on by then. The package does not know what the secret means.
//
// Sources: memfd_create(2), fcntl(2) on F_ADD_SEALS.
package handover

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// magic begins the memory. It names the version of what this package adds; the contents have a
	// version of their own.
	magic = "tund handover 1\n"
	// headerSize is magic, the length of the secret in 8 bytes, and its SHA-256.
	headerSize = len(magic) + 8 + sha256.Size
	// MaxSize bounds a secret, in bytes: the sessions of 1,048,576 peers would not fit, those of
	// 100,000 do.
	MaxSize = 512 << 20
)

// ErrUsed is returned by Take for a secret that was taken before.
var ErrUsed = errors.New("it was used before")

// Put writes a secret into new anonymous memory and returns its descriptor, which is the caller's.
// The size of the memory is sealed; the contents are not, because Take has to erase them.
func Put(secret []byte) (fd int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep sessions for the next process: %w", err)
		}
	}()
	if len(secret) > MaxSize {
		return -1, fmt.Errorf("%d bytes are more than %d", len(secret), MaxSize)
	}
	fd, err = unix.MemfdCreate("tund-sessions", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	sum := sha256.Sum256(secret)
	header := append(binary.BigEndian.AppendUint64([]byte(magic), uint64(len(secret))), sum[:]...)
	if err := writeAt(fd, header, 0); err != nil {
		return -1, err
	}
	if err := writeAt(fd, secret, int64(len(header))); err != nil {
		return -1, err
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	return fd, err
}

// Take returns the secret in fd after it has erased it there. It closes fd in any case. The secret
// is the caller's, who wipes it.
func Take(fd int) (secret []byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("continue the sessions of the last process: %w", err)
		}
		_ = unix.Close(fd)
	}()
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&(unix.F_SEAL_SHRINK|unix.F_SEAL_GROW) != unix.F_SEAL_SHRINK|unix.F_SEAL_GROW {
		return nil, errors.New("not memory of fixed size")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Size < int64(headerSize) || st.Size > int64(headerSize)+MaxSize {
		return nil, fmt.Errorf("it has %d bytes", st.Size)
	}
	all := make([]byte, st.Size)
	if err := readAt(fd, all); err != nil {
		return nil, err
	}
	if err := writeAt(fd, make([]byte, st.Size), 0); err != nil {
		clear(all)
		return nil, fmt.Errorf("cannot erase it: %w", err)
	}
	secret, err = parse(all)
	if err != nil {
		clear(all)
	}
	return secret, err
}

func parse(all []byte) ([]byte, error) {
	head, secret := all[:headerSize], all[headerSize:]
	if len(bytes.Trim(head, "\x00")) == 0 {
		return nil, ErrUsed
	}
	if !bytes.HasPrefix(head, []byte(magic)) {
		return nil, errors.New("it is of another version")
	}
	head = head[len(magic):]
	sum := sha256.Sum256(secret)
	if binary.BigEndian.Uint64(head) != uint64(len(secret)) || !bytes.Equal(head[8:], sum[:]) {
		return nil, errors.New("it is damaged")
	}
	return secret, nil
}

func writeAt(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

func readAt(fd int, b []byte) error {
	for at := 0; at < len(b); {
		n, err := unix.Pread(fd, b[at:], int64(at))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errors.New("it ends early")
		}
		at += n
	}
	return nil
}
