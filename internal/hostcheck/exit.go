package hostcheck

import (
	"bytes"
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
	conn, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return false, fmt.Errorf("list chains of nftables: %w", err)
	}
	for _, c := range chains {
		if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookPostrouting || c.Type != nftables.ChainTypeNAT {
			continue
		}
		for _, other := range chains { // chains to which it may jump
			if other.Table.Name != c.Table.Name || other.Table.Family != c.Table.Family {
				continue
			}
			rules, err := conn.GetRules(other.Table, other)
			if err != nil {
				return false, fmt.Errorf("list rules of nftables: %w", err)
			}
			if slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return translates(r.Exprs, src) }) {
				return true, nil
			}
		}
	}
	return false, nil
}

// translates reports whether a rule gives packets from src, which is IPv4, another source address.
func translates(rule []expr.Any, src netip.Addr) bool {
	var loaded []byte // of the source address, with a mask applied; nil: something else
	for _, e := range rule {
		switch e := e.(type) {
		case *expr.Payload:
			loaded = nil
			// RFC 791 §3.1
			if e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 12 && e.Len <= 4 {
				loaded = src.AsSlice()[:e.Len]
			}
			continue
		case *expr.Bitwise:
			for i := range min(len(loaded), len(e.Mask)) {
				loaded[i] &= e.Mask[i]
			}
			continue
		case *expr.Cmp:
			if loaded != nil && bytes.Equal(loaded, e.Data) != (e.Op == expr.CmpOpEq) && (e.Op == expr.CmpOpEq || e.Op == expr.CmpOpNeq) {
				return false
			}
		case *expr.Masq:
			return true
		case *expr.NAT:
			return e.Type == expr.NATTypeSourceNAT
		case *expr.Target: // of iptables-nft
			return e.Name == "MASQUERADE" || e.Name == "SNAT"
		}
		loaded = nil
	}
	return false
}
