// Package filter decides which packets a capture takes. Its language is the part of tcpdump's that
// people type most (pcap-filter(7)), with words for what tcpdump cannot know: the peer, and whether
// tund has dropped the packet.
//
//	expression  a or b, a and b, not a, ( a ); also ||, &&, !
//	peer NAME   to or from a peer, by its name or its public key
//	host ADDR   from or to an address; src host, dst host: only from, only to
//	net CIDR    from or to a network; src net, dst net
//	port N      from or to a TCP, UDP or SCTP port, or one of a range N-M; src port, dst port
//	proto P     tcp, udp, icmp (that of IPv4 and of IPv6), icmp6, sctp, arp, or a number
//	ip, ip6, arp, tcp, udp, icmp, icmp6, sctp, vlan [N]
//	in, out, dropped
//
// Peers send what they like, so no field of a packet is trusted: what does not fit into the packet
// is not there, and a term about it does not match. The package parses text and packets and does
// nothing else. A Filter is safe for concurrent use; a View belongs to one goroutine.
package filter

import "net/netip"

// Filter is a compiled expression. A nil *Filter takes everything.
type Filter struct{ match term }

// term evaluates a part of an expression.
type term func(v *View) verdict

// verdict is the value of a term in three-valued logic: about a datagram that is encrypted nobody
// knows whether it has an inner address or a port.
type verdict int8

const (
	no      verdict = -1
	unknown verdict = 0
	yes     verdict = 1
)

func is(b bool) verdict {
	if b {
		return yes
	}
	return no
}

// Match reports whether the capture takes the packet in v. A datagram of the underlay is left out
// only if it cannot be one that the expression asks for: terms about peers and about the
// direction, and whether the datagram was dropped, decide; those about inner packets do not.
func (f *Filter) Match(v *View) bool {
	if f == nil {
		return true
	}
	if v.Encrypted {
		return f.match(v) != no
	}
	return f.match(v) == yes
}

// Key is the public key of a peer.
type Key = [32]byte

func and(a, b term) term {
	return func(v *View) verdict {
		left := a(v)
		if left == no {
			return no
		}
		return min(left, b(v))
	}
}

func or(a, b term) term {
	return func(v *View) verdict {
		left := a(v)
		if left == yes {
			return yes
		}
		return max(left, b(v))
	}
}

func not(a term) term { return func(v *View) verdict { return -a(v) } }

// inner makes a term about the inner packet, which an encrypted datagram does not show.
func inner(match func(v *View) bool) term {
	return func(v *View) verdict {
		if v.Encrypted {
			return unknown
		}
		return is(match(v))
	}
}

func ofPeer(key Key) term {
	return func(v *View) verdict {
		if !v.HasPeer {
			if v.Encrypted {
				return unknown // a message of a handshake that names nobody whom we know
			}
			return no
		}
		return is(v.Peer == key)
	}
}

// side says which end of a packet a term is about.
type side int

const (
	either side = iota
	source
	destination
)

func within(net netip.Prefix, s side) term {
	return inner(func(v *View) bool {
		v.parse()
		return v.addressed && (s != destination && net.Contains(v.src) || s != source && net.Contains(v.dst))
	})
}

func portIn(low, high uint16, s side) term {
	return inner(func(v *View) bool {
		v.parse()
		return v.ports && (s != destination && low <= v.srcPort && v.srcPort <= high ||
			s != source && low <= v.dstPort && v.dstPort <= high)
	})
}

func protocol(number int16) term {
	return inner(func(v *View) bool {
		v.parse()
		return v.proto == number
	})
}

// anyICMP matches the ICMP of the packet's own IP version.
func anyICMP(v *View) bool {
	v.parse()
	return v.version == 4 && v.proto == protoICMP || v.version == 6 && v.proto == protoICMP6
}

func version(n uint8) term {
	return inner(func(v *View) bool {
		v.parse()
		return v.version == n
	})
}

func inVLAN(id int) term {
	return inner(func(v *View) bool {
		v.parse()
		return v.vlan >= 0 && (id < 0 || int(v.vlan) == id)
	})
}
