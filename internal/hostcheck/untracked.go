package hostcheck

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// untracked returns a rule that keeps our datagrams out of connection tracking (notrack), and the
// state that peers' answers have for rules about connections because of it. Without such a rule,
// that is established. Rules in chains that others call are not looked at.
func (t *Traffic) untracked(rules *ruleset) (state uint32, by *Rule, err error) {
	state = expr.CtStateBitESTABLISHED
	for _, c := range rules.chains {
		family, known := families[c.Table.Family]
		hook := hookOf(c)
		if !known || hook != "input" && hook != "output" || c.Type != nftables.ChainTypeFilter {
			continue
		}
		packets, means := t.arriving(c.Table.Family), expr.CtStateBitUNTRACKED
		if hook == "output" { // what nobody has seen leave is not answered: whatever comes is new
			packets, means = t.leaving(c.Table.Family), expr.CtStateBitNEW
		}
		in, err := rules.in(c.Table, c.Name)
		if err != nil {
			return state, nil, err
		}
		for _, r := range in {
			for i := range packets {
				j, err := rules.judge(c.Table, r.Exprs, &packets[i])
				if err != nil {
					return state, nil, err
				}
				if j.untracked && j.fits == yes && state != expr.CtStateBitUNTRACKED {
					state, by = means, &Rule{Hook: hook, Table: family + " " + c.Table.Name, Chain: c.Name, Handle: r.Handle}
				}
			}
		}
	}
	return state, by, nil
}

// notracks reports whether a target of iptables takes packets out of connection tracking (iptables
// extensions, CT --notrack: bit 0 of the flags).
func notracks(e *expr.Target) bool {
	if e.Name == "NOTRACK" {
		return true
	}
	info := unknown(e.Info)
	return e.Name == "CT" && len(info) > 0 && info[0]&1 != 0
}

// errorsOf says which message tells a sender that a packet is too long: RFC 792, RFC 4443 §3.2.
func errorsOf(v6 bool) (proto byte, message []byte, words string) {
	if v6 {
		return unix.IPPROTO_ICMPV6, []byte{2, 0}, "icmpv6 type packet-too-big"
	}
	return unix.IPPROTO_ICMP, []byte{3, 4}, "icmp type destination-unreachable"
}
