package hostcheck

import (
	"fmt"
	"net/netip"
	"slices"

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
	// Policy: nothing is against these packets in particular. What no rule accepts is dropped, by
	// the policy of the chain or by a last rule.
	Policy  bool
	manager manager
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
	if command := r.managed(); command != "" {
		return command
	}
	text := fmt.Sprintf("nft insert rule %s %s %s accept", r.Table, r.Chain, r.Accept)
	if r.Back != "" {
		text += fmt.Sprintf("; nft insert rule %s %s %s accept", r.Table, r.Chain, r.Back)
	}
	if r.Handle != 0 && !r.Policy {
		text += fmt.Sprintf(", or: nft delete rule %s %s handle %d", r.Table, r.Chain, r.Handle)
	}
	return text + "; also in what loads the rules at boot"
}

// admit returns the command that lets datagrams reach our port, in short.
func (r Rule) admit() string {
	if command := r.managed(); command != "" {
		return "accept it: " + command
	}
	return fmt.Sprintf("accept it (nft insert rule %s %s %s accept), also in what loads the rules at boot", r.Table, r.Chain, r.Accept)
}

// Traffic is what the packets of an instance look like to a firewall.
type Traffic struct {
	Port      uint16           // our UDP port
	Endpoints []netip.AddrPort // of peers
	// Device is the TUN device if packets are to be forwarded between it and others; "": none.
	Device string
	// bridged: Device is a bridge, and packets are to pass between its ports.
	bridged bool
}

// ReadRules returns the rules that drop the traffic, or lead what is for our port elsewhere, as far
// as they are certain to: conditions that are not understood here may be met or not. It needs
// CAP_NET_ADMIN. Rules of legacy iptables and of eBPF are not visible to it.
func ReadRules(t Traffic) ([]Rule, error) { return readRules(t, false) }

// ReadForward returns the rules that drop what is to be forwarded between the TUN device and
// others, with the same limits.
func ReadForward(device string) ([]Rule, error) { return readRules(Traffic{Device: device}, true) }

func readRules(t Traffic, forwardOnly bool) ([]Rule, error) {
	rules, err := newRuleset()
	if err != nil {
		return nil, err
	}
	var list []Rule
	for _, c := range rules.chains {
		family, known := families[c.Table.Family]
		hook := hookOf(c)
		if !known || hook == "" || forwardOnly && hook != "forward" || hook == "forward" && t.Device == "" {
			continue
		}
		var found []Rule
		switch c.Type {
		case nftables.ChainTypeFilter:
			found, err = t.drops(rules, c, hook)
		case nftables.ChainTypeNAT:
			if *c.Hooknum == *nftables.ChainHookPrerouting {
				found, err = t.redirects(rules, c)
			}
		}
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			r.Table, r.manager = family+" "+c.Table.Name, managerOf(rules, c.Table)
			list = append(list, r)
		}
	}
	return list, nil
}

// hookOf names the hook of a chain; "": none, or one that our packets do not pass.
func hookOf(c *nftables.Chain) string {
	if c.Hooknum == nil {
		return ""
	}
	switch *c.Hooknum {
	case *nftables.ChainHookInput, *nftables.ChainHookPrerouting:
		return "input"
	case *nftables.ChainHookOutput, *nftables.ChainHookPostrouting:
		return "output"
	case *nftables.ChainHookForward:
		return "forward"
	}
	return ""
}

// drops returns what drops the traffic in one chain.
func (t *Traffic) drops(rules *ruleset, c *nftables.Chain, hook string) (list []Rule, err error) {
	r := Rule{Hook: hook}
	var kinds [][]packet // of a kind that is dropped, every packet is
	switch hook {
	case "input":
		r.Accept, kinds = fmt.Sprintf("udp dport %d", t.Port), each(t.arriving(c.Table.Family))
	case "output":
		r.Accept, kinds = fmt.Sprintf("udp sport %d", t.Port), each(t.leaving(c.Table.Family))
	case "forward":
		r.Accept, r.Back = fmt.Sprintf("iifname %q", t.Device), fmt.Sprintf("oifname %q", t.Device)
		kinds = [][]packet{forwarded(packet{in: t.Device}), forwarded(packet{out: t.Device})}
		if t.bridged {
			r.Accept, r.Back = fmt.Sprintf("iifname %q oifname %q", t.Device, t.Device), ""
			kinds = [][]packet{forwarded(packet{in: t.Device, out: t.Device})}
		}
	}
	general := 0 // kinds that are dropped by what is not about them
	for _, kind := range kinds {
		by, err := rules.dropsAll(c, kind)
		if err != nil {
			return nil, err
		}
		if by == nil {
			continue
		}
		if r.Policy = !by.about[portField] && !by.about[peerField] && !(hook == "forward" && by.about[linkField]); r.Policy {
			general++
		}
		r.Chain, r.Handle = by.chain, by.handle
		same := func(x Rule) bool { return x.Chain == r.Chain && x.Handle == r.Handle }
		// One direction alone may be meant to be closed to those who begin.
		if hook == "forward" && r.Policy && general < len(kinds) || slices.ContainsFunc(list, same) {
			continue
		}
		list = append(list, r)
	}
	return list, nil
}

// dropsAll returns what drops the first of the packets, if all of them certainly are dropped; nil
// otherwise.
func (s *ruleset) dropsAll(c *nftables.Chain, packets []packet) (by *dropper, err error) {
	for i := range packets {
		f, err := s.base(c, &packets[i])
		if err != nil || !f.certain() {
			return nil, err
		}
		if by == nil {
			by = &f.by
		}
	}
	return by, nil
}

// each makes every packet a kind of its own.
func each(packets []packet) [][]packet {
	var list [][]packet
	for _, p := range packets {
		list = append(list, []packet{p})
	}
	return list
}

// forwarded are packets of those who begin, in one direction. That echo requests pass says nothing
// about the rest, so they are not among them.
func forwarded(p packet) []packet {
	p.state = expr.CtStateBitNEW
	tcp, udp := p, p
	tcp.proto, udp.proto = unix.IPPROTO_TCP, unix.IPPROTO_UDP
	return []packet{tcp, udp}
}

// leaving are datagrams from our port to peers.
func (t *Traffic) leaving(family nftables.TableFamily) []packet {
	var list []packet
	for _, a := range t.endpoints(family) {
		list = append(list, packet{proto: unix.IPPROTO_UDP, sport: t.Port, dport: a.Port(), dst: a.Addr(), state: expr.CtStateBitNEW})
	}
	if list == nil {
		list = []packet{{proto: unix.IPPROTO_UDP, sport: t.Port, state: expr.CtStateBitNEW}}
	}
	return list
}
