package hostcheck

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// redirects returns the rules of a table that give datagrams to our port another destination before
// tund gets them: those of c, a chain for NAT at the hook prerouting, and of the chains without a
// hook to which it may jump. A rule with a condition that is not understood may be meant for
// another address of this host, and is passed over; by which link the datagrams come does not
// matter.
func (t *Traffic) redirects(rules *ruleset, c *nftables.Chain) ([]Rule, error) {
	p := packet{proto: unix.IPPROTO_UDP, dport: t.Port, local: true, state: expr.CtStateBitNEW, anyLink: true}
	var list []Rule
	for _, other := range rules.chains {
		if other.Table.Name != c.Table.Name || other.Table.Family != c.Table.Family ||
			other.Name != c.Name && other.Hooknum != nil {
			continue
		}
		in, err := rules.in(other.Table, other.Name)
		if err != nil {
			return nil, err
		}
		for _, r := range in {
			j, err := rules.judge(other.Table, r.Exprs, &p)
			if err != nil {
				return nil, err
			}
			if j.natted && j.fits == yes && j.about[portField] {
				list = append(list, Rule{Hook: "nat", Chain: other.Name, Handle: r.Handle})
			}
		}
	}
	return list, nil
}
