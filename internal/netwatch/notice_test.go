package netwatch

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// message builds a netlink message for the parser's tests.
func message(typ uint16, port uint32, body []byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	binary.NativeEndian.PutUint32(b, uint32(cap(b)))
	binary.NativeEndian.PutUint16(b[4:], typ)
	binary.NativeEndian.PutUint32(b[12:], port)
	b = append(b, body...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func attribute(typ uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func word(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// sampleMessages are one of each kind that the parser knows.
func sampleMessages() []byte {
	rule := append(make([]byte, unix.SizeofRtMsg), attribute(attrRuleProtocol, []byte{117})...)
	route := make([]byte, unix.SizeofRtMsg)
	route[0], route[1], route[4], route[5], route[7] = unix.AF_INET, 16, unix.RT_TABLE_COMPAT, 117, unix.RTN_UNICAST
	route = slices.Concat(route, attribute(unix.RTA_DST, []byte{10, 20, 0, 0}), attribute(unix.RTA_TABLE, word(1234)),
		attribute(unix.RTA_OIF, word(7)), attribute(unix.RTA_PRIORITY, word(9)))
	linkMessage := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(linkMessage[4:], 7)
	linkMessage = append(linkMessage, attribute(unix.IFLA_IFNAME, []byte("office\x00"))...)
	addr := make([]byte, unix.SizeofIfAddrmsg)
	addr[0], addr[1] = unix.AF_INET, 24
	binary.NativeEndian.PutUint32(addr[4:], 7)
	addr = slices.Concat(addr, attribute(unix.IFA_LOCAL, []byte{192, 0, 2, 1}), attribute(unix.IFA_ADDRESS, []byte{192, 0, 2, 9}))
	table := append([]byte{unix.NFPROTO_INET, 0, 0, 0}, attribute(attrNFTTable, []byte("tund-office\x00"))...)
	return slices.Concat(
		message(unix.RTM_DELRULE, 412, rule), message(unix.RTM_DELROUTE, 0, route), message(unix.RTM_NEWLINK, 1, linkMessage),
		message(unix.RTM_NEWNEIGH, 0, addr), message(unix.RTM_DELADDR, 2, addr), message(nftType(unix.NFT_MSG_DELTABLE), 3, table))
}

func TestParseNotices_readsEachKind(t *testing.T) {
	t.Parallel()
	want := []Notice{
		{Kind: Rule, Del: true, Protocol: 117, Port: 412},
		{Kind: Route, Del: true, Protocol: 117, Table: 1234, Index: 7,
			Prefix: netip.MustParsePrefix("10.20.0.0/16")},
		{Kind: Link, Index: 7, Name: "office", Port: 1},
		{Kind: Addr, Del: true, Index: 7, Port: 2, Prefix: netip.MustParsePrefix("192.0.2.1/24")},
		{Kind: Table, Del: true, Name: "tund-office", Port: 3},
	}
	if got := parseNotices(sampleMessages()); !slices.Equal(got, want) {
		t.Errorf("parseNotices =\n%+v\nwant\n%+v", got, want)
	}
}

func FuzzParseNotices(f *testing.F) {
	f.Add(sampleMessages())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, n := range parseNotices(b) {
			if n.Kind == None || len(n.Name) > maxNameAttr {
				t.Errorf("notice %+v", n)
			}
		}
	})
}

func FuzzParseRoute(f *testing.F) {
	f.Add(sampleMessages()[unix.SizeofNlMsghdr:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, ok := ParseRoute(b); ok && !r.Dst.IsValid() {
			t.Errorf("ParseRoute = %+v", r)
		}
	})
}
