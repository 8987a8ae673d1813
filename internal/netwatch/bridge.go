package netwatch

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tund/internal/rtnl"
)

// LAN takes what FollowBridge learns. FollowBridge calls its methods from one goroutine; none
// retains a slice.
type LAN interface {
	// Attached: the port is in a bridge, and these are all stations at its other ports. allVLANs
	// says that the bridge does not distinguish VLANs.
	Attached(all []Station, allVLANs bool)
	// Detached: the port is in no bridge that can be read.
	Detached()
	// Heard: the bridge knows these stations at other ports since a moment ago.
	Heard([]Station)
	// Departed: the bridge no longer has a station at another port.
	Departed(st Station, why Departure)
	// Answer answers a question: known is false if the bridge does not have the station at another
	// port, or cannot be asked.
	Answer(st Station, known bool)
}

// BridgeRequest is something that FollowBridge is to do.
type BridgeRequest struct {
	// Ask: when was this station (MAC and VLAN) last heard? LAN.Answer has the answer.
	Ask *Station
	// Flush: the bridge is to forget what it has learned at the port, since it is no longer there.
	Flush bool
}

// Times and bounds of FollowBridge.
const (
	// bridgeSettle is the pause after a change of links before the bridge is read, because changes
	// come in bursts.
	bridgeSettle = 20 * time.Millisecond
	// bridgeEvery is how often the bridge is read without a reason: what could not be stored is
	// tried again.
	bridgeEvery = time.Minute
	// bridgeRetry is the pause after the bridge could not be read.
	bridgeRetry = time.Second
	// bridgeShare bounds the time spent on reading the bridge to one part in so many.
	bridgeShare = 20
	// maxStations bounds what is kept of one reading. It is four times the default size of tund's
	// own table.
	maxStations = 65536
)

// FollowBridge reads the forwarding database of the bridge that the port, a device of that name in
// the calling thread's network namespace, is in, and follows its changes, until ctx ends: also when
// the port joins or leaves a bridge. It answers requests. The error says why the kernel could not
// be listened to.
//
// Only the kernel's own bridge is read. In other kinds of masters (Open vSwitch), as without one,
// the port is Detached.
func FollowBridge(ctx context.Context, port string, lan LAN, requests <-chan BridgeRequest) error {
	events, err := openSocket(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH)
	if err != nil {
		return err
	}
	if err := events.Subscribe(); err != nil {
		return errors.Join(err, events.Close())
	}
	f := &bridgeFollower{name: port, lan: lan, datagrams: make(chan []byte), taken: make(chan struct{})}
	ctx, cancel := context.WithCancel(ctx)
	failed := make(chan error, 1)
	go func() { failed <- f.receive(ctx, events) }()
	err = f.run(ctx, requests, failed)
	cancel()
	events.Interrupt()
	return errors.Join(err, <-failed, events.Close())
}

// bridgeFollower is the state of one FollowBridge.
type bridgeFollower struct {
	name      string
	lan       LAN
	datagrams chan []byte   // one datagram of the kernel; nil: messages were lost
	taken     chan struct{} // the datagram has been handled

	port, bridge int     // indices; bridge is 0 while there is none to read
	mac          [6]byte // of the port itself
	ageing       time.Duration
	vlans        portVLANs

	due     *time.Timer
	waiting bool // due will fire soon
	looked  time.Time
	took    time.Duration
}

// receive passes on datagrams until the socket is interrupted or ctx ends.
func (f *bridgeFollower) receive(ctx context.Context, events *socket) error {
	for {
		b, err := events.read()
		switch {
		case errors.Is(err, os.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case errors.Is(err, unix.ENOBUFS):
			b = nil
		case err != nil:
			return err
		}
		select {
		case f.datagrams <- b:
			<-f.taken
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *bridgeFollower) run(ctx context.Context, requests <-chan BridgeRequest, failed chan error) error {
	f.due = time.NewTimer(0)
	defer f.due.Stop()
	f.waiting = true
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			failed <- nil
			return err
		case b := <-f.datagrams:
			if b == nil {
				f.lookSoon()
			}
			f.handle(b)
			f.taken <- struct{}{}
		case r := <-requests:
			f.serve(r)
		case <-f.due.C:
			f.look()
		}
	}
}

// lookSoon has the bridge read again.
func (f *bridgeFollower) lookSoon() {
	if !f.waiting {
		f.waiting = true
		f.due.Reset(max(bridgeSettle, bridgeShare*f.took-time.Since(f.looked)))
	}
}

// handle handles the messages in a datagram.
func (f *bridgeFollower) handle(b []byte) {
	var heard []Station
	for typ, m := range rtnl.Messages(b) {
		body := m[unix.SizeofNlMsghdr:]
		switch typ {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			if f.concerns(body) {
				f.lookSoon()
			}
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			e, ok := parseFDB(body)
			if !ok || f.bridge == 0 || e.bridge != f.bridge {
				continue
			}
			st, ok := f.station(e)
			switch {
			case !ok:
			case typ == unix.RTM_NEWNEIGH && f.local(e):
				heard = append(heard, st)
			default:
				f.flushHeard(&heard)
				f.departed(typ, e, st)
			}
		}
	}
	f.flushHeard(&heard)
}

func (f *bridgeFollower) flushHeard(heard *[]Station) {
	if len(*heard) > 0 {
		f.lan.Heard(*heard)
		*heard = (*heard)[:0]
	}
}

func (f *bridgeFollower) departed(typ uint16, e fdbEntry, st Station) {
	switch {
	case typ == unix.RTM_NEWNEIGH:
		f.lan.Departed(st, Moved)
	case !f.local(e): // the bridge has forgotten what was behind us
	case !e.fixed && f.ageing > 0 && e.idle+time.Second >= f.ageing:
		f.lan.Departed(st, Aged)
	default:
		f.lan.Departed(st, Removed)
	}
}

// concerns reports whether a link message (struct ifinfomsg) may change what the port or its bridge
// is. A bridge announces changes of a port's VLANs as link messages of family AF_BRIDGE.
func (f *bridgeFollower) concerns(body []byte) bool {
	if len(body) < unix.SizeofIfInfomsg {
		return false
	}
	index := int(int32(binary.NativeEndian.Uint32(body[4:])))
	if index == f.port || index == f.bridge {
		return true
	}
	return f.port == 0 && parseLinkNotice(body, false).Name == f.name
}

// station translates an entry of the bridge; ok is false if the port does not carry its VLAN.
func (f *bridgeFollower) station(e fdbEntry) (st Station, ok bool) {
	vlan, ok := f.vlans.outside(e.vlan)
	return Station{MAC: e.mac, VLAN: vlan, Fixed: e.fixed, Idle: e.idle}, ok
}

// look reads which bridge the port is in, and the forwarding database of that.
func (f *bridgeFollower) look() {
	start := time.Now()
	all, err := f.read()
	f.looked = time.Now()
	f.took = f.looked.Sub(start)
	pause := bridgeEvery
	if f.waiting = err != nil; f.waiting {
		pause = bridgeRetry // a list that could not be read is no reason to forget anything
	}
	f.due.Reset(max(pause, bridgeShare*f.took))
	switch {
	case err != nil:
	case f.bridge == 0:
		f.lan.Detached()
	default:
		f.lan.Attached(all, !f.vlans.filtering)
	}
}

// read finds the bridge and returns the stations at its other ports.
func (f *bridgeFollower) read() ([]Station, error) {
	if err := f.find(); err != nil || f.bridge == 0 {
		return nil, err
	}
	return f.readStations()
}

// find finds the port and its bridge, which is 0 if there is none to read.
func (f *bridgeFollower) find() error {
	port, err := netlink.LinkByName(f.name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		f.port, f.bridge = 0, 0 // it was renamed, or is in another namespace
		return nil
	}
	if err != nil {
		return err
	}
	f.port, f.mac = port.Attrs().Index, [6]byte{}
	copy(f.mac[:], port.Attrs().HardwareAddr)
	var bridge *netlink.Bridge
	if index := port.Attrs().MasterIndex; index != 0 {
		master, err := netlink.LinkByIndex(index)
		if err != nil {
			return err
		}
		bridge, _ = master.(*netlink.Bridge)
	}
	if bridge == nil {
		f.bridge = 0
		return nil
	}
	f.bridge, f.ageing = bridge.Index, 0
	if bridge.AgeingTime != nil {
		f.ageing = time.Duration(*bridge.AgeingTime) * clockTick
	}
	return f.readVLANs(bridge)
}

func (f *bridgeFollower) readVLANs(bridge *netlink.Bridge) error {
	f.vlans = portVLANs{filtering: bridge.VlanFiltering != nil && *bridge.VlanFiltering}
	if !f.vlans.filtering {
		return nil
	}
	all, err := netlink.BridgeVlanList()
	if err != nil {
		return err
	}
	for _, v := range all[int32(f.port)] {
		f.vlans.add(v.Vid)
		if v.PortVID() && v.EngressUntag() {
			f.vlans.untagged = v.Vid
		}
	}
	return nil
}

// readStations lists the stations at the other ports of the bridge.
func (f *bridgeFollower) readStations() ([]Station, error) {
	var all []Station
	err := f.eachEntry(func(e fdbEntry) {
		if st, ok := f.station(e); ok && len(all) < maxStations {
			all = append(all, st)
		}
	})
	return slices.Clip(all), err
}

// local reports whether an entry stands for a host of the LAN: one at another port, or this host by
// the port's own address. The kernel sends from that address too (reports of IPv6 multicast), and
// nobody answers for it who could show that a peer that uses it is wrong.
func (f *bridgeFollower) local(e fdbEntry) bool { return e.port != f.port || e.mac == f.mac }

// eachEntry visits the entries that the bridge has at other ports, and the port's own address.
func (f *bridgeFollower) eachEntry(visit func(fdbEntry)) error {
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(f.bridge))))
	return req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH, func(m []byte) bool {
		if e, ok := parseFDB(m); ok && e.bridge == f.bridge && f.local(e) {
			visit(e)
		}
		return true
	})
}
