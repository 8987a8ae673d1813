package hostcheck

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Rule is a rule of nftables, or the policy of a chain, that drops packets of an instance or leads
// them elsewhere.
type Rule struct {
	Hook   string // "input", "forward" or "output"; "nat": it gives them another destination
	Table  string // "inet filter"
	Chain  string
	Handle uint64 // of the rule; 0: it is the policy of the chain
	Accept string // what a rule that lets the packets pass has to match, in the words of nft(8)
	Back   string // the same for the other direction; "": there is none to accept
}

// String names the rule as `nft -a list ruleset` does.
func (r Rule) String() string {
	if r.Handle == 0 {
		return fmt.Sprintf("nftables: table %s, chain %s: the policy is drop, and no rule accepts them", r.Table, r.Chain)
	}
	return fmt.Sprintf("nftables: table %s, chain %s, handle %d", r.Table, r.Chain, r.Handle)
}

// Remedy returns the command that lets the packets pass.
func (r Rule) Remedy() string {
	if r.Hook == "nat" {
		return fmt.Sprintf("nft delete rule %s %s handle %d, also in what loads the rules at boot; or another listen_port, at both ends",
			r.Table, r.Chain, r.Handle)
	}
	text := fmt.Sprintf("nft insert rule %s %s %s accept", r.Table, r.Chain, r.Accept)
	if r.Back != "" {
		text += fmt.Sprintf("; nft insert rule %s %s %s accept", r.Table, r.Chain, r.Back)
	}
	if r.Handle != 0 {
		text += fmt.Sprintf(", or: nft delete rule %s %s handle %d", r.Table, r.Chain, r.Handle)
	}
	return text + "; also in what loads the rules at boot"
}

// Traffic is what the packets of an instance look like to a firewall.
type Traffic struct {
	Port      uint16           // our UDP port
	Endpoints []netip.AddrPort // of peers
	// Device is the TUN device if packets are to be forwarded between it and others; "": none.
	Device string
}

// ReadRules returns the rules that drop the traffic, or lead what is for our port elsewhere, as far
// as they are certain to: a rule with a condition that is not understood here is passed over. It
// needs CAP_NET_ADMIN. Rules of legacy iptables and of eBPF are not visible to it.
func ReadRules(t Traffic) ([]Rule, error) { return readRules(t, false) }

// ReadForward returns the rules that drop what is to be forwarded between the TUN device and
// others, with the same limits.
func ReadForward(device string) ([]Rule, error) { return readRules(Traffic{Device: device}, true) }

func readRules(t Traffic, forwardOnly bool) ([]Rule, error) {
	conn, chains, err := listChains()
	if err != nil {
		return nil, err
	}
	var list []Rule
	for _, c := range chains {
		family, known := families[c.Table.Family]
		if !known || c.Hooknum == nil {
			continue
		}
		if c.Type == nftables.ChainTypeNAT && *c.Hooknum == *nftables.ChainHookPrerouting && !forwardOnly {
			found, err := t.redirects(conn, chains, c)
			if err != nil {
				return nil, err
			}
			list = append(list, found...)
		}
		if c.Type != nftables.ChainTypeFilter {
			continue
		}
		if forwardOnly && *c.Hooknum != *nftables.ChainHookForward {
			continue
		}
		r := Rule{Table: family + " " + c.Table.Name, Chain: c.Name}
		var judge func([]expr.Any) verdict
		switch *c.Hooknum {
		case *nftables.ChainHookInput, *nftables.ChainHookPrerouting:
			r.Hook, r.Accept, judge = "input", fmt.Sprintf("udp dport %d", t.Port), t.incoming
		case *nftables.ChainHookOutput, *nftables.ChainHookPostrouting:
			r.Hook, r.Accept, judge = "output", fmt.Sprintf("udp sport %d", t.Port), t.outgoing
		case *nftables.ChainHookForward:
			if t.Device == "" {
				continue
			}
			r.Hook, r.Accept, r.Back, judge = "forward", fmt.Sprintf("iifname %q", t.Device), fmt.Sprintf("oifname %q", t.Device), t.forwarded
		default:
			continue
		}
		found, err := drops(conn, chains, c, r, judge)
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	return list, nil
}

// verdict is what one rule does with the traffic.
type verdict uint8

const (
	indifferent verdict = iota
	dropping            // it drops all of it, or one end of it
	accepting           // it may accept it, or leave that to another chain
)

// drops returns what drops the traffic in one chain.
func drops(conn *nftables.Conn, chains []*nftables.Chain, c *nftables.Chain, r Rule, judge func([]expr.Any) verdict) ([]Rule, error) {
	rules, err := conn.GetRules(c.Table, c)
	if err != nil {
		return nil, fmt.Errorf("list rules of nftables: %w", err)
	}
	var list []Rule
	accepted := false
	for _, rule := range rules {
		switch judge(rule.Exprs) {
		case dropping:
			if !accepted {
				r.Handle = rule.Handle
				list = append(list, r)
			}
		case accepting:
			accepted = true
		}
	}
	closed := c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
	if !closed || accepted || len(list) > 0 {
		return list, nil
	}
	for _, other := range chains { // those to which it may jump
		if other.Table.Name != c.Table.Name || other.Table.Family != c.Table.Family || other.Hooknum != nil {
			continue
		}
		rules, err := conn.GetRules(other.Table, other)
		if err != nil {
			return nil, fmt.Errorf("list rules of nftables: %w", err)
		}
		if slices.ContainsFunc(rules, func(x *nftables.Rule) bool { return judge(x.Exprs) == accepting }) {
			return list, nil
		}
	}
	r.Handle = 0
	return append(list, r), nil
}

// incoming judges a rule at the hook input, for datagrams from the network to our port.
func (t *Traffic) incoming(rule []expr.Any) verdict {
	about, drop := judge(rule, t.Port)
	switch {
	case drop:
		return dropping
	case about:
		return accepting
	}
	return indifferent
}

// outgoing judges a rule at the hook output, for our datagrams.
func (t *Traffic) outgoing(rule []expr.Any) verdict {
	return read(rule, something, func(field int, value []byte) bool {
		switch field {
		case protocol:
			return slices.Equal(value, []byte{unix.IPPROTO_UDP})
		case source:
			return slices.Equal(value, binary.BigEndian.AppendUint16(nil, t.Port))
		case destination:
			return slices.ContainsFunc(t.Endpoints, func(a netip.AddrPort) bool {
				return slices.Equal(value, binary.BigEndian.AppendUint16(nil, a.Port()))
			})
		case host4, host6:
			return slices.ContainsFunc(t.Endpoints, func(a netip.AddrPort) bool { return slices.Equal(value, a.Addr().Unmap().AsSlice()) })
		}
		return false
	})
}

// forwarded judges a rule at the hook forward, for packets from the TUN device or to it. They have
// any addresses, protocols and ports.
func (t *Traffic) forwarded(rule []expr.Any) verdict {
	return read(rule, link, func(_ int, value []byte) bool {
		// nft(8) compares only the beginning for a name that ends in a star, and otherwise also the
		// zero behind it.
		name, whole := strings.CutSuffix(string(value), "\x00")
		name = strings.TrimRight(name, "\x00")
		return name == t.Device || !whole && strings.HasPrefix(t.Device, name)
	})
}

// Further fields of a packet that a rule may compare.
const (
	source = link + 1 + iota // port
	host4                    // destination
	host6
	from4 // source
	from6
	family // of the packet: any
)

// read judges a rule by its comparisons: fits reports whether the traffic, or a part of it, has a
// value in a field. A rule with anything else in it is indifferent if it drops, and may accept; so
// is one that compares another field than only, unless that is something.
func read(rule []expr.Any, only int, fits func(field int, value []byte) bool) verdict {
	field, certain := something, true
	for _, e := range rule {
		switch e := e.(type) {
		case *expr.Meta, *expr.Payload:
			field = fieldOf(e)
			continue
		case *expr.Cmp:
			switch {
			case field == family:
			case e.Op != expr.CmpOpEq || field == something || only != something && field != only:
				certain = false
			case !fits(field, e.Data):
				return indifferent
			}
		case *expr.Counter, *expr.Log:
		case *expr.Reject, *expr.Target:
			if certain && rejects(e) {
				return dropping
			}
			return indifferent
		case *expr.Verdict:
			switch {
			case e.Kind == expr.VerdictDrop && certain:
				return dropping
			case e.Kind == expr.VerdictAccept && !established(rule):
				return accepting
			}
			return indifferent
		default:
			certain = false
		}
		field = something
	}
	return indifferent
}

// rejects reports whether an expression ends with a refusal: that of nftables, or the target of
// iptables.
func rejects(e expr.Any) bool {
	target, ok := e.(*expr.Target)
	return !ok || target.Name == "REJECT"
}

// established reports whether a rule is about the state of connections: it accepts what belongs to
// one that began otherwise.
func established(rule []expr.Any) bool {
	return slices.ContainsFunc(rule, func(e expr.Any) bool {
		_, ct := e.(*expr.Ct)
		return ct
	})
}

// fieldOf returns what an expression loads for the next one to compare.
func fieldOf(e expr.Any) int {
	switch e := e.(type) {
	case *expr.Meta:
		switch e.Key {
		case expr.MetaKeyOIFNAME:
			return link
		case expr.MetaKeyNFPROTO, expr.MetaKeyPROTOCOL:
			return family
		}
	case *expr.Payload:
		switch {
		case e.Base == expr.PayloadBaseTransportHeader && e.Offset == 0 && e.Len == 2:
			return source
		case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 16 && e.Len == 4:
			return host4
		case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 24 && e.Len == 16:
			return host6
		case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 12 && e.Len == 4:
			return from4
		case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 8 && e.Len == 16:
			return from6
		}
	}
	return loads(e)
}
