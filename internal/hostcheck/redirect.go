package hostcheck

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// redirects returns the rules of a table that give datagrams to our port another destination before
// tund gets them: those of c, a chain for NAT at the hook prerouting, and of the chains without a
// hook to which it may jump.
func (t *Traffic) redirects(conn *nftables.Conn, chains []*nftables.Chain, c *nftables.Chain) ([]Rule, error) {
	var list []Rule
	for _, other := range chains {
		if other.Table.Name != c.Table.Name || other.Table.Family != c.Table.Family ||
			other.Name != c.Name && other.Hooknum != nil {
			continue
		}
		rules, err := conn.GetRules(other.Table, other)
		if err != nil {
			return nil, fmt.Errorf("list rules of nftables: %w", err)
		}
		for _, r := range rules {
			if redirected(r.Exprs, t.Port) {
				table := families[c.Table.Family] + " " + c.Table.Name
				list = append(list, Rule{Hook: "nat", Table: table, Chain: other.Name, Handle: r.Handle})
			}
		}
	}
	return list, nil
}

// redirected reports whether a rule gives all UDP datagrams to a port another destination, or all
// that come by one link. A rule with any further condition may be meant for another address of this
// host, and is passed over.
func redirected(rule []expr.Any, port uint16) bool {
	field, exact := something, false
	for _, e := range rule {
		switch e := e.(type) {
		case *expr.Meta, *expr.Payload:
			field = fieldOf(e)
			continue
		case *expr.Cmp:
			switch field {
			case family:
			case protocol, destination, link:
				if e.Op != expr.CmpOpEq || !suits(field, e.Data, port) {
					return false
				}
				exact = exact || field == destination
			default:
				return false
			}
		case *expr.Counter, *expr.Log, *expr.Immediate:
		case *expr.NAT:
			return exact && e.Type == expr.NATTypeDestNAT
		case *expr.Redir:
			return exact
		case *expr.Target:
			return exact && (e.Name == "DNAT" || e.Name == "REDIRECT")
		default:
			return false
		}
		field = something
	}
	return false
}
