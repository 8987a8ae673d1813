package netwatch

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"tund/internal/rtnl"
)

// Notice is one change that the kernel announces. Fields that make no sense for its Kind are zero.
type Notice struct {
	Kind     Kind
	Del      bool         // the object was removed
	Index    int          // of the link, or of the link that an address or route belongs to
	Name     string       // of the link or of the nftables table
	Prefix   netip.Prefix // the destination of a route, or an address with its network's length
	Table    uint32       // of a route
	MTU      int          // that a route sets, in bytes; 0: none
	Protocol uint8        // of a route or rule
	Port     uint32       // netlink port of the process that asked for the change; 0: the kernel
}

// Kind is what a notice is about.
type Kind uint8

// The kinds of notices.
const (
	None     Kind = iota // of no interest; never returned by a Source
	Overflow             // messages were lost: anything may have changed
	Link
	Addr
	Route
	Rule
	Table // of nftables: the table, or a chain or rule in it, was deleted
)

// Attribute numbers: linux/if_link.h, linux/fib_rules.h, linux/netfilter/nf_tables.h.
const (
	attrLinkName     = unix.IFLA_IFNAME
	attrRuleProtocol = 21 // FRA_PROTOCOL
	attrNFTTable     = 1  // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE
)

// maxNameAttr bounds the names that are kept of messages, in bytes: nftables allows 255.
const maxNameAttr = 255

// parseNotices reads a datagram of netlink messages: struct nlmsghdr, netlink(7). It stops at the
// first that does not fit and leaves out what is of no interest.
func parseNotices(b []byte) []Notice {
	var notices []Notice
	for typ, m := range rtnl.Messages(b) {
		n := parseNotice(typ, m[unix.SizeofNlMsghdr:])
		if n.Kind != None {
			n.Port = binary.NativeEndian.Uint32(m[12:])
			notices = append(notices, n)
		}
	}
	return notices
}

func parseNotice(typ uint16, body []byte) Notice {
	switch typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return parseLinkNotice(body, typ == unix.RTM_DELLINK)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return parseAddrNotice(body, typ == unix.RTM_DELADDR)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if r, ok := ParseRoute(body); ok && !r.Cloned {
			return Notice{
				Kind: Route, Del: typ == unix.RTM_DELROUTE, Index: r.Index, Prefix: r.Dst,
				Table: r.Table, Protocol: r.Protocol, MTU: r.MTU,
			}
		}
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return parseRuleNotice(body, typ == unix.RTM_DELRULE)
	case nftType(unix.NFT_MSG_DELTABLE), nftType(unix.NFT_MSG_DELCHAIN), nftType(unix.NFT_MSG_DELRULE):
		return parseTableNotice(body)
	}
	return Notice{}
}

func nftType(message uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | message }

func parseLinkNotice(body []byte, del bool) Notice {
	// A bridge announces every change of a port's state as a link message of family AF_BRIDGE,
	// although nothing about the link itself has changed.
	if len(body) < unix.SizeofIfInfomsg || body[0] != unix.AF_UNSPEC {
		return Notice{}
	}
	n := Notice{Kind: Link, Del: del, Index: int(int32(binary.NativeEndian.Uint32(body[4:])))}
	for typ, value := range rtnl.Attributes(body[unix.SizeofIfInfomsg:]) {
		if typ == attrLinkName {
			n.Name = text(value)
		}
	}
	return n
}

// parseAddrNotice reads a struct ifaddrmsg. IFA_LOCAL is the address where a point-to-point link
// has the other end's in IFA_ADDRESS.
func parseAddrNotice(body []byte, del bool) Notice {
	if len(body) < unix.SizeofIfAddrmsg {
		return Notice{}
	}
	n := Notice{Kind: Addr, Del: del, Index: int(binary.NativeEndian.Uint32(body[4:]))}
	addr, ok := unspecified(body[0])
	bits := int(body[1])
	if !ok || bits > addr.BitLen() {
		return n
	}
	local := false
	for typ, value := range rtnl.Attributes(body[unix.SizeofIfAddrmsg:]) {
		if len(value) != addr.BitLen()/8 || typ != unix.IFA_LOCAL && (typ != unix.IFA_ADDRESS || local) {
			continue
		}
		addr, _ = netip.AddrFromSlice(value)
		local = typ == unix.IFA_LOCAL
		n.Prefix = netip.PrefixFrom(addr, bits)
	}
	return n
}

// parseRuleNotice reads a struct fib_rule_hdr, which has the size of a struct rtmsg.
func parseRuleNotice(body []byte, del bool) Notice {
	if len(body) < unix.SizeofRtMsg {
		return Notice{}
	}
	n := Notice{Kind: Rule, Del: del}
	for typ, value := range rtnl.Attributes(body[unix.SizeofRtMsg:]) {
		if typ == attrRuleProtocol && len(value) == 1 {
			n.Protocol = value[0]
		}
	}
	return n
}

// parseTableNotice reads the deletion of a table, chain or rule: a struct nfgenmsg and attributes.
func parseTableNotice(body []byte) Notice {
	const sizeofNfgenmsg = 4
	if len(body) < sizeofNfgenmsg || body[0] != unix.NFPROTO_INET {
		return Notice{}
	}
	n := Notice{Kind: Table, Del: true}
	for typ, value := range rtnl.Attributes(body[sizeofNfgenmsg:]) {
		if typ == attrNFTTable {
			n.Name = text(value)
		}
	}
	return n
}

// text returns a zero-terminated string of the kernel.
func text(value []byte) string {
	value, _, _ = bytes.Cut(value, []byte{0})
	return string(value[:min(len(value), maxNameAttr)])
}
