package hostcheck

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Filter is a table of nftables through which datagrams for this host pass, as far as it concerns
// our UDP port.
type Filter struct {
	Name  string // "inet filter"
	Chain string // the chain at the hook input or prerouting
	// Certain: a rule drops all datagrams to the port, or all from those of the peers.
	Certain bool
	// Drops: a rule drops or rejects datagrams to the port, perhaps only some of them.
	Drops bool
	// Closed: the chain drops what no rule accepts, and no rule of the table concerns the port.
	Closed bool
}

// listChains returns the chains of nftables, and the connection by which to ask for their rules.
func listChains() (*nftables.Conn, []*nftables.Chain, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, nil, fmt.Errorf("open nftables: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, nil, fmt.Errorf("list chains of nftables: %w", err)
	}
	return conn, chains, nil
}

// ReadFilters reads the tables of nftables, including those of iptables-nft, that have a chain at
// the hook input or prerouting. The device of t does not matter. Rules of legacy iptables and of
// eBPF are not visible to it.
func ReadFilters(t Traffic) ([]Filter, error) {
	conn, chains, err := listChains()
	if err != nil {
		return nil, err
	}
	var list []Filter
	for _, c := range chains {
		if c.Hooknum == nil || c.Type != nftables.ChainTypeFilter ||
			*c.Hooknum != *nftables.ChainHookInput && *c.Hooknum != *nftables.ChainHookPrerouting {
			continue
		}
		family, known := families[c.Table.Family]
		if !known {
			continue
		}
		f := Filter{Name: family + " " + c.Table.Name, Chain: c.Name}
		f.Closed = c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
		for _, other := range chains { // chains to which it may jump
			if other.Table.Name != c.Table.Name || other.Table.Family != c.Table.Family {
				continue
			}
			rules, err := conn.GetRules(other.Table, other)
			if err != nil {
				return nil, fmt.Errorf("list rules of nftables: %w", err)
			}
			accepted := false
			for _, r := range rules {
				about, drops := judge(r.Exprs, t.Port)
				if other.Name == c.Name {
					f.Certain = f.Certain || !accepted && t.dropsAll(r.Exprs)
					accepted = accepted || accepts(r.Exprs)
				}
				f.Drops = f.Drops || drops && other.Name == c.Name
				f.Closed = f.Closed && !about
			}
		}
		if f.Certain || f.Drops || f.Closed {
			list = append(list, f)
		}
	}
	return list, nil
}

// families are those through which datagrams for this host pass, with their names in nft(8).
var families = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
}

// What a rule may compare that shows whether it concerns our datagrams.
const (
	something = iota // anything else
	protocol
	destination
	link
)

// judge reports whether a rule concerns UDP datagrams that come from the network to a port, by
// accepting them or by being about them alone, and whether it drops them. A condition that is not
// understood here is assumed to be met by our datagrams.
func judge(rule []expr.Any, port uint16) (about, drops bool) {
	loaded, exact, ends, accepts, others := something, false, false, false, false
	for _, e := range rule {
		switch e := e.(type) {
		case *expr.Meta, *expr.Payload:
			loaded = loads(e)
			continue
		case *expr.Ct:
			others = true // accepts what belongs to a connection that we opened
		case *expr.Cmp:
			if e.Op == expr.CmpOpEq && !suits(loaded, e.Data, port) {
				return false, false
			}
			exact = exact || loaded == destination && e.Op == expr.CmpOpEq
		case *expr.Verdict:
			ends, accepts = e.Kind == expr.VerdictDrop, e.Kind == expr.VerdictAccept
		case *expr.Reject, *expr.Target:
			ends = rejects(e)
		}
		loaded = something
	}
	return exact || accepts && !others, exact && ends
}

// loads reports what an expression loads for the next one to compare.
func loads(e expr.Any) int {
	switch e := e.(type) {
	case *expr.Meta:
		switch e.Key {
		case expr.MetaKeyL4PROTO:
			return protocol
		case expr.MetaKeyIIFNAME:
			return link
		}
	case *expr.Payload:
		switch {
		case e.Base == expr.PayloadBaseTransportHeader && e.Offset == 2 && e.Len == 2:
			return destination
		case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 9 && e.Len == 1: // IPv4
			return protocol
		}
	}
	return something
}

// suits reports whether our datagrams may have a value that a rule compares with.
func suits(loaded int, value []byte, port uint16) bool {
	switch loaded {
	case protocol:
		return bytes.Equal(value, []byte{unix.IPPROTO_UDP})
	case destination:
		return bytes.Equal(value, binary.BigEndian.AppendUint16(nil, port))
	case link:
		return string(bytes.TrimRight(value, "\x00")) != "lo"
	}
	return true
}

// dropsAll reports whether a rule drops all datagrams to our port, or all from the ports or the
// addresses of peers.
func (t *Traffic) dropsAll(rule []expr.Any) bool {
	exact := false
	verdict := read(rule, something, func(field int, value []byte) bool {
		among := func(of func(netip.AddrPort) []byte) bool {
			exact = true
			return slices.ContainsFunc(t.Endpoints, func(a netip.AddrPort) bool { return bytes.Equal(value, of(a)) })
		}
		switch field {
		case protocol:
			return bytes.Equal(value, []byte{unix.IPPROTO_UDP})
		case destination:
			exact = true
			return bytes.Equal(value, binary.BigEndian.AppendUint16(nil, t.Port))
		case source:
			return among(func(a netip.AddrPort) []byte { return binary.BigEndian.AppendUint16(nil, a.Port()) })
		case from4, from6:
			return among(func(a netip.AddrPort) []byte { return a.Addr().Unmap().AsSlice() })
		}
		return false
	})
	return exact && verdict == dropping
}

// accepts reports whether a rule accepts something, such as what belongs to a connection, or leaves
// that to another chain.
func accepts(rule []expr.Any) bool {
	return slices.ContainsFunc(rule, func(e expr.Any) bool {
		v, ok := e.(*expr.Verdict)
		return ok && (v.Kind == expr.VerdictAccept || v.Kind == expr.VerdictJump || v.Kind == expr.VerdictGoto)
	})
}

// firewall finds what keeps datagrams from our port. While a peer is up, only rules count that
// certainly drop those of peers: others may let them pass.
func (t *Tunnel) firewall() []Finding {
	var list []Finding
	for _, f := range t.Filters {
		var how string
		switch {
		case f.Certain:
			how = fmt.Sprintf("a rule of the firewall of this host drops the datagrams of peers to UDP port %d", t.Port)
		case t.SomeUp:
			continue
		case f.Drops:
			how = fmt.Sprintf("no peer is up, and a rule of the firewall of this host drops datagrams to UDP port %d", t.Port)
		default:
			how = fmt.Sprintf("no peer is up, and the firewall of this host accepts nothing for UDP port %d by a rule of its own "+
				"and drops the rest", t.Port)
		}
		list = append(list, Finding{
			Kind: Firewall, Subject: f.Name + " " + f.Chain,
			Message: fmt.Sprintf("%s (nftables: table %s, chain %s)", how, f.Name, f.Chain),
			Remedy:  fmt.Sprintf("accept it (nft insert rule %s %s udp dport %d accept), also in what loads the rules at boot", f.Name, f.Chain, t.Port),
		})
	}
	return list
}
