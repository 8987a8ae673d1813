package hostcheck

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ruleset is what nftables has, including iptables-nft: chains at once, rules and sets when they
// are asked for, each once. Rules of legacy iptables and of eBPF are not visible to it.
type ruleset struct {
	conn   *nftables.Conn
	chains []*nftables.Chain
	rules  map[place][]*nftables.Rule
	sets   map[place][]nftables.SetElement
}

// place is a chain or a set in a table.
type place struct {
	family nftables.TableFamily
	table  string
	name   string
}

// newRuleset asks for the chains. It needs CAP_NET_ADMIN.
func newRuleset() (*ruleset, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list chains of nftables: %w", err)
	}
	return &ruleset{conn: conn, chains: chains, rules: make(map[place][]*nftables.Rule), sets: make(map[place][]nftables.SetElement)}, nil
}

// in returns the rules of a chain.
func (s *ruleset) in(t *nftables.Table, chain string) ([]*nftables.Rule, error) {
	at := place{t.Family, t.Name, chain}
	if list, ok := s.rules[at]; ok {
		return list, nil
	}
	list, err := s.conn.GetRules(t, &nftables.Chain{Name: chain, Table: t})
	if err != nil {
		return nil, fmt.Errorf("list rules of nftables: %w", err)
	}
	s.rules[at] = list
	return list, nil
}

// elements returns those of a set or map.
func (s *ruleset) elements(t *nftables.Table, set string) ([]nftables.SetElement, error) {
	at := place{t.Family, t.Name, set}
	if list, ok := s.sets[at]; ok {
		return list, nil
	}
	list, err := s.conn.GetSetElements(&nftables.Set{Name: set, Table: t})
	if err != nil {
		return nil, fmt.Errorf("list elements of a set of nftables: %w", err)
	}
	s.sets[at] = list
	return list, nil
}

// hasChain reports whether a table has a chain.
func (s *ruleset) hasChain(t *nftables.Table, name string) bool {
	for _, c := range s.chains {
		if c.Name == name && c.Table.Name == t.Name && c.Table.Family == t.Family {
			return true
		}
	}
	return false
}

// verdictOf reads the verdict that an element of a map has: attributes of netlink with the code and
// the chain (enum nft_verdict_attributes in linux/netfilter/nf_tables.h).
func verdictOf(value []byte) (v expr.Verdict, ok bool) {
	const header = 4
	for len(value) >= header {
		size := int(binary.NativeEndian.Uint16(value))
		if size < header || size > len(value) {
			return v, false
		}
		data := value[header:size]
		switch binary.NativeEndian.Uint16(value[2:]) &^ unix.NLA_F_NESTED {
		case unix.NFTA_VERDICT_CODE:
			if len(data) != 4 {
				return v, false
			}
			v.Kind, ok = expr.VerdictKind(int32(binary.BigEndian.Uint32(data))), true
		case unix.NFTA_VERDICT_CHAIN:
			v.Chain = cString(data)
		}
		value = value[min((size+3)&^3, len(value)):]
	}
	return v, ok
}

// cString is the text before the first zero.
func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
