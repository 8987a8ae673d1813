package hostcheck

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// ReadMuted returns the rules that drop the ICMP messages by which this host tells the hosts of its
// networks that a packet is too long for the tunnel, unless the MSS of TCP is lowered in what is
// forwarded. It needs CAP_NET_ADMIN.
func (t *Tunnel) ReadMuted(h Host) ([]Rule, error) {
	rules, err := newRuleset()
	if err != nil {
		return nil, err
	}
	var list []Rule
	for _, c := range rules.chains {
		if _, known := families[c.Table.Family]; !known || hookOf(c) != "output" || c.Type != nftables.ChainTypeFilter {
			continue
		}
		found, err := t.mutes(rules, c, h)
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	if len(list) == 0 {
		return nil, nil
	}
	if clamped, err := rules.clamps(); clamped || err != nil {
		return nil, err
	}
	return list, nil
}

// mutes returns the rules of one chain that drop such messages.
func (t *Tunnel) mutes(rules *ruleset, c *nftables.Chain, h Host) (list []Rule, err error) {
	for _, v6 := range []bool{false, true} {
		if v6 && c.Table.Family == nftables.TableFamilyIPv4 || !v6 && c.Table.Family == nftables.TableFamilyIPv6 {
			continue
		}
		proto, message, words := errorsOf(v6)
		for _, lan := range t.servedBy(h, v6) {
			p := packet{proto: proto, icmp: message, out: lan.Name, state: expr.CtStateBitRELATED}
			if p.src = netip.IPv4Unspecified(); v6 {
				p.src = netip.IPv6Unspecified()
			}
			f, err := rules.base(c, &p)
			if err != nil {
				return nil, err
			}
			if f.certain() {
				list = append(list, Rule{
					Hook: "output", Table: families[c.Table.Family] + " " + c.Table.Name, Chain: f.by.chain, Handle: f.by.handle, Accept: words,
				})
				break // one network is enough to name it
			}
		}
	}
	return list, nil
}

// clamps reports whether a rule lowers the MSS of TCP connections.
func (s *ruleset) clamps() (bool, error) {
	for _, c := range s.chains {
		in, err := s.in(c.Table, c.Name)
		if err != nil {
			return false, err
		}
		for _, r := range in {
			for _, e := range r.Exprs {
				switch e := e.(type) {
				case *expr.Exthdr:
					if e.Op == expr.ExthdrOpTcpopt && e.SourceRegister != 0 {
						return true, nil
					}
				case *expr.Target:
					if e.Name == "TCPMSS" {
						return true, nil
					}
				}
			}
		}
	}
	return false, nil
}

// muted finds firewalls that keep the hosts of a gateway's networks from learning how long packets
// may be.
func (t *Tunnel) muted() (list []Finding) {
	for _, r := range t.Muted {
		list = append(list, Finding{
			Kind: Forwarding, Subject: r.Table + " " + r.Chain + " " + r.Accept,
			Message: fmt.Sprintf("the firewall of this host drops the ICMP messages that tell hosts how long packets may be for %s "+
				"(%v): large transfers of hosts behind this one hang", t.Device, r),
			Remedy: fmt.Sprintf("nft insert rule %s %s %s accept, also in what loads the rules at boot; for TCP alone it is enough to lower "+
				"the MSS in what is forwarded: tcp flags syn tcp option maxseg size set rt mtu", r.Table, r.Chain, r.Accept),
		})
	}
	return list
}

// unknown is what a match or target of iptables has that the library does not decode.
func unknown(info xt.InfoAny) []byte {
	if raw, ok := info.(*xt.Unknown); ok {
		return *raw
	}
	return nil
}

// message compares the type and the code of an ICMP message with a match of iptables (struct
// ipt_icmp and ip6t_icmp: type, least and greatest code, and whether the result is inverted).
func (p *packet) message(e *expr.Match) truth {
	const anyType = 0xff
	info := unknown(e.Info)
	if p.icmp == nil || len(info) < 4 {
		return maybe
	}
	is := info[0] == p.icmp[0] && info[1] <= p.icmp[1] && p.icmp[1] <= info[2]
	return met((is || info[0] == anyType && e.Name == "icmp") != (info[3] != 0))
}
