package l2

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"tund/internal/boottime"
	"tund/internal/drop"
)

// cutFrame returns the two payloads of a frame, each with 16 bytes of padding.
func cutFrame(t testing.TB, frame []byte, id uint16, limit int) (first, second []byte) {
	t.Helper()
	cut, ok := Cut(len(frame), limit)
	if !ok {
		t.Fatalf("Cut(%d, %d) refused", len(frame), limit)
	}
	pad := func(b []byte) []byte { return append(b, make([]byte, (16-len(b)%16)%16)...) }
	first = make([]byte, FragmentHeaderLen)
	PutFragmentHeader(first, 0, len(frame), id, cut, false)
	second = make([]byte, FragmentHeaderLen)
	PutFragmentHeader(second, 0, len(frame), id, cut, true)
	return pad(append(first, frame[:cut]...)), pad(append(second, frame[cut:]...))
}

func add(t testing.TB, r *Reassembler, now boottime.Time, from PortID, payload []byte) ([]byte, drop.Reason) {
	t.Helper()
	h, body, reason := ParseFrame(payload)
	if reason != drop.None || !h.Fragment {
		t.Fatalf("ParseFrame: %+v, %v", h, reason)
	}
	return r.Add(now, from, &h, body)
}

func TestCut_bothPartsFitAndAreEqual(t *testing.T) {
	t.Parallel()
	for length := 1; length < 3000; length++ {
		for _, limit := range []int{64, 1280, 1420, 1440} {
			cut, ok := Cut(length, limit)
			if want := length+FrameHeaderLen > limit && (length+1)/2+FragmentHeaderLen <= limit && length > 1; ok != want {
				t.Fatalf("Cut(%d, %d) = %d, %v", length, limit, cut, ok)
			}
			if ok && (cut+FragmentHeaderLen > limit || length-cut > cut || cut-(length-cut) > 1) {
				t.Fatalf("Cut(%d, %d) = %d", length, limit, cut)
			}
		}
	}
	if _, ok := Cut(65536, 65535); ok {
		t.Error("65,536 bytes do not fit into the length field")
	}
}

func TestReassembler_joinsInEitherOrder(t *testing.T) {
	t.Parallel()
	r := NewReassembler(1522, nil)
	frame := bytes.Repeat([]byte("0123456789a"), 139)[:1518]
	a, b := cutFrame(t, frame, 7, 1420)
	for _, order := range [][2][]byte{{a, b}, {b, a}} {
		if f, reason := add(t, r, start, 1, order[0]); f != nil || reason != drop.None {
			t.Fatalf("one half gave %d bytes, %v", len(f), reason)
		}
		if f, _ := add(t, r, start, 2, order[1]); f != nil {
			t.Fatal("halves from two peers were joined")
		}
		if f, reason := add(t, r, start, 1, order[1]); !bytes.Equal(f, frame) || reason != drop.None {
			t.Fatalf("both halves gave %d bytes, %v", len(f), reason)
		}
		delete(r.ports, 2)
	}
	if lost := r.TakeLost(at(time.Minute)); lost != (Lost{}) {
		t.Errorf("lost: %+v", lost)
	}
}

func TestReassembler_contradictionsAndLimits(t *testing.T) {
	t.Parallel()
	r := NewReassembler(1522, nil)
	frame := make([]byte, 1500)
	a, b := cutFrame(t, frame, 7, 1420)
	add(t, r, start, 1, a)
	if _, reason := add(t, r, start, 1, a); reason != drop.ReassemblyBad {
		t.Errorf("the first half twice: %v", reason)
	}
	_, other := cutFrame(t, frame[:1490], 7, 1420)
	if _, reason := add(t, r, start, 1, other); reason != drop.ReassemblyBad {
		t.Errorf("another frame's half: %v", reason)
	}
	if f, reason := add(t, r, start, 1, b); f == nil {
		t.Errorf("the true half after that: %v", reason)
	}
	long, _ := cutFrame(t, make([]byte, 1523), 8, 1420)
	if _, reason := add(t, r, start, 1, long); reason != drop.OversizeFrame {
		t.Errorf("longer than the device takes: %v", reason)
	}
	add(t, r, start, 1, a)
	if f, _ := add(t, r, at(partTimeout+1), 1, b); f != nil {
		t.Error("a half that waited too long was joined")
	}
	newer, _ := cutFrame(t, frame, 7+partSlots, 1420)
	add(t, r, at(partTimeout+2), 1, newer)
	if lost := r.TakeLost(at(time.Minute)); lost != (Lost{Full: 1, Old: 2}) {
		t.Errorf("lost: %+v", lost)
	}
}

// TestReassembler_actsAsTheModel delivers cut frames of three peers with loss, reordering and
// delay, and compares the result with a model.
func TestReassembler_actsAsTheModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 4))
		r := NewReassembler(1522, nil)
		m := reassemblyModel{waiting: map[modelSlot]modelHalf{}}
		var got Lost
		now := start
		var flying []modelPart
		ids := [3]FragmentIDs{}
		for i := range ids {
			ids[i].Reserve(rng.IntN(70000))
		}
		for step := range 5000 {
			now = now.Add(time.Duration(rng.IntN(30)) * time.Millisecond)
			if rng.IntN(2) == 0 {
				port := PortID(rng.IntN(3))
				frame := make([]byte, 1430+rng.IntN(92))
				for i := range frame {
					frame[i] = byte(rng.Uint32())
				}
				id := ids[port].Reserve(1)
				a, b := cutFrame(t, frame, id, 1420)
				flying = append(flying, modelPart{port, id, a, frame}, modelPart{port, id, b, frame})
			}
			if len(flying) == 0 {
				continue
			}
			i := rng.IntN(min(len(flying), 6))
			f := flying[i]
			flying = append(flying[:i:i], flying[i+1:]...)
			if rng.IntN(10) == 0 {
				continue // lost
			}
			expect := m.add(now, f)
			if out, reason := add(t, r, now, f.port, f.payload); reason != drop.None || !bytes.Equal(out, expect) {
				t.Fatalf("seed %d step %d: %d bytes, %v; want %d", seed, step, len(out), reason, len(expect))
			}
			if step%100 == 0 {
				m.expire(now)
				l := r.TakeLost(now)
				got.Full, got.Old = got.Full+l.Full, got.Old+l.Old
				if got != m.lost {
					t.Fatalf("seed %d step %d: lost %+v, want %+v", seed, step, got, m.lost)
				}
			}
		}
	}
}

// reassemblyModel implements reassembly with a map: for each peer and number modulo partSlots, the
// part that is waiting.
type reassemblyModel struct {
	waiting map[modelSlot]modelHalf
	lost    Lost
}

type modelSlot struct {
	port PortID
	slot uint16
}

type modelHalf struct {
	id uint16
	at boottime.Time
}

type modelPart struct {
	port    PortID
	id      uint16
	payload []byte
	frame   []byte // the whole frame
}

// add returns the frame that the part completes, or nil.
func (m *reassemblyModel) add(now boottime.Time, f modelPart) []byte {
	k := modelSlot{f.port, f.id % partSlots}
	h, ok := m.waiting[k]
	old := ok && now.Sub(h.at) > partTimeout
	switch {
	case old:
		m.lost.Old++
	case ok && h.id != f.id:
		m.lost.Full++
	case ok:
		delete(m.waiting, k)
		return f.frame
	}
	m.waiting[k] = modelHalf{f.id, now}
	return nil
}

func (m *reassemblyModel) expire(now boottime.Time) {
	for k, h := range m.waiting {
		if now.Sub(h.at) > partTimeout {
			m.lost.Old++
			delete(m.waiting, k)
		}
	}
}

func TestReassembler_memoryIsBoundedAndReused(t *testing.T) {
	r := NewReassembler(1522, nil)
	frame := make([]byte, 1500)
	var payloads [][]byte
	for id := range uint16(1000) {
		a, b := cutFrame(t, frame, id, 1420)
		payloads = append(payloads, a)
		if id%2 == 0 {
			payloads = append(payloads, b)
		}
	}
	feed := func() {
		for _, p := range payloads {
			h, body, _ := ParseFrame(p)
			r.Add(start, 1, &h, body)
		}
	}
	feed()
	if n := testing.AllocsPerRun(3, feed); n != 0 {
		t.Errorf("%v allocations for 1500 parts", n)
	}
}

func FuzzReassembler(f *testing.F) {
	a, b := cutFrame(f, make([]byte, 1500), 7, 1420)
	f.Add(a, b)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		r := NewReassembler(1522, nil)
		for _, p := range [][]byte{a, b, a} {
			h, body, reason := ParseFrame(p)
			if reason != drop.None || !h.Fragment {
				continue
			}
			if frame, _ := r.Add(start, 1, &h, body); frame != nil && (len(frame) != h.Length || len(frame) > 1522) {
				t.Fatalf("a frame of %d bytes, announced %d", len(frame), h.Length)
			}
		}
	})
}
