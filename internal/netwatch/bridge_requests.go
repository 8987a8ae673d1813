package netwatch

import (
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Place is where a bridge has a station.
type Place struct {
	Port string // name of the device
	Idle time.Duration
}

// StationKey identifies a station as the followed port has it.
type StationKey struct {
	MAC  [6]byte
	VLAN uint16 // 0 as well for a bridge without VLAN filtering, which has one entry for all VLANs
}

// Places returns where the bridge of the port, in the calling thread's network namespace, has its
// stations at other ports. Without a bridge that can be read, there are none.
func Places(port string) (map[StationKey]Place, error) {
	f := &bridgeFollower{name: port}
	if err := f.find(); err != nil || f.bridge == 0 {
		return nil, err
	}
	names := make(map[int]string)
	out := make(map[StationKey]Place)
	err := f.eachEntry(func(e fdbEntry) {
		st, ok := f.station(e)
		if !ok || len(out) >= maxStations {
			return
		}
		name, known := names[e.port]
		if !known {
			if link, err := net.InterfaceByIndex(e.port); err == nil {
				name = link.Name
			}
			names[e.port] = name
		}
		out[StationKey{st.MAC, st.VLAN}] = Place{name, st.Idle}
	})
	return out, err
}

func (f *bridgeFollower) serve(r BridgeRequest) {
	if r.Ask != nil {
		st, known := f.ask(*r.Ask)
		f.lan.Answer(st, known)
	}
	if r.Flush && f.bridge != 0 {
		_ = f.flush() // the entries go when they age out, or when their hosts are heard elsewhere
	}
}

// ask asks the bridge for one station (struct ndmsg with NDA_LLADDR and NDA_MASTER: rtnl_fdb_get,
// Linux 5.0).
func (f *bridgeFollower) ask(st Station) (Station, bool) {
	if f.bridge == 0 {
		return st, false
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, 0)
	req.AddData(&netlink.Ndmsg{Family: unix.AF_BRIDGE})
	req.AddData(nl.NewRtAttr(attrMAC, st.MAC[:]))
	req.AddData(nl.NewRtAttr(attrMaster, nl.Uint32Attr(uint32(f.bridge))))
	if vid := f.vlans.inside(st.VLAN); vid != 0 {
		req.AddData(nl.NewRtAttr(attrVLAN, nl.Uint16Attr(vid)))
	}
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
	if err != nil {
		return st, false
	}
	for _, m := range answers {
		if e, ok := parseFDB(m); ok && f.local(e) && e.mac == st.MAC {
			st.Idle, st.Fixed = e.idle, e.fixed
			return st, true
		}
	}
	return st, false
}

// flush makes the bridge forget what it has learned at the port (IFLA_BRPORT_FLUSH).
func (f *bridgeFollower) flush() error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	info := nl.NewIfInfomsg(unix.AF_BRIDGE)
	info.Index = int32(f.port)
	req.AddData(info)
	attrs := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	attrs.AddRtAttr(nl.IFLA_BRPORT_FLUSH, nil)
	req.AddData(attrs)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
