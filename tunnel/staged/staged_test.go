package staged

import (
	"bytes"
	"testing"
)

// Packets that are put while others are being sent stay behind them, and no caller waits for
// another.
func TestQueue_orderIsKeptWhileSomebodySends(t *testing.T) {
	t.Parallel()
	var budget Budget
	var s Queue
	s.Put([]byte{1}, &budget)
	s.Put([]byte{2}, &budget)
	first := s.Take(&budget)
	if len(first) != 2 || s.Len() != 2 || s.Take(&budget) != nil {
		t.Fatalf("took %d, %d wait; somebody else could take as well", len(first), s.Len())
	}
	s.Put([]byte{3}, &budget)
	s.Done(1, first[1:], &budget)
	rest := s.Take(&budget)
	if got := bytes.Join(rest, nil); !bytes.Equal(got, []byte{2, 3}) {
		t.Errorf("the rest is %v, want 2, 3", got)
	}
	s.Close(&budget)
	s.Done(0, rest, &budget)
	if s.Len() != 0 || budget.Bytes() != 0 || s.Put([]byte{4}, &budget) != 1 {
		t.Errorf("%d wait, %d bytes, after the peer was removed", s.Len(), budget.Bytes())
	}
}

func TestQueue_allPeersShareABound(t *testing.T) {
	t.Parallel()
	var budget Budget
	stages := make([]Queue, 200)
	lost := 0
	for i := range stages {
		for range Max {
			lost += stages[i].Put(make([]byte, 1420), &budget)
		}
	}
	if n := budget.Bytes(); n > MaxBytes || n < MaxBytes-1420 {
		t.Errorf("%d bytes wait, want at most %d", n, MaxBytes)
	}
	if want := 200*Max - MaxBytes/1420; lost != want {
		t.Errorf("%d packets lost, want %d", lost, want)
	}
	for i := range stages {
		lost += stages[i].Purge(&budget)
	}
	if want := 200 * Max; lost != want {
		t.Errorf("%d of %d packets counted as lost", lost, want)
	}
	if n := budget.Bytes(); n != 0 {
		t.Errorf("%d bytes are still accounted for", n)
	}
}
