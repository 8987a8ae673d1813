package tundevtest

import (
	"bytes"
	"errors"
	"net"
	"syscall"
	"testing"
	"testing/synctest"

	"tund/tunnel/tundev"
)

func TestQueue_packetsPassBothWays(t *testing.T) {
	q := New(1, tundev.Features{})
	if !q.Inject([]byte("out")) || q.Inject([]byte("too many")) {
		t.Error("want room for exactly one")
	}
	buf := make([]byte, tundev.MaxRead)
	n, err := q.Read(buf, true)
	if err != nil || !bytes.Equal(buf[:n], append(make([]byte, tundev.HeaderSize), "out"...)) {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if n, err := q.Read(buf, false); n != 0 || err != nil {
		t.Errorf("empty: %d, %v", n, err)
	}
	frame := append(make([]byte, tundev.HeaderSize), "in"...)
	if err := errors.Join(q.Write(frame), q.Write(frame)); err != nil {
		t.Error(err)
	}
	if got := <-q.Written(); !bytes.Equal(got, frame) || q.Lost() != 1 {
		t.Errorf("written %q, %d lost", got, q.Lost())
	}
}

func TestQueue_refusesWhatItsFeaturesLack(t *testing.T) {
	for _, c := range []struct {
		flags, gso byte
		features   tundev.Features
		want       error
	}{
		{1, 0, tundev.Features{}, tundev.ErrRefused},
		{1, 0, tundev.Features{Checksum: true}, nil},
		{1, 1, tundev.Features{Checksum: true}, tundev.ErrRefused},
		{1, 0x84, tundev.Features{Checksum: true, TSO: true}, nil},
		{1, 5, tundev.Features{Checksum: true, TSO: true}, tundev.ErrRefused},
		{1, 5, tundev.Features{Checksum: true, TSO: true, USO: true}, nil},
	} {
		frame := append(make([]byte, tundev.HeaderSize), "packet"...)
		frame[0], frame[1] = c.flags, c.gso
		if got := New(1, c.features).Write(frame); got != c.want {
			t.Errorf("%+v: got %v, want %v", c, got, c.want)
		}
	}
	q := New(1, tundev.Features{})
	q.Full()
	if err := q.Write(append(make([]byte, tundev.HeaderSize), 1)); err != syscall.ENOBUFS {
		t.Errorf("full: %v", err)
	}
}

func TestQueue_closeAndDeleteEndAWaitingRead(t *testing.T) {
	for want, end := range map[error]func(*Queue){
		net.ErrClosed:  func(q *Queue) { _ = q.Close() },
		tundev.ErrGone: func(q *Queue) { q.Delete() },
	} {
		synctest.Test(t, func(t *testing.T) {
			q := New(1, tundev.Features{})
			done := make(chan error, 1)
			go func() {
				_, err := q.Read(make([]byte, 100), true)
				done <- err
			}()
			synctest.Wait()
			q.FailRead(syscall.EIO)
			if err := <-done; err != syscall.EIO {
				t.Errorf("failing read: %v, want EIO", err)
			}
			go func() {
				_, err := q.Read(make([]byte, 100), true)
				done <- err
			}()
			synctest.Wait()
			end(q)
			if err := <-done; !errors.Is(err, want) {
				t.Errorf("read: %v, want %v", err, want)
			}
			if err := q.Write(make([]byte, 20)); !errors.Is(err, want) {
				t.Errorf("write: %v, want %v", err, want)
			}
		})
	}
}
