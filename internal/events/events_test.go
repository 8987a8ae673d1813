package events

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func messages(list []Event) (out []string) {
	for _, e := range list {
		out = append(out, e.Message)
	}
	return out
}

func TestLog_numbersAreExactInJSONAndOfOneRun(t *testing.T) {
	t.Parallel()
	l := New(time.Date(2255, 1, 1, 0, 0, 0, 0, time.UTC))
	first := l.Last() + 1
	l.Add(Event{Kind: Switch})
	if l.Last() != first || first >= 1<<53 {
		t.Errorf("the first number is %d, the last %d", first, l.Last())
	}
	later := New(time.Date(2255, 1, 1, 0, 0, 1, 0, time.UTC))
	if _, _, err := later.Next(context.Background(), l.Last(), nil); !errors.Is(err, ErrGone) {
		t.Errorf("a number of the run before: %v, want ErrGone", err)
	}
}

func TestLog_returnsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	l := New(noon)
	for _, kind := range []Kind{MACLearned, PeerState, MACGone, PeerState} {
		l.Add(Event{Kind: kind, Message: string(kind)})
	}
	start := l.Oldest()
	list, next, err := l.Next(context.Background(), start, nil)
	if err != nil || len(list) != 4 || next != l.Last() || list[0].N != start+1 {
		t.Errorf("all: %v, %d, %v", messages(list), next, err)
	}
	list, next, _ = l.Next(context.Background(), start, []Kind{PeerState})
	if len(list) != 2 || next != l.Last() {
		t.Errorf("of one kind: %v, %d", messages(list), next)
	}
	if _, _, err := l.Next(context.Background(), l.Last()+1, nil); !errors.Is(err, ErrGone) {
		t.Errorf("from the future: %v", err)
	}
}

// A reader that waits is woken by the kinds it wants, and its number moves on over the others.
func TestLog_waits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New(noon)
		after := l.Last()
		go func() {
			time.Sleep(time.Second)
			l.Add(Event{Kind: MACGone})
			time.Sleep(time.Second)
			l.Add(Event{Kind: Loop, Message: "loop"})
		}()
		begin := time.Now()
		list, next, err := l.Next(t.Context(), after, []Kind{Loop})
		if err != nil || len(list) != 1 || time.Since(begin) != 2*time.Second || next != l.Last() {
			t.Errorf("%v, %d, %v after %v", messages(list), next, err, time.Since(begin))
		}
		l.Add(Event{Kind: MACGone})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, end, err := l.Next(ctx, next, []Kind{Loop}); !errors.Is(err, context.DeadlineExceeded) || end != l.Last() {
			t.Errorf("nothing of interest: number %d, %v", end, err)
		}
	})
}

func TestLog_forgetsTheOldestAndSaysSo(t *testing.T) {
	t.Parallel()
	l := New(noon)
	after := l.Last()
	for range Capacity + 10 {
		l.Add(Event{Kind: Drops})
	}
	if len(l.ring) != Capacity {
		t.Errorf("%d events are remembered", len(l.ring))
	}
	if _, _, err := l.Next(context.Background(), after, nil); !errors.Is(err, ErrGone) {
		t.Errorf("events that were overwritten: %v", err)
	}
	after = l.Oldest()
	for n := 0; n < Capacity; {
		list, next, err := l.Next(context.Background(), after, nil)
		if err != nil || len(list) > maxBatch {
			t.Fatalf("%d events, %v", len(list), err)
		}
		for _, e := range list {
			if after++; e.N != after {
				t.Fatalf("number %d instead of %d", e.N, after)
			}
		}
		n, after = n+len(list), next
	}
	if after != l.Last() {
		t.Errorf("read up to %d of %d", after, l.Last())
	}
}

func peer(name, state, reason string, completed, failed uint64, at string) *Peer {
	return &Peer{
		Key: keys.PublicKey{name[0]}, Name: name, State: state, Reason: reason,
		Completed: completed, Failed: failed, LastHandshake: noon, Endpoint: netip.MustParseAddrPort(at),
	}
}

func TestObserver_tellsWhatHappenedAndWhy(t *testing.T) {
	t.Parallel()
	l := New(noon)
	o := NewObserver(l)
	after := l.Last()
	look := func(seconds int, drops map[string]uint64, peers ...*Peer) []string {
		o.Look(noon.Add(time.Duration(seconds)*time.Second), slices.Values(peers), drops)
		if after == l.Last() {
			return nil
		}
		list, next, err := l.Next(context.Background(), after, nil)
		if err != nil {
			t.Fatal(err)
		}
		after = next
		return messages(list)
	}
	for n, step := range []struct {
		drops map[string]uint64
		peer  *Peer
		want  string
	}{
		{map[string]uint64{"replay": 5000}, peer("berlin", "idle", "", 0, 0, "192.0.2.1:1"), ""},
		{map[string]uint64{"replay": 5099}, peer("berlin", "connecting", "", 0, 1, "192.0.2.1:1"), "handshake with berlin failed; berlin is connecting"},
		{map[string]uint64{"replay": 5400}, peer("berlin", "up", "", 1, 1, "192.0.2.1:1"),
			"handshake with berlin completed; berlin is up; 301 packets a second are dropped: replay"},
		{map[string]uint64{"replay": 5900}, peer("berlin", "up", "", 1, 1, "192.0.2.2:9"), "berlin moved from 192.0.2.1:1 to 192.0.2.2:9"},
		{nil, peer("berlin", "down", "no answer", 1, 3, "192.0.2.2:9"), "handshake with berlin failed: no answer; berlin is down: no answer"},
		{nil, peer("berlin", "down", "no answer", 1, 3, "192.0.2.2:9"), ""},
	} {
		if got := strings.Join(look(n, step.drops, step.peer), "; "); got != step.want {
			t.Errorf("look %d: %q, want %q", n, got, step.want)
		}
	}
	// A peer that is removed and added again has no history.
	look(10, nil)
	if got := look(11, nil, peer("berlin", "idle", "", 0, 0, "192.0.2.2:9")); got != nil {
		t.Errorf("a new peer: %q", got)
	}
	list, _, _ := l.Next(context.Background(), l.Oldest(), []Kind{PeerState})
	text, err := json.Marshal(list[1])
	if err != nil || !strings.Contains(string(text), `"state":"up","was":"connecting"`) || !strings.Contains(string(text), `"public_key":"YgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="`) {
		t.Errorf("%s, %v", text, err)
	}
}

// Peers that stay as they are cause no events, however often they are looked at.
func TestObserver_doesNotReportWhatDidNotChange(t *testing.T) {
	t.Parallel()
	l := New(noon)
	o := NewObserver(l)
	var many []*Peer
	for n := range 200 {
		p := peer("berlin", "idle", "", 0, 0, "192.0.2.1:1")
		p.Key[1] = byte(n)
		many = append(many, p)
	}
	for range 3 {
		o.Look(noon, slices.Values(many), nil)
	}
	if l.Last() != l.Oldest() {
		t.Errorf("%d events", l.Last()-l.Oldest())
	}
}

func BenchmarkObserver10000(b *testing.B) {
	o := NewObserver(New(noon))
	var many []*Peer
	for n := range 10000 {
		p := peer("berlin", "idle", "", 0, 0, "192.0.2.1:1")
		p.Key[1], p.Key[2] = byte(n), byte(n>>8)
		many = append(many, p)
	}
	for b.Loop() {
		o.Look(noon, slices.Values(many), nil)
	}
}
