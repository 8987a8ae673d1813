package tunnel

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"tund/crypto/session"
	"tund/crypto/wire"
	"tund/tunnel/datasession"
	"tund/tunnel/timers"
	"tund/tunnel/udp/udptest"
)

const (
	// modelSilence is how long an end may call the other up although nothing arrives: until data
	// had no answer in two sessions, of which the first may begin at any time before, and five
	// seconds more.
	modelSilence = 3*timers.UnansweredAfter + 5*time.Second
	// modelRecovery is how soon packets pass again both ways when the network is good: the time
	// after which data without an answer begins a handshake, and a second for that.
	modelRecovery = timers.UnansweredAfter + timers.RekeyTimeoutJitterMax + time.Second
)

// fault notes that something does not hold.
func (m *model) fault(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := fmt.Sprintf("%9.3f ", time.Since(m.began).Seconds()) + fmt.Sprintf(format, args...)
	m.faults = append(m.faults, text)
	m.log = append(m.log, "FAULT "+text)
}

// watch looks at each datagram with the eyes of its receiver: no packet leaves in clear or in
// another session than its sender demands. That no counter is used twice is for the eavesdropper.
func (m *model) watch(d udptest.Datagram) {
	m.ears.watch(d)
	if kind, ok := wire.Kind(d.Payload); !ok || kind != wire.TypeTransport {
		return
	}
	from := m.at(d.From)
	owner, ok := from.other.running.Load().env.Index.Get(wire.TransportReceiver(d.Payload))
	if !ok || owner.Keypair == nil {
		return
	}
	plain := make([]byte, len(d.Payload))
	n, ok := owner.Keypair.Session.Open(plain, d.Payload, new(session.Scratch))
	if !ok || n == 0 || plain[0]>>4 != 4 {
		return
	}
	if !bytes.Equal(plain[12:16], from.inner.AsSlice()) || !bytes.Equal(plain[16:20], from.other.inner.AsSlice()) {
		m.fault("%s sent a packet that is not its host's", from.name)
	}
	if from.strict.Load() && !owner.Keypair.IsPostQuantum() {
		m.fault("%s sent a packet outside the sessions that it demands", from.name)
	}
}

// collect takes what e's host got: each packet once, and only what was sent.
func (m *model) collect(e *modelEnd) {
	for _, q := range e.queues {
		for {
			select {
			case f := <-q.Written():
				p := f[10:]
				number := int(p[20])<<16 | int(p[21])<<8 | int(p[22])
				if e.arrived[number] || number > m.sent {
					m.fault("%s got packet %d, which it had got before or nobody sent", e.name, number)
				}
				e.arrived[number] = true
				e.silent = time.Now()
				continue
			default:
			}
			break
		}
	}
}

// judge looks at what e believes of the other: it is not up for long if nothing comes from it.
func (m *model) judge(e *modelEnd) {
	if !e.talks || !e.other.talks || e.pq == datasession.Off && e.other.pq == datasession.Require {
		e.silent = time.Now()
		return
	}
	heard := e.peerOf(e.other.end).LastReceived()
	if e.tun.PeerState(e.other.key.Public()) != StateUp || heard != e.heard {
		e.silent, e.heard = time.Now(), heard
	}
	if silent := time.Since(e.silent); silent > modelSilence {
		m.fault("%s: up for %v although nothing has come: %+v", e.name, silent, e.tun.Status().Peers[0])
		e.silent = time.Now()
	}
}

// recovers makes the network good and checks that packets pass again in time.
func (m *model) recovers() {
	m.note("good network")
	m.heal()
	for _, e := range m.ends {
		e.talks = true
	}
	if !m.compatible() {
		for _, e := range m.ends {
			if e.pq == datasession.Off {
				m.setPQ(e, datasession.Prefer)
			}
		}
	}
	for began := time.Now(); time.Since(began) < modelRecovery; {
		m.step()
	}
	lost := [2]int{}
	const packets = 80
	for range packets {
		numbers := [2]int{m.inject(m.ends[0]), m.inject(m.ends[1])}
		passes(250 * time.Millisecond)
		for i, e := range m.ends {
			m.collect(e.other)
			if !e.other.arrived[numbers[i]] {
				lost[i]++
			}
		}
	}
	for i, e := range m.ends {
		if lost[i] > 0 {
			m.fault("%d of %d packets of %s did not arrive after the network was good for %v: %s %+v, %s %+v",
				lost[i], packets, e.name, modelRecovery, e.name, e.tun.Status().Peers[0], e.other.name, e.other.tun.Status().Peers[0])
		}
		if s := e.tun.Status().Peers[0]; s.State != StateUp {
			m.fault("%s: %s although packets pass: %s", e.name, s.State, s.LastError)
		}
	}
	m.note("recovered")
}

// modelSeeds returns the first seed of a model and the number of them: a few that are always the
// same, or many that never are, or as TUND_TEST_SEED and TUND_TEST_SEEDS say.
func modelSeeds(t *testing.T, few, many uint64) (first, count uint64) {
	t.Helper()
	first, count = 1, few
	if os.Getenv("TUND_TEST_SOAK") != "" {
		first, count = uint64(time.Now().UnixNano()), many
	}
	number := func(name string, also func(n uint64)) {
		s := os.Getenv(name)
		if s == "" {
			return
		}
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		also(n)
	}
	number("TUND_TEST_SEED", func(n uint64) { first, count = n, 1 })
	number("TUND_TEST_SEEDS", func(n uint64) { count = n })
	return first, count
}

// Two tunnels on a network that loses, doubles and delays, between hosts that crash, hand over,
// move, sleep and have their clocks and configurations changed: they never use a counter twice,
// send nothing outside the sessions that are demanded, deliver nothing twice, do not call each
// other up for long when nothing arrives, and recover in time when the network does.
func TestModel_twoTunnelsRecoverFromWhateverHappens(t *testing.T) {
	first, count := modelSeeds(t, 3, 300)
	for seed := first; seed < first+count; seed++ {
		inBubble(t, func(w *world) {
			m := newModel(w, seed)
			for range 4 {
				for range 2 + m.r.IntN(8) {
					m.steps(m.r.IntN([]int{8, 160}[m.r.IntN(2)]))
					m.happens()
				}
				m.recovers()
			}
			if len(m.faults) > 0 {
				for _, line := range m.log {
					t.Log(line)
				}
				t.Errorf("seed %d: %d faults, first %s", seed, len(m.faults), m.faults[0])
			}
		})
	}
}
