package ethernet

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tund/internal/testnet"
	"tund/tunnel/l2"
)

// machine is a virtual machine that can be migrated: its device stays plugged into a bridge of its
// hypervisor, and what changes is which site that bridge is connected to. So nothing changes that
// the machine could see, not even its carrier.
type machine struct {
	*host
	hypervisor *testnet.NS
	uplinks    map[*site]string
	announced  chan struct{} // closed when the last migration has been announced
}

// newMachine makes a machine that may live at any of the sites. It lives at the first.
func newMachine(t *testing.T, last int, sites ...*site) *machine {
	t.Helper()
	m := &machine{
		host:       &host{t: t, ns: testnet.New(t), v4: fmt.Sprintf("10.7.0.%d", last)},
		hypervisor: testnet.New(t), uplinks: make(map[*site]string), announced: make(chan struct{}),
	}
	close(m.announced)
	m.hypervisor.Run(t, "ip", "link", "add", "hbr", "type", "bridge", "mcast_snooping", "0", "forward_delay", "0")
	m.hypervisor.Run(t, "ip", "link", "set", "hbr", "up")
	tap, dev := testnet.Veth(t, m.hypervisor, m.ns, nil, []string{m.v4 + "/24", m.v6() + "/64"})
	m.hypervisor.Run(t, "ip", "link", "set", tap, "master", "hbr")
	m.dev, m.mac = dev, macOf(t, m.ns, dev)
	for _, s := range sites {
		port, uplink := testnet.Veth(t, s.NS, m.hypervisor, nil, nil)
		s.NS.Run(t, "ip", "link", "set", port, "master", "br0")
		m.uplinks[s] = uplink
	}
	m.hypervisor.Run(t, "ip", "link", "set", m.uplinks[sites[0]], "master", "hbr")
	m.site = sites[0]
	return m
}

// migrate connects the machine to another site and announces it there as qemu does after a
// migration: five frames of RARP within a second, in which no IP address is named. It returns when
// the machine was there.
func (m *machine) migrate(to *site) time.Time {
	m.t.Helper()
	<-m.announced
	m.hypervisor.Run(m.t, "ip", "link", "set", m.uplinks[m.site], "nomaster")
	m.hypervisor.Run(m.t, "ip", "link", "set", m.uplinks[to], "master", "hbr")
	m.site = to
	began := time.Now()
	port := openRaw(m.t, m.hypervisor, m.uplinks[to])
	frame := header(l2.Broadcast, m.mac, 0x8035)
	frame = append(frame, 0, 1, 8, 0, 6, 4, 0, 3) // net/announce.c
	var mac [6]byte
	m.mac.Put(mac[:])
	for range 2 {
		frame = append(append(frame, mac[:]...), 0, 0, 0, 0)
	}
	announced := make(chan struct{})
	m.announced = announced
	go func() {
		defer close(announced)
		for n := range 5 {
			port.send(padded(frame))
			pause(time.Duration(50+100*n) * time.Millisecond)
		}
	}()
	m.t.Cleanup(func() { <-announced })
	return began
}

// A virtual machine that listens to a stream migrates between three sites and back. Whoever talks
// to it goes on within a second, whoever asks for its IPv6 address anew is answered within three,
// and the stream goes on within six, as on one bridge with a querier. TestSoakMigration requires
// that of a machine that has nothing else to do.
func TestMigration_withSuppression(t *testing.T) {
	beside(t)
	migrations(t, true, 3)
}

func TestMigration_withoutSuppression(t *testing.T) {
	beside(t)
	migrations(t, false, 3)
}

func TestSoakMigration(t *testing.T) {
	testnet.Soak(t)
	alone(t)
	migrations(t, true, 1)
	migrations(t, false, 1)
}

// migrations requires these times, or a multiple of them.
func migrations(t *testing.T, suppression bool, patience time.Duration) {
	t.Helper()
	const group = "239.7.7.8"
	w := newWAN(t)
	berlin, paris, rome := w.site("berlin"), w.site("paris"), w.site("rome")
	mesh(berlin, paris, rome)
	for _, s := range []*site{berlin, paris, rome} {
		s.tap = []string{fmt.Sprintf("neighbor_suppression = %v", suppression)}
	}
	m := newMachine(t, 50, paris, rome, berlin)
	a, b, c := berlin.host(1), paris.host(2), rome.host(3)
	asker := berlin.host(4) // talks to the machine only to ask for it
	start(t, berlin, paris, rome)

	var stream atomic.Int64 // when the datagram was sent that the machine got last, Unix time in ns
	listener, sender := m.datagrams("udp4", 7777, group), a.datagrams("udp4", 0, "")
	a.ns.Run(t, "ip", "route", "add", "239.0.0.0/8", "dev", a.dev)
	background(t, func() { sender.send(group, 7777, fmt.Sprint(time.Now().UnixNano())); pause(50 * time.Millisecond) })
	background(t, func() {
		var sent int64
		if _, err := fmt.Sscan(listener.receive(100*time.Millisecond), &sent); err == nil {
			stream.Store(sent)
		}
	})
	m.datagrams("udp4", 7, "").echo()
	observers := make(map[*host]*datagrams)
	for _, h := range []*host{a, b, c} {
		observers[h] = h.datagrams("udp4", 0, "")
		answersAfter(t, observers[h], m.host, time.Now(), 5*time.Second)
	}
	asker.reaches(m.v6(), 5*time.Second)
	a.raw().send(generalQuery(t, a.mac, a.v4)) // from now on multicast goes only where it is wanted
	pause(queryAnswered)

	for _, to := range []*site{rome, berlin, paris} {
		from := m.site
		began := m.migrate(to)
		step := from.Name + " → " + to.Name
		for h, o := range observers {
			if took, limit := answersAfter(t, o, m.host, began, 10*time.Second), slowly(patience*time.Second); took > limit {
				t.Errorf("%s: %v until the host in %s is answered, want at most %v", step, took, h.site.Name, limit)
			}
		}
		unicast := time.Since(began)
		testnet.Await(t, step+": its IPv6 address", slowly(patience*3*time.Second), func() bool {
			asker.ns.Run(t, "ip", "-6", "neighbour", "flush", "dev", asker.dev)
			out, _ := asker.ns.Try("ping", "-6", "-n", "-c", "1", "-W", "0.5", m.v6())
			return strings.Contains(out, " 1 received")
		})
		v6 := time.Since(began)
		testnet.Await(t, step+": the stream", slowly(patience*6*time.Second), func() bool { return stream.Load() > began.UnixNano() })
		t.Logf("%s: all answered after %v, IPv6 after %v, the stream after %v", step, unicast.Round(time.Millisecond),
			v6.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	}
}

// background repeats something until the test ends.
func background(t *testing.T, do func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				do()
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}
