package hostcheck

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Filter is a chain of nftables that keeps datagrams from our UDP port.
type Filter struct {
	Rule // what drops them, or gives them another destination
	// Certain: a rule about our port, or about peers, drops all datagrams to it, or all from a
	// peer, whoever has begun.
	Certain bool
	// Drops: a rule about the port drops or rejects datagrams to it, perhaps only some of them.
	Drops bool
	// Closed: what is not accepted is dropped, and no rule accepts datagrams to the port from
	// somebody who begins.
	Closed bool
	// Untracked is a rule because of which nobody's answers are accepted as such; nil: there is
	// none. Then Closed holds for all datagrams.
	Untracked *Rule
	never     bool // answers are dropped as well, by what is not about them
}

// families are those through which datagrams for this host pass, with their names in nft(8).
var families = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
}

// ReadFilters returns what of nftables, including iptables-nft, keeps datagrams from the port, at
// the hooks input and prerouting. The device of t does not matter. It needs CAP_NET_ADMIN. Rules of
// legacy iptables and of eBPF are not visible to it.
func ReadFilters(t Traffic) ([]Filter, error) {
	rules, err := newRuleset()
	if err != nil {
		return nil, err
	}
	answers, exempt, err := t.untracked(rules)
	if err != nil {
		return nil, err
	}
	var list []Filter
	for _, c := range rules.chains {
		family, known := families[c.Table.Family]
		if !known || hookOf(c) != "input" {
			continue
		}
		if c.Type == nftables.ChainTypeNAT && *c.Hooknum == *nftables.ChainHookPrerouting {
			redirects, err := t.redirects(rules, c)
			if err != nil {
				return nil, err
			}
			for _, r := range redirects {
				r.Table, r.manager = family+" "+c.Table.Name, managerOf(rules, c.Table)
				list = append(list, Filter{Rule: r})
			}
			continue
		}
		if c.Type != nftables.ChainTypeFilter {
			continue
		}
		f, err := t.filter(rules, c, answers)
		if err != nil {
			return nil, err
		}
		if f.Untracked = exempt; !f.never {
			f.Untracked = nil
		}
		if f.Certain || f.Drops || f.Closed {
			f.Hook, f.Table, f.Accept = "input", family+" "+c.Table.Name, fmt.Sprintf("udp dport %d", t.Port)
			f.manager = managerOf(rules, c.Table)
			list = append(list, f)
		}
	}
	return list, nil
}

// filter judges one chain at the hook input or prerouting, where answers have the given state.
func (t *Traffic) filter(rules *ruleset, c *nftables.Chain, answers uint32) (f Filter, err error) {
	take := func(by *dropper) { f.Chain, f.Handle = by.chain, by.handle }
	for _, p := range t.arriving(c.Table.Family) {
		begun, err := rules.base(c, &p)
		if err != nil {
			return f, err
		}
		if begun.certain() {
			p.state = answers
			answer, err := rules.base(c, &p)
			if err != nil {
				return f, err
			}
			switch by := begun.by.about; {
			case answer.certain() && (by[portField] || by[peerField]):
				f.Certain = true
				take(&begun.by)
				return f, nil
			case by[portField]:
				f.Drops = true
				take(&begun.by)
			case !f.Drops:
				f.Closed, f.never = true, answer.certain()
				take(&begun.by)
			}
			continue
		}
		if begun.against != nil && !f.Drops {
			f.Drops = true
			take(begun.against)
		}
	}
	return f, nil
}

// arriving are datagrams to our port from somebody who begins: from anywhere, and from each peer.
func (t *Traffic) arriving(family nftables.TableFamily) []packet {
	list := []packet{{proto: unix.IPPROTO_UDP, dport: t.Port, local: true, state: expr.CtStateBitNEW}}
	for _, a := range t.endpoints(family) {
		list = append(list, packet{proto: unix.IPPROTO_UDP, sport: a.Port(), dport: t.Port, src: a.Addr(), local: true, state: expr.CtStateBitNEW})
	}
	return list
}

// maxFollowed is how many endpoints of peers are followed through the rules.
const maxFollowed = 64

// endpoints are those whose datagrams pass the tables of a family.
func (t *Traffic) endpoints(family nftables.TableFamily) (list []netip.AddrPort) {
	for _, a := range t.Endpoints {
		addr := a.Addr().Unmap()
		if len(list) < maxFollowed && addr.IsValid() && (family == nftables.TableFamilyINet || addr.Is6() == (family == nftables.TableFamilyIPv6)) {
			list = append(list, netip.AddrPortFrom(addr, a.Port()))
		}
	}
	return list
}

// firewall finds what keeps datagrams from our port. While a peer is up, only rules count that
// certainly drop those of peers: others may let them pass.
func (t *Tunnel) firewall() []Finding {
	var list []Finding
	for _, f := range t.Filters {
		var how string
		switch {
		case f.Untracked != nil:
			how = fmt.Sprintf("a rule takes the datagrams of UDP port %d out of connection tracking (%v), so the firewall of this host, "+
				"which accepts answers only, drops what peers send", t.Port, *f.Untracked)
		case f.Certain:
			how = fmt.Sprintf("a rule of the firewall of this host drops the datagrams of peers to UDP port %d", t.Port)
		case t.SomeUp:
			continue
		case f.Hook == "nat":
			list = append(list, Finding{
				Kind: Firewall, Subject: f.Table + " " + f.Chain,
				Message: fmt.Sprintf("no peer is up, and a rule of the firewall of this host gives datagrams to UDP port %d another destination (%v)", t.Port, f.Rule),
				Remedy:  f.Remedy(),
			})
			continue
		case f.Drops:
			how = fmt.Sprintf("no peer is up, and a rule of the firewall of this host drops datagrams to UDP port %d", t.Port)
		default:
			how = fmt.Sprintf("no peer is up, and the firewall of this host accepts nothing for UDP port %d by a rule of its own "+
				"and drops the rest", t.Port)
		}
		// One command is for both tables of ufw.
		if f.managed() != "" && slices.ContainsFunc(list, func(x Finding) bool { return x.Remedy == f.admit() }) {
			continue
		}
		list = append(list, Finding{
			Kind: Firewall, Subject: f.Table + " " + f.Chain,
			Message: fmt.Sprintf("%s (nftables: table %s, chain %s)", how, f.Table, f.Chain),
			Remedy:  f.admit(),
		})
	}
	return list
}
