package hostcheck

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Outward is a packet from a peer with a private source address that goes on to the Internet.
type Outward struct {
	Src, Dst netip.Addr
	Link     string // by which it leaves
}

// exit finds an exit that does not translate addresses: nobody outside has a route back.
func (t *Tunnel) exit() []Finding {
	if t.Outward == nil {
		return nil
	}
	return []Finding{{
		Kind: Masquerade, Subject: t.Outward.Link,
		Message: fmt.Sprintf("peers send to the Internet through this host (%s to %s by %s), and it does not translate their private addresses: they get no answer",
			t.Outward.Src, t.Outward.Dst, t.Outward.Link),
		Remedy: "masquerade = true in [tun], or a rule of your own that masquerades what leaves by " + t.Outward.Link,
	}}
}

// legacyTables lists the tables of the old iptables, which nftables does not show.
const legacyTables = "/proc/net/ip_tables_names"

// Translates reports whether packets from src are given another source address when this host
// forwards them: by a rule of nftables, including those of iptables-nft, whose other conditions are
// taken to be met. The rules of legacy iptables cannot be read; where it has a table for them, they
// are taken to do so.
func Translates(src netip.Addr) (bool, error) {
	legacy, _ := os.ReadFile(legacyTables) // absent where legacy iptables was never used
	if slices.Contains(strings.Fields(string(legacy)), "nat") {
		return true, nil
	}
	rules, err := newRuleset()
	if err != nil {
		return false, err
	}
	p := packet{src: src, state: expr.CtStateBitNEW}
	for _, c := range rules.chains {
		if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookPostrouting || c.Type != nftables.ChainTypeNAT {
			continue
		}
		for _, other := range rules.chains { // chains to which it may jump
			if other.Table.Name != c.Table.Name || other.Table.Family != c.Table.Family {
				continue
			}
			list, err := rules.in(other.Table, other.Name)
			if err != nil {
				return false, err
			}
			for _, r := range list {
				j, err := rules.judge(other.Table, r.Exprs, &p)
				if err != nil {
					return false, err
				}
				if j.hides && j.fits != no {
					return true, nil
				}
			}
		}
	}
	return false, nil
}
