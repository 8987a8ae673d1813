package traffic

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pipe is a pair of datagram sockets, the second of which does not wait for longer than a moment.
func pipe(t *testing.T) (out, in int) {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(ends[0]), unix.Close(ends[1]) })
	wait := unix.NsecToTimeval(int64(20 * time.Millisecond))
	if err := unix.SetsockoptTimeval(ends[1], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		t.Fatal(err)
	}
	return ends[0], ends[1]
}

func TestBatch_offersAMixInTurn(t *testing.T) {
	t.Parallel()
	mix := []int{36, 36, 548, 36, 36, 548, 36, 548, 36, 36, 548, 1392}
	b := NewBatch(mix...)
	if b.count != BatchSize-BatchSize%len(mix) {
		t.Fatalf("%d buffers, want whole mixes", b.count)
	}
	out, in := pipe(t)
	for i := 0; i < 2*b.count; {
		n, err := b.send(out, 7)
		if err != nil || n == 0 {
			t.Fatalf("send = %d, %v", n, err)
		}
		for range n {
			room := make([]byte, 2000)
			got, _, err := unix.Recvfrom(in, room, 0)
			if err != nil || got != mix[i%len(mix)] {
				t.Fatalf("datagram %d has %d bytes, want %d (%v)", i, got, mix[i%len(mix)], err)
			}
			i++
		}
	}
}

// What is sent is counted by its trial, and stragglers of another are not among it.
func TestCounter_countsByTrial(t *testing.T) {
	t.Parallel()
	out, in := pipe(t)
	var c Counter
	ended := make(chan error, 1)
	go func() { ended <- c.Count(in) }()
	want := make(map[uint32]uint64)
	for _, trial := range []uint32{1, 2, 1, MaxTrials} {
		sent, took, err := Send(out, NewBatch(64), trial, 2000, 10*time.Millisecond)
		if err != nil || sent == 0 || took < 10*time.Millisecond {
			t.Fatalf("%d sent in %v, %v", sent, took, err)
		}
		want[trial] += sent
	}
	want[MaxTrials] = 0
	for end := time.Now().Add(10 * time.Second); ; {
		if c.Received(1) == want[1] && c.Received(2) == want[2] && c.Received(MaxTrials) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d and %d received, want %v", c.Received(1), c.Received(2), want)
		}
		time.Sleep(time.Millisecond)
	}
	c.Stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestSearch_findsTheRateThatArrives(t *testing.T) {
	t.Parallel()
	s := Search{Start: 20_000, Least: 500, Loss: 1e-3, Close: 1.06}
	for _, test := range []struct{ carries, sends, want float64 }{
		{800, 1e9, 800}, {21_000, 1e9, 21_000}, {333_000, 1e9, 333_000}, {5e6, 1e9, 5e6},
		{1e9, 400_000, 400_000}, // the sender is the limit
	} {
		trials := 0
		got, err := s.Rate(func(rate float64) (Trial, error) {
			trials++
			sent := min(rate, test.sends)
			return Trial{Sent: uint64(sent), Received: uint64(min(sent, test.carries)), Seconds: 1}, nil
		})
		if err != nil || got < test.want/s.Close/1.01 || got > test.want*1.01 {
			t.Errorf("%+v: %v, %v", test, got, err)
		}
		if trials > 64 {
			t.Errorf("%+v took %d trials", test, trials)
		}
	}
	// One hiccup of the machine at each rate.
	seen := make(map[float64]bool)
	got, err := s.Rate(func(rate float64) (Trial, error) {
		t := Trial{Sent: uint64(rate), Received: uint64(min(rate, 100_000)), Seconds: 1}
		if !seen[rate] {
			t.Received = 0
		}
		seen[rate] = true
		return t, nil
	})
	if err != nil || got < 90_000 {
		t.Errorf("with hiccups: %v, %v", got, err)
	}
}

func TestSearch_fails(t *testing.T) {
	t.Parallel()
	s := Search{Start: 20_000, Least: 500, Loss: 1e-3, Close: 1.06}
	if _, err := s.Rate(func(float64) (Trial, error) { return Trial{Sent: 1000, Seconds: 1}, nil }); !errors.Is(err, ErrNoRate) {
		t.Errorf("%v", err)
	}
	broken := errors.New("broken")
	if _, err := s.Rate(func(float64) (Trial, error) { return Trial{}, broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}
