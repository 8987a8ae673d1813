package l2

import (
	"net"
	"testing"
	"time"

	"tund/internal/drop"
)

// town is a switch with neighbour suppression, three peers, and hosts behind them that answer the
// requests they receive. Time passes in steps of 50 ms.
type town struct {
	t     *testing.T
	s     *Switch
	now   time.Duration
	hosts map[string]*townsman // by address
	again int                  // requests for target that the switch flooded to the peers

	changes []NeighborChange // that the switch has reported
}

type townsman struct {
	mac    MAC
	port   PortID
	silent bool
	asked  int // how often it answered
}

func newTown(t *testing.T) *town {
	w := &town{t: t, s: newSwitch(t, Config{NeighborSuppression: true}), hosts: map[string]*townsman{}}
	for id := PortID(1); id <= 3; id++ {
		addPeer(t, w.s, id, PortConfig{})
	}
	return w
}

func (w *town) from(port PortID, frame []byte) (*Verdict, drop.Reason) {
	if port == LocalPort {
		return fromDevice(w.s, at(w.now), frame)
	}
	return fromPeer(w.s, at(w.now), port, frame)
}

// appear lets a host announce the address.
func (w *town) appear(mac MAC, port PortID, ip string) *townsman {
	h := &townsman{mac: mac, port: port}
	w.hosts[ip] = h
	w.claim(mac, port, ip)
	return h
}

func (w *town) claim(mac MAC, port PortID, ip string) {
	if net.ParseIP(ip).To4() != nil {
		w.from(port, gratuitous(w.t, mac, ip))
		return
	}
	w.from(port, neighborAdvert(w.t, hostMAC(99), mac, ip, true))
}

// pass lets time pass. Hosts answer the requests of the switch 20 ms later.
func (w *town) pass(d time.Duration) {
	for end := w.now + d; w.now < end; w.now += 50 * ms {
		a := w.s.Tick(at(w.now))
		w.changes = append(w.changes, a.Neighbors...)
		for _, f := range a.ToDevice {
			w.hear(LocalPort, f)
		}
		for _, m := range a.ToPeers {
			if PayloadKind(m.Payload) == KindFrame {
				w.hear(m.Port, m.Payload[FrameHeaderLen:])
			}
		}
	}
}

// hear delivers a request to the hosts behind a port.
func (w *town) hear(port PortID, frame []byte) {
	h, _ := Parse(frame)
	var m neighborMessage
	if !parseNeighbor(frame, &h, &m) {
		return
	}
	if h.Dst.Group() && port == 1 {
		w.again++
	}
	for ip, host := range w.hosts {
		if host.silent || host.port != port || h.Dst != host.mac && !h.Dst.Group() || [16]byte(net.ParseIP(ip).To16()) != m.target {
			continue
		}
		w.answer(host, ip, h.Src)
	}
}

func (w *town) answer(h *townsman, ip string, to MAC) {
	h.asked++
	w.now += 20 * ms
	if net.ParseIP(ip).To4() != nil {
		w.from(h.port, arp(w.t, 2, to, h.mac, ip, to, "0.0.0.0"))
	} else {
		w.from(h.port, neighborAdvert(w.t, to, h.mac, ip, true))
	}
	w.now -= 20 * ms
}

// ask lets host 9 of our LAN request ip, and returns the MAC in the answer of the switch, or that
// of the host whose peer alone gets the request. It returns 0 if the switch floods the request. The
// hosts answer what they hear.
func (w *town) ask(ip string) MAC { return w.askFrom(hostMAC(9), ip) }

func (w *town) askFrom(mac MAC, ip string) MAC {
	var question []byte
	if net.ParseIP(ip).To4() != nil {
		question = arp(w.t, 1, Broadcast, mac, "10.0.0.9", 0, ip)
	} else {
		question = neighborSolicit(w.t, mac, "fe80::9", ip)
	}
	v, _ := w.from(LocalPort, question)
	for _, p := range outPorts(v) {
		w.hear(p, question)
	}
	switch {
	case v.Reply == nil && len(outPorts(v)) == 1:
		key := neighborKey{0, [16]byte(net.ParseIP(ip).To16())}
		return w.s.hosts.table[key].mac
	case v.Reply == nil:
		return 0
	case net.ParseIP(ip).To4() != nil:
		return MACFromBytes(v.Reply[22:])
	}
	return MACFromBytes(v.Reply[len(v.Reply)-6:])
}
