package capture

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tund/crypto/keys"
	"tund/internal/boottime"
	"tund/internal/capture/filter"
	"tund/internal/capture/stream"
	"tund/internal/drop"
	"tund/tunnel/peer"
)

// clock is the clock of a synctest bubble.
type clock struct{}

func (clock) Now() boottime.Time { return boottime.Time(time.Now().UnixNano()) }
func (clock) Wall() time.Time    { return time.Now() }

func options(snap int) Options {
	return Options{Clock: clock{}, Devices: []int{1, Underlay}, Start: stream.Start{
		Schema: stream.Schema, SnapLength: snap, Interfaces: []stream.Interface{{Name: "lan0", Kind: stream.KindTAP}, {Name: "outer", Kind: stream.KindOuter}},
	}}
}

func begin(t testing.TB, taps *Taps, o Options) *Session {
	t.Helper()
	s, err := taps.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop("") })
	return s
}

// records ends a session and returns what it had, by kind.
func records(t testing.TB, s *Session) (list []stream.Header, payloads [][]byte) {
	t.Helper()
	s.Stop("enough")
	var out bytes.Buffer
	err := s.Stream(context.Background(), func(b []byte) error { out.Write(b); return nil }, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	r := stream.NewReader(&out)
	for {
		h, payload, err := r.Next()
		if err == io.EOF {
			return list, payloads
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Kind == stream.KindPacket || h.Kind == stream.KindPeer || h.Kind == stream.KindSecret {
			list, payloads = append(list, h), append(payloads, bytes.Clone(payload))
		}
	}
}

func newPeer(t testing.TB, first byte, name string) *peer.Peer {
	t.Helper()
	p := peer.New(keys.PublicKey{first})
	p.SetName(name)
	return p
}

func TestSession_packets(t *testing.T) {
	t.Parallel()
	var taps Taps
	w := taps.NewWriter()
	if taps.Load() != nil {
		t.Fatal("captures run before one has begun")
	}
	s := begin(t, &taps, options(10))
	berlin, paris := newPeer(t, 1, "berlin"), newPeer(t, 1, "paris") // one slot
	data := []byte("0123456789abcdef")
	set := taps.Load()
	set.Packet(w, &Packet{Data: data, Device: 0, Peer: berlin}) // of another device
	set.Packet(w, &Packet{Data: data, Device: 1, Peer: berlin, In: true, Time: 5})
	set.Packet(w, &Packet{Data: data[:3], Device: 1, Peer: berlin, Waits: true, Segments: 9})
	set.Packet(w, &Packet{Data: data, Device: 1, Peer: paris})
	berlin.SetName("bonn")
	set.Packet(w, &Packet{Data: data, Device: 1, Peer: berlin})
	set.Packet(99, &Packet{Data: data, Device: 1, Reason: drop.NoPeer}) // of a loop that came later

	list, payloads := records(t, s)
	// The ring that is shared comes first.
	want := []struct {
		kind    stream.Kind
		flags   uint8
		reason  drop.Reason
		peer    uint16
		payload string
	}{
		{stream.KindPacket, 0, drop.NoPeer, 0, "0123456789"},
		{stream.KindPeer, 0, 0, 2, "berlin"},
		{stream.KindPacket, stream.In, 0, 2, "0123456789"},
		{stream.KindPacket, stream.Waits, 0, 2, "012"},
		{stream.KindPeer, 0, 0, 2, "paris"},
		{stream.KindPacket, 0, 0, 2, "0123456789"},
		{stream.KindPeer, 0, 0, 2, "bonn"},
		{stream.KindPacket, 0, 0, 2, "0123456789"},
	}
	if len(list) != len(want) {
		t.Fatalf("%d records, want %d: %v", len(list), len(want), list)
	}
	for i, w := range want {
		h := list[i]
		if h.Kind != w.kind || h.Flags != w.flags || h.Reason != uint16(w.reason) || h.Peer != w.peer || !bytes.HasSuffix(payloads[i], []byte(w.payload)) {
			t.Errorf("record %d: %+v %q, want %+v", i, h, payloads[i], w)
		}
	}
	if h := list[2]; h.Length != 16 || h.Time != 5 || h.Interface != 0 {
		t.Errorf("%+v", h)
	}
	if taken, lost := s.Counts(); taken != 5 || lost != 0 {
		t.Errorf("%d taken, %d lost", taken, lost)
	}
	if taps.Load() != nil {
		t.Error("captures run after the last has ended")
	}
}

// What a slow reader does not take is lost and counted, and what it takes is whole.
func TestSession_lossy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var taps Taps
		w := taps.NewWriter()
		s := begin(t, &taps, options(MaxSnap))
		slow := make(chan struct{})
		in, out := io.Pipe()
		go func() {
			err := s.Stream(context.Background(), func(b []byte) error {
				<-slow
				_, err := out.Write(b)
				return err
			}, func() error { return nil })
			out.CloseWithError(err)
		}()
		const packets = 20_000
		offer := func(n int) {
			data := bytes.Repeat([]byte{byte(n)}, 50+n*7919%3000)
			taps.Load().Packet(w, &Packet{Data: data, Device: 1, Segments: n % 1000})
		}
		for n := range packets {
			offer(n)
		}
		before, lost := s.Counts()
		if before == 0 || lost == 0 || before+lost != packets {
			t.Fatalf("%d taken, %d lost of %d", before, lost, packets)
		}
		close(slow)
		go func() {
			for n := range packets {
				offer(n)
				if n%200 == 0 {
					time.Sleep(drainEvery)
				}
			}
			taps.Close("over")
		}()
		r := stream.NewReader(in)
		got := uint64(0)
		for {
			h, payload, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if h.Kind == stream.KindEnd {
				if string(payload) != "over" {
					t.Errorf("ended because %q", payload)
				}
				break
			}
			if h.Kind != stream.KindPacket {
				continue
			}
			got++
			if int(h.Length) != len(payload) || len(bytes.Trim(payload, string(payload[:1]))) != 0 {
				t.Fatalf("packet %d is torn: %+v", got, h)
			}
		}
		if taken, _ := s.Counts(); got != taken || taken < before+packets/2 {
			t.Errorf("%d read, %d taken", got, taken)
		}
		if _, err := taps.Start(options(100)); !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestTaps_areBounded(t *testing.T) {
	t.Parallel()
	var crowded Taps
	for range 1000 {
		crowded.NewWriter()
	}
	if n := len(begin(t, &crowded, options(100)).rings); n != maxWriters+1 {
		t.Errorf("%d rings", n)
	}
	var changing Taps
	for range 1000 {
		changing.EndWriter(changing.NewWriter())
	}
	if n := len(begin(t, &changing, options(100)).rings); n != 2 {
		t.Errorf("%d rings for loops of which one ends before the next begins", n)
	}
	var taps Taps
	var list []*Session
	for range maxSessions {
		o := options(100)
		o.Devices, o.Start.Interfaces = o.Devices[:1], o.Start.Interfaces[:1]
		list = append(list, begin(t, &taps, o))
	}
	if _, err := taps.Start(options(100)); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	if taps.Load().Outer() || taps.Load().Secrets() {
		t.Error("somebody captures datagrams")
	}
	list[2].Stop("")
	begin(t, &taps, options(100))
	if !taps.Load().Outer() {
		t.Error("nobody captures datagrams")
	}
}

// The path hands packets over without allocating, with a filter and names and for datagrams as
// well.
func TestSet_doesNotAllocate(t *testing.T) {
	var taps Taps
	w := taps.NewWriter()
	o := options(MaxSnap)
	o.Filter, _ = filter.Parse("not port 1 and (peer berlin or host 10.0.0.1) or in", func(string) (filter.Key, bool) { return filter.Key{1}, true })
	s := begin(t, &taps, o)
	p := newPeer(t, 1, "berlin")
	data := make([]byte, 1400)
	copy(data[12:], "\x08\x00\x45")
	remote := netip.MustParseAddrPort("[2001:db8::1]:51820")
	allocations := testing.AllocsPerRun(2000, func() { // more than fit
		taps.Load().Packet(w, &Packet{Data: data, Device: 1, Peer: p, Time: 1})
		taps.Load().Datagram(w, &Datagram{Data: data, Remote: remote, Peer: p, In: true}, false)
	})
	if taken, lost := s.Counts(); allocations != 0 || taken == 0 || lost == 0 {
		t.Errorf("%v allocations, %d taken, %d lost", allocations, taken, lost)
	}
}

// Workers share a ring; a lane that shares it too loses a packet rather than wait.
func TestSet_severalWriters(t *testing.T) {
	t.Parallel()
	var taps Taps
	s := begin(t, &taps, options(100))
	var group sync.WaitGroup
	stop := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	read := make(chan error)
	go func() {
		read <- s.Stream(ctx, func([]byte) error { return nil }, func() error { return nil })
	}()
	for n := range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				d := Datagram{Data: []byte("message"), Remote: netip.MustParseAddrPort("192.0.2.1:1")}
				if set := taps.Load(); set != nil {
					set.Datagram(0, &d, n%2 == 0)
				}
			}
		})
	}
	for range 5 {
		other := begin(t, &taps, options(200))
		time.Sleep(time.Millisecond)
		other.Stop("")
	}
	close(stop)
	group.Wait()
	cancel()
	if err := <-read; !errors.Is(err, context.Canceled) {
		t.Errorf("Stream: %v", err)
	}
	if taken, _ := s.Counts(); taken == 0 {
		t.Error("nothing was taken")
	}
}

func BenchmarkSet_Packet(b *testing.B) {
	var taps Taps
	w := taps.NewWriter()
	s := begin(b, &taps, options(128))
	p, data := newPeer(b, 1, "berlin"), make([]byte, 1400)
	for n := 0; b.Loop(); n++ {
		taps.Load().Packet(w, &Packet{Data: data, Device: 1, Peer: p})
		if n%1000 == 0 {
			_, _ = s.drain(func([]byte) error { return nil })
		}
	}
}
