package hostcheck

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// packet is what is known of a packet that a firewall judges. What is not known may be anything.
type packet struct {
	proto        byte // 0: not known
	sport, dport uint16
	icmp         []byte     // type and code of an ICMP message; nil: it is none
	src, dst     netip.Addr // they say the family; without them it is that of the table
	in, out      string     // links; "" for one that is not known, and not the loopback device
	local        bool       // it is for this host
	state        uint32     // of its connection: a bit of CtKeySTATE
	anyLink      bool       // a condition about the link that is not known counts as met
}

// truth is whether a condition is met.
type truth uint8

const (
	no truth = iota
	maybe
	yes
)

// met returns the truth of what is known.
func met(is bool) truth {
	if is {
		return yes
	}
	return no
}

func (t truth) not() truth { return yes - t }

// field is what a register holds, as far as conditions about it are worth telling apart.
type field uint8

const (
	otherField field = iota
	portField        // one of ours
	peerField        // a port or an address of a peer
	linkField
)

// value is what a register holds.
type value struct {
	of      field
	data    []byte // nil: not known
	blank   []bool // the bytes of data that are not known; nil: none
	notLoop bool   // not known, and not the name or the index of the loopback device
	// A mask was applied, so that equality says nothing of the whole.
	masked bool
}

// The loopback device, as conditions of nftables have it.
var loopName, loopIndex = []byte("lo\x00"), binary.NativeEndian.AppendUint32(nil, 1)

// loads returns what an expression puts into which register; false for one that loads nothing.
func (p *packet) loads(e expr.Any, table nftables.TableFamily) (register uint32, v value, ok bool) {
	switch e := e.(type) {
	case *expr.Meta:
		return e.Register, p.meta(e.Key, table), !e.SourceRegister
	case *expr.Payload:
		return e.DestRegister, p.payload(e, table), e.OperationType == expr.PayloadLoad
	case *expr.Ct:
		return e.Register, p.connection(e.Key), !e.SourceRegister
	case *expr.Fib:
		if p.local && e.ResultADDRTYPE && e.FlagDADDR {
			return e.Register, value{data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)}, true
		}
		return e.Register, value{}, true
	case *expr.Exthdr:
		return e.DestRegister, value{}, true
	case *expr.Numgen:
		return e.Register, value{}, true
	case *expr.Hash:
		return e.DestRegister, value{}, true
	case *expr.Immediate:
		return e.Register, value{data: e.Data}, true
	}
	return 0, value{}, false
}

// six reports whether the packet is of IPv6.
func (p *packet) six(table nftables.TableFamily) bool {
	for _, a := range []netip.Addr{p.src, p.dst} {
		if a.IsValid() {
			return a.Is6()
		}
	}
	return table == nftables.TableFamilyIPv6
}

func (p *packet) meta(key expr.MetaKey, table nftables.TableFamily) value {
	family, ethertype := byte(unix.NFPROTO_IPV4), uint16(unix.ETH_P_IP)
	if p.six(table) {
		family, ethertype = unix.NFPROTO_IPV6, unix.ETH_P_IPV6
	}
	switch key {
	case expr.MetaKeyL4PROTO:
		return p.protocol()
	case expr.MetaKeyNFPROTO, expr.MetaKeyPROTOCOL:
		if table == nftables.TableFamilyBridge { // frames of any kind
			return value{}
		}
	}
	switch key {
	case expr.MetaKeyNFPROTO:
		return value{data: []byte{family}}
	case expr.MetaKeyPROTOCOL:
		return value{data: binary.BigEndian.AppendUint16(nil, ethertype)}
	case expr.MetaKeyIIFNAME:
		return link(p.in)
	case expr.MetaKeyOIFNAME:
		return link(p.out)
	case expr.MetaKeyIIF, expr.MetaKeyOIF:
		return value{of: linkField, notLoop: true}
	case expr.MetaKeyPKTTYPE:
		return value{data: []byte{unix.PACKET_HOST}}
	}
	return value{}
}

// link is the name of a link, which the kernel compares with zeros behind it.
func link(name string) value {
	if name == "" {
		return value{of: linkField, notLoop: true}
	}
	return value{of: linkField, data: append([]byte(name), make([]byte, max(unix.IFNAMSIZ-len(name), 1))...)}
}

func (p *packet) protocol() value {
	if p.proto == 0 {
		return value{}
	}
	return value{data: []byte{p.proto}}
}

// payload reads a header: RFC 768, RFC 791 §3.1 and RFC 8200 §3.
func (p *packet) payload(e *expr.Payload, table nftables.TableFamily) value {
	type part struct {
		at   uint32
		data []byte
		of   field
	}
	var parts []part
	port := func(at uint32, n uint16, of field) {
		if n != 0 {
			parts = append(parts, part{at, binary.BigEndian.AppendUint16(nil, n), of})
		}
	}
	switch six := p.six(table); {
	case e.Base == expr.PayloadBaseTransportHeader && p.proto == unix.IPPROTO_UDP:
		own, peer := portField, peerField
		if !p.local {
			own, peer = peer, own
		}
		port(0, p.sport, peer)
		port(2, p.dport, own)
	case e.Base == expr.PayloadBaseTransportHeader:
		parts = []part{{0, p.icmp, otherField}}
	case e.Base == expr.PayloadBaseNetworkHeader && !six:
		parts = []part{{9, p.protocol().data, otherField}, {12, bytesOf(p.src), peerField}, {16, bytesOf(p.dst), peerField}}
	case e.Base == expr.PayloadBaseNetworkHeader:
		parts = []part{{6, p.protocol().data, otherField}, {8, bytesOf(p.src), peerField}, {24, bytesOf(p.dst), peerField}}
	}
	v := value{data: make([]byte, e.Len), blank: make([]bool, e.Len)}
	known := 0
	for i := range v.data {
		v.blank[i] = true
		for _, x := range parts {
			if at := e.Offset + uint32(i) - x.at; at < uint32(len(x.data)) {
				v.data[i], v.blank[i], v.of = x.data[at], false, x.of
				known++
			}
		}
	}
	switch known {
	case 0:
		return value{}
	case len(v.data):
		v.blank = nil
	}
	return v
}

func bytesOf(a netip.Addr) []byte {
	if !a.IsValid() {
		return nil
	}
	return a.AsSlice()
}

// connection is what connection tracking knows of the packet. Nothing translates addresses.
func (p *packet) connection(key expr.CtKey) value {
	switch key {
	case expr.CtKeySTATE:
		return value{data: binary.NativeEndian.AppendUint32(nil, p.state)}
	case expr.CtKeySTATUS:
		return value{data: make([]byte, 4)}
	}
	return value{}
}

// and applies a mask, as Bitwise does.
func (v value) and(e *expr.Bitwise) value {
	if v.data == nil || v.blank != nil || len(e.Mask) != len(v.data) || len(e.Xor) != len(v.data) {
		return value{of: v.of}
	}
	out := value{of: v.of, data: make([]byte, len(v.data)), masked: true}
	for i := range v.data {
		out.data[i] = v.data[i]&e.Mask[i] ^ e.Xor[i]
	}
	return out
}

// compare returns whether a comparison with data is true.
func (v value) compare(op expr.CmpOp, data []byte) truth {
	if v.data == nil {
		t := maybe
		if v.notLoop && (bytes.Equal(data, loopIndex) || bytes.HasPrefix(append(bytes.Clone(data), 0), loopName)) {
			t = no // what would be equal to it is not
		}
		if op == expr.CmpOpNeq {
			return t.not()
		}
		if op == expr.CmpOpEq {
			return t
		}
		return maybe
	}
	if len(data) > len(v.data) {
		return maybe
	}
	if v.blank != nil {
		return v.partly(op, data)
	}
	n := bytes.Compare(v.data[:len(data)], data) // a name that ends in a star is shorter
	switch op {
	case expr.CmpOpEq:
		return met(n == 0)
	case expr.CmpOpNeq:
		return met(n != 0)
	case expr.CmpOpLt:
		return met(n < 0)
	case expr.CmpOpLte:
		return met(n <= 0)
	case expr.CmpOpGt:
		return met(n > 0)
	case expr.CmpOpGte:
		return met(n >= 0)
	}
	return maybe
}

// partly compares a value of which some bytes are not known: it differs from data if one that is
// known does.
func (v value) partly(op expr.CmpOp, data []byte) truth {
	differs := false
	for i := range data {
		differs = differs || !v.blank[i] && v.data[i] != data[i]
	}
	switch {
	case op == expr.CmpOpEq && differs:
		return no
	case op == expr.CmpOpNeq && differs:
		return yes
	}
	return maybe
}

// among finds the elements of a set that the value may be: the one that it is, or all of those that
// it may be where it is not known.
func (v value) among(set []nftables.SetElement) (found []nftables.SetElement, is truth) {
	if v.data == nil || v.blank != nil {
		for _, e := range set {
			if !e.IntervalEnd && v.compare(expr.CmpOpEq, e.Key) != no {
				found = append(found, e)
			}
		}
		if found == nil {
			return nil, no
		}
		return found, maybe
	}
	var below *nftables.SetElement // of an interval: the greatest key that is not above the value
	intervals := false
	for i := range set {
		e := &set[i]
		switch {
		case len(e.Key) != len(v.data): // several fields at once
			return set, maybe
		case e.KeyEnd != nil && bytes.Compare(e.Key, v.data) <= 0 && bytes.Compare(v.data, e.KeyEnd) <= 0,
			e.KeyEnd == nil && !e.IntervalEnd && bytes.Equal(e.Key, v.data):
			return []nftables.SetElement{*e}, yes
		}
		intervals = intervals || e.IntervalEnd
		if c := bytes.Compare(e.Key, v.data); c <= 0 && (below == nil || bytes.Compare(e.Key, below.Key) > 0 ||
			bytes.Equal(e.Key, below.Key) && below.IntervalEnd) {
			below = e
		}
	}
	if intervals && below != nil && !below.IntervalEnd {
		return []nftables.SetElement{*below}, yes
	}
	return nil, no
}
