// Package bridgevlan gives the port of a VLAN-aware Linux bridge the VLANs that an instance needs
// there. The kernel forgets them with the port, that is whenever the TAP device is made again.
//
// It only touches a port of a bridge whose VLAN filtering is on. It removes what it has added and
// is no longer wanted, and the VLAN of untagged frames if another one is wanted; what somebody else
// gave the port stays. It makes no bridges and puts no device into one: that is package route.
package bridgevlan

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Keep as a PVID leaves the VLAN of untagged frames as it is, which is that of the bridge.
const Keep = -1

// Want is what a port is to have.
type Want struct {
	Device string   // the port
	VLANs  []uint16 // 1 to 4094, carried tagged
	// PVID is the VLAN of the bridge that is untagged at the port: 1 to 4094, 0 for none, or Keep.
	PVID int
}

// Port is the port of one device. Make it with Open, in the network namespace of the device. It is
// safe for concurrent use.
type Port struct {
	mu    sync.Mutex // guards what follows
	rt    *netlink.Handle
	where place
	ours  map[uint16]bool // VLANs that Apply added at where
}

// place identifies a port: a device made again, or put into another bridge, is another port.
type place struct{ port, bridge int }

// Open opens a netlink socket in the network namespace of the calling thread.
func Open() (*Port, error) {
	rt, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink for the VLANs of a bridge port: %w", err)
	}
	return &Port{rt: rt}, nil
}

// Close closes the socket. What the port has stays, and goes with the port.
func (p *Port) Close() error {
	p.rt.Close()
	return nil
}

// Apply gives the port what is wanted, and returns what it changed, in the words of bridge(8). A
// device that does not exist, is in no bridge, or is in one that is not VLAN-aware needs nothing.
func (p *Port) Apply(w Want) (changed []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	link, bridge, err := p.find(w.Device)
	if link == nil || err != nil {
		return nil, err
	}
	if at := (place{link.Attrs().Index, bridge}); at != p.where {
		p.where, p.ours = at, make(map[uint16]bool)
	}
	all, err := p.rt.BridgeVlanList()
	if err != nil {
		return nil, fmt.Errorf("read the VLANs of bridge port %s: %w", w.Device, err)
	}
	have := make(map[uint16]flags)
	for _, v := range all[int32(p.where.port)] {
		have[v.Vid] = flags{pvid: v.PortVID(), untagged: v.EngressUntag()}
	}
	var errs []error
	for _, s := range plan(w, have, p.ours) {
		if err := p.do(link, s); err != nil {
			errs = append(errs, fmt.Errorf("bridge vlan %s: %w", s.words(w.Device), err))
			continue
		}
		changed = append(changed, s.words(w.Device))
	}
	return changed, errors.Join(errs...)
}

// find returns the device and the index of its bridge; a nil link if there is nothing to do.
func (p *Port) find(device string) (link netlink.Link, bridge int, err error) {
	link, err = p.rt.LinkByName(device)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		return nil, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("look for bridge port %s: %w", device, err)
	case link.Attrs().MasterIndex == 0:
		return nil, 0, nil
	}
	master, err := p.rt.LinkByIndex(link.Attrs().MasterIndex)
	if err != nil {
		return nil, 0, fmt.Errorf("look for the bridge of %s: %w", device, err)
	}
	br, ok := master.(*netlink.Bridge)
	if !ok || br.VlanFiltering == nil || !*br.VlanFiltering {
		return nil, 0, nil
	}
	return link, master.Attrs().Index, nil
}

func (p *Port) do(link netlink.Link, s step) error {
	if s.remove {
		delete(p.ours, s.first)
		if err := p.rt.BridgeVlanDel(link, s.first, false, false, false, true); !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	}
	var err error
	if s.first == s.last { // the kernel refuses a range of one
		err = p.rt.BridgeVlanAdd(link, s.first, s.pvid, s.pvid, false, true)
	} else {
		err = p.rt.BridgeVlanAddRange(link, s.first, s.last, s.pvid, s.pvid, false, true)
	}
	if err == nil {
		for v := s.first; v <= s.last; v++ {
			p.ours[v] = true
		}
	}
	return err
}

// flags is how a port has a VLAN.
type flags struct{ pvid, untagged bool }

// step is one change of a port.
type step struct {
	remove      bool // first only
	first, last uint16
	pvid        bool // and untagged
}

// words describes the change as an argument of `bridge vlan`.
func (s step) words(device string) string {
	text, vid := "add", fmt.Sprint(s.first)
	if s.remove {
		text = "del"
	}
	if s.last > s.first {
		vid += fmt.Sprintf("-%d", s.last)
	}
	text += " dev " + device + " vid " + vid
	if s.pvid {
		text += " pvid untagged"
	}
	return text
}

// plan returns the changes from what a port has to what is wanted. ours are the VLANs that were
// added before.
func plan(w Want, have map[uint16]flags, ours map[uint16]bool) (steps []step) {
	vlans := slices.Sorted(slices.Values(w.VLANs))
	vlans = slices.Compact(vlans)
	wanted := func(vid uint16) bool {
		_, tagged := slices.BinarySearch(vlans, vid)
		return tagged || int(vid) == w.PVID
	}
	var gone []uint16
	for vid, f := range have {
		// Two VLANs that are untagged at a port become one at the other end of the tunnel.
		if !wanted(vid) && (ours[vid] || f.pvid && w.PVID != Keep) {
			gone = append(gone, vid)
		}
	}
	slices.Sort(gone)
	for _, vid := range gone {
		steps = append(steps, step{remove: true, first: vid, last: vid})
	}
	if w.PVID > 0 && have[uint16(w.PVID)] != (flags{pvid: true, untagged: true}) {
		steps = append(steps, step{first: uint16(w.PVID), last: uint16(w.PVID), pvid: true})
	}
	for _, vid := range vlans {
		if f, ok := have[vid]; int(vid) == w.PVID || ok && f == (flags{}) {
			continue
		}
		if n := len(steps) - 1; n >= 0 && !steps[n].remove && !steps[n].pvid && steps[n].last+1 == vid {
			steps[n].last = vid
			continue
		}
		steps = append(steps, step{first: vid, last: vid})
	}
	return steps
}
