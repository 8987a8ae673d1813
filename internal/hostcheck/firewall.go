package hostcheck

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Filter is a table of nftables through which datagrams for this host pass, as far as it concerns
// our UDP port.
type Filter struct {
	Name  string // "inet filter"
	Chain string // the chain at the hook input
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
// the hook input. Rules of legacy iptables and of eBPF are not visible to it.
func ReadFilters(port uint16) ([]Filter, error) {
	conn, chains, err := listChains()
	if err != nil {
		return nil, err
	}
	var list []Filter
	for _, c := range chains {
		if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookInput || c.Type != nftables.ChainTypeFilter {
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
			for _, r := range rules {
				about, drops := judge(r.Exprs, port)
				f.Drops = f.Drops || drops && other.Name == c.Name
				f.Closed = f.Closed && !about
			}
		}
		if f.Drops || f.Closed {
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
		case *expr.Reject:
			ends = true
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

// firewall finds what keeps datagrams from our port. It is called only if no peer is up: rules may
// drop some datagrams and accept those of the peers.
func firewall(filters []Filter, port uint16) []Finding {
	var list []Finding
	for _, f := range filters {
		how := fmt.Sprintf("a rule of the firewall of this host drops datagrams to UDP port %d", port)
		if !f.Drops {
			how = fmt.Sprintf("the firewall of this host accepts nothing for UDP port %d by a rule of its own and drops the rest", port)
		}
		list = append(list, Finding{
			Kind: Firewall, Subject: f.Name,
			Message: fmt.Sprintf("no peer is up, and %s (nftables: table %s, chain %s): peers cannot begin", how, f.Name, f.Chain),
			Remedy:  fmt.Sprintf("accept it (nft insert rule %s %s udp dport %d accept), also in what loads the rules at boot", f.Name, f.Chain, port),
		})
	}
	return list
}
