package route

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// notice is what we need of one message in which the kernel announces a change.
type notice struct {
	kind     noticeKind
	del      bool
	index    int    // of the link, or the link a route or address belongs to
	name     string // of the link or the nftables table
	table    uint32 // of a route
	protocol uint8  // of a route or rule
	port     uint32 // netlink port of who asked for the change, 0 for the kernel
}

type noticeKind uint8

const (
	noticeNone     noticeKind = iota // of no interest
	noticeOverflow                   // messages were lost: anything may have changed
	noticeLink
	noticeAddr
	noticeRoute
	noticeRule
	noticeTable // nftables
)

// Attribute numbers: linux/if_link.h, linux/fib_rules.h, linux/netfilter/nf_tables.h.
const (
	attrLinkName     = unix.IFLA_IFNAME
	attrRuleProtocol = 21 // FRA_PROTOCOL
	attrNFTTable     = 1  // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE
)

// maxNameAttr bounds the names we keep of messages: nftables allows 255 bytes.
const maxNameAttr = 255

// parseNotices reads a datagram of netlink messages: struct nlmsghdr, netlink(7). It stops at the first that
// does not fit and leaves out what is of no interest.
func parseNotices(b []byte) []notice {
	var notices []notice
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			break
		}
		n := parseNotice(binary.NativeEndian.Uint16(b[4:]), b[unix.SizeofNlMsghdr:size])
		if n.kind != noticeNone {
			n.port = binary.NativeEndian.Uint32(b[12:])
			notices = append(notices, n)
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return notices
}

func parseNotice(typ uint16, body []byte) notice {
	switch typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return parseLinkNotice(body, typ == unix.RTM_DELLINK)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(body) >= unix.SizeofIfAddrmsg {
			return notice{kind: noticeAddr, del: typ == unix.RTM_DELADDR, index: int(binary.NativeEndian.Uint32(body[4:]))}
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if r, ok := parseRoute(body); ok && !r.cloned {
			return notice{kind: noticeRoute, del: typ == unix.RTM_DELROUTE, index: r.index, table: r.table, protocol: r.protocol}
		}
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return parseRuleNotice(body, typ == unix.RTM_DELRULE)
	case nftType(unix.NFT_MSG_DELTABLE), nftType(unix.NFT_MSG_DELCHAIN), nftType(unix.NFT_MSG_DELRULE):
		return parseTableNotice(body)
	}
	return notice{}
}

func nftType(message uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | message }

func parseLinkNotice(body []byte, del bool) notice {
	// Bridges announce their ports' state as links of family AF_BRIDGE, by the dozen: not a link's change.
	if len(body) < unix.SizeofIfInfomsg || body[0] != unix.AF_UNSPEC {
		return notice{}
	}
	n := notice{kind: noticeLink, del: del, index: int(int32(binary.NativeEndian.Uint32(body[4:])))}
	for typ, value := range attributes(body[unix.SizeofIfInfomsg:]) {
		if typ == attrLinkName {
			n.name = text(value)
		}
	}
	return n
}

// parseRuleNotice reads a struct fib_rule_hdr, which has the size of a struct rtmsg.
func parseRuleNotice(body []byte, del bool) notice {
	if len(body) < unix.SizeofRtMsg {
		return notice{}
	}
	n := notice{kind: noticeRule, del: del}
	for typ, value := range attributes(body[unix.SizeofRtMsg:]) {
		if typ == attrRuleProtocol && len(value) == 1 {
			n.protocol = value[0]
		}
	}
	return n
}

// parseTableNotice reads the deletion of a table, chain or rule: a struct nfgenmsg and attributes.
func parseTableNotice(body []byte) notice {
	const sizeofNfgenmsg = 4
	if len(body) < sizeofNfgenmsg || body[0] != unix.NFPROTO_INET {
		return notice{}
	}
	n := notice{kind: noticeTable, del: true}
	for typ, value := range attributes(body[sizeofNfgenmsg:]) {
		if typ == attrNFTTable {
			n.name = text(value)
		}
	}
	return n
}

// text returns a zero-terminated string of the kernel.
func text(value []byte) string {
	value, _, _ = bytes.Cut(value, []byte{0})
	return string(value[:min(len(value), maxNameAttr)])
}
