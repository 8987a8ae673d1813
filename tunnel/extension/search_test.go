package extension

import (
	"math/rand/v2"
	"testing"
	"time"

	"tund/internal/boottime"
)

// simulation is a path on which a search is tried out.
type simulation struct {
	search
	now    boottime.Time
	mtu    int     // of the path
	loss   float64 // share of probes lost
	dead   bool    // nothing passes
	cuts   bool    // what may be fragmented is, and passes
	random *rand.Rand
	sent   int // probes
}

const testWait = 100 * time.Millisecond

func simulate(top, mtu int, loss float64, seed uint64) *simulation {
	m := &simulation{now: boottime.Time(time.Hour), mtu: mtu, loss: loss, random: rand.New(rand.NewPCG(seed, 0))}
	m.reset(top)
	return m
}

func (m *simulation) passes() bool { return !m.dead && m.random.Float64() >= m.loss }

// send sends probes, whose answers come at once.
func (m *simulation) send(sizes []probe, small bool) {
	for _, p := range sizes {
		m.sent++
		if (p.size <= m.mtu || m.cuts && m.goal == least) && m.passes() && m.answered(p.size) {
			m.until = m.now
		}
	}
	if small && m.passes() {
		m.answered(0)
	}
}

// run goes on for a time during which large packets are sent.
func (m *simulation) run(d time.Duration) {
	for end := m.now.Add(d); m.now < end; {
		if m.goal != rest && m.now >= m.until {
			sizes, small, _ := m.proceed(m.now, testWait)
			m.send(sizes, small)
		}
		if m.goal == rest && m.now >= m.next {
			m.send(m.begin(m.now, testWait, true), false)
		}
		next := m.next
		if m.goal != rest {
			next = m.until
		}
		m.now = min(max(next, m.now.Add(time.Millisecond)), end)
	}
}

func TestSearch_findsEveryPathExactly(t *testing.T) {
	t.Parallel()
	for _, top := range []int{1280, 1281, 1400, 1500, 9000, 65535} {
		for mtu := 1280; mtu <= min(top, maxProbeMTU); mtu += 1 + (top-1280)/97 {
			m := simulate(top, mtu, 0, 1)
			m.run(3 * time.Second)
			if m.known != mtu {
				t.Errorf("top %d, path %d: found %d", top, mtu, m.known)
			}
			if m.sent > 2*(1+maxRounds*probesPerRound)+3 {
				t.Errorf("top %d, path %d: %d probes", top, mtu, m.sent)
			}
		}
	}
}

func TestSearch_wideOpenPathTakesOneProbe(t *testing.T) {
	t.Parallel()
	m := simulate(1500, 1500, 0, 1)
	m.run(time.Second)
	if m.known != 1500 || m.sent != 1 {
		t.Errorf("found %d with %d probes", m.known, m.sent)
	}
}

func TestSearch_shrinkingPathIsFoundInTime(t *testing.T) {
	t.Parallel()
	for _, mtu := range []int{1280, 1281, 1399, 1492, 1499} {
		m := simulate(1500, 1500, 0, 1)
		m.run(20 * time.Second)
		m.mtu = mtu
		m.run(confirmEvery + 2*testWait + 10*time.Millisecond)
		if m.known > mtu {
			t.Errorf("path %d: %d still in use after %v", mtu, m.known, confirmEvery+2*testWait)
		}
		m.run(time.Second)
		if m.known != mtu {
			t.Errorf("path %d: found %d", mtu, m.known)
		}
		m.mtu = 1500
		m.run(raiseSoon + time.Second)
		if m.known != 1500 {
			t.Errorf("wide again: %d", m.known)
		}
	}
}

// Whatever is lost, a size that does not pass is never in use for longer than it takes to notice,
// and one that is too small only until the next search.
func TestSearch_lossIsNotTakenForANarrowPath(t *testing.T) {
	t.Parallel()
	exact := 0
	const runs = 400
	for seed := range uint64(runs) {
		m := simulate(1500, 1400+int(seed%100), 0.05, seed)
		m.run(10 * time.Second)
		if m.known > m.mtu || m.known < floorMTU {
			t.Fatalf("seed %d: path %d, found %d", seed, m.mtu, m.known)
		}
		if m.known == m.mtu {
			exact++
		}
		m.run(2 * raiseEvery)
		if m.known > m.mtu || m.known < floorMTU {
			t.Fatalf("seed %d, later: path %d, found %d", seed, m.mtu, m.known)
		}
	}
	if exact < runs*85/100 {
		t.Errorf("with 5 %% loss, %d of %d searches were exact", exact, runs)
	}
}

func TestSearch_deadPathTeachesNothing(t *testing.T) {
	t.Parallel()
	m := simulate(1500, 1500, 0, 1)
	m.run(10 * time.Second)
	m.dead = true
	before := m.sent
	m.run(time.Minute)
	if m.known != 1500 {
		t.Errorf("a path that carries nothing is taken for a narrow one: %d", m.known)
	}
	if n := m.sent - before; n > 30 {
		t.Errorf("%d probes in a minute into a dead path", n)
	}
	m.dead = false
	m.run(10 * time.Second)
	if m.known != 1500 {
		t.Errorf("alive again: %d", m.known)
	}
}

// A peer that answers nothing but small requests, or says that sizes passed which did not, harms
// itself only: its packets have at least 1,280 bytes, and at most what the interface takes.
func TestSearch_lyingPeerStaysWithinBounds(t *testing.T) {
	t.Parallel()
	m := simulate(1500, 100, 0, 1)
	m.run(10 * time.Second)
	if m.known != floorMTU {
		t.Errorf("%d for a peer that answers no probe", m.known)
	}
	m = simulate(1500, 1<<20, 0, 1)
	m.run(10 * time.Second)
	m.answered(9000)
	m.run(10 * time.Second)
	if m.known != 1500 {
		t.Errorf("%d for a peer that claims everything", m.known)
	}
}

func TestSearch_interfaceThatRefusesIsNoPath(t *testing.T) {
	t.Parallel()
	m := simulate(1500, 1500, 0, 1)
	for _, p := range m.begin(m.now, testWait, true) {
		m.refused(p.size)
	}
	m.until = m.now
	m.run(2 * time.Second)
	if m.known != 1499 {
		t.Errorf("found %d, want the largest size below the one refused", m.known)
	}
}

func TestSearch_restsWithoutTraffic(t *testing.T) {
	t.Parallel()
	m := simulate(1500, 1500, 0, 1)
	m.run(time.Second)
	m.now = m.now.Add(time.Hour)
	if sizes := m.begin(m.now, testWait, false); sizes != nil {
		t.Errorf("probes %v although nothing is sent", sizes)
	}
}

func FuzzSearch(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3}, uint16(1400), uint16(1500))
	f.Fuzz(func(t *testing.T, events []byte, mtu, top uint16) {
		m := simulate(int(top), int(mtu), 0, 1)
		for _, e := range events {
			switch e % 8 {
			case 0:
				m.mtu = 1280 + int(e)
			case 1:
				m.dead = !m.dead
			case 2:
				m.answered(int(e) * 37)
			case 3:
				if len(m.probes) > 0 {
					m.refused(m.probes[0].size)
				}
			case 4:
				m.reset(1000 + int(e)*40)
			default:
				m.run(time.Duration(e) * time.Millisecond)
			}
			if m.known != 0 && (m.known < floorMTU || m.known > m.top) || len(m.probes) > probesPerRound+1 {
				t.Fatalf("known %d of at most %d, %d probes", m.known, m.top, len(m.probes))
			}
		}
	})
}

// A path that loses what every path has to carry is not taken for one that carries it, unless it
// carries it in fragments.
func TestSearch_pathThatIsTooNarrow(t *testing.T) {
	t.Parallel()
	for _, top := range []int{1280, 1500} {
		for _, cuts := range []bool{false, true} {
			m := simulate(top, top, 0, 1)
			m.run(10 * time.Second)
			m.mtu, m.cuts = 1000, cuts
			m.run(confirmEvery + 2*(3+narrowRounds)*testWait + time.Second)
			if m.narrow == cuts || m.known != floorMTU {
				t.Errorf("top %d, fragments pass: %t: narrow %t, %d in use", top, cuts, m.narrow, m.known)
			}
			m.mtu = top
			m.run(confirmEvery + 2*testWait)
			if m.narrow {
				t.Errorf("top %d: narrow after the fault", top)
			}
			m.dead = true // nothing is learned from a path on which nothing passes
			m.run(time.Minute)
			if m.narrow {
				t.Errorf("top %d: a dead path is narrow", top)
			}
		}
	}
}
