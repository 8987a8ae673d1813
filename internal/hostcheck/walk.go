package hostcheck

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// fate is what may become of a packet in a chain.
type fate struct {
	accepted bool // perhaps
	dropped  bool // perhaps
	passed   bool // perhaps it comes to the end of the chain, and nothing was decided
	// by is the rule that drops it, or that does so last where several may; by.handle is 0 for the
	// policy of the chain.
	by dropper
	// against is a rule about our port that may drop the packet; nil: there is none.
	against *dropper
}

// dropper is a rule that drops packets, or the policy of a chain.
type dropper struct {
	chain  string
	handle uint64
	about  map[field]bool // what it is about, where the packet is known to be so
}

// certain reports whether the packet is dropped in any case.
func (f *fate) certain() bool { return f.dropped && !f.accepted && !f.passed }

// walk follows one packet through the chains of a table.
type walk struct {
	rules *ruleset
	table *nftables.Table
	p     *packet
	known map[path]*fate // in chains; nil: it is on its way through that one
}

// path is how a packet that is forwarded comes into a chain.
type path struct {
	chain string
	named bool // by a condition that names the known link
	other bool // by one that names another link, which may be the other end
}

// counts reports whether what is accepted on the path, by a rule, concerns the packet. What rules
// for other links accept says nothing about the one that is known.
func (w *walk) counts(at path, j *judgement) bool {
	return w.p.in == "" && w.p.out == "" || !at.other && !j.other || at.named || j.about[linkField]
}

// base follows a packet through a chain at a hook, which has a policy.
func (s *ruleset) base(c *nftables.Chain, p *packet) (fate, error) {
	w := walk{s, c.Table, p, make(map[path]*fate)}
	f, err := w.through(path{chain: c.Name})
	if err != nil || !f.passed {
		return f, err
	}
	f.passed = false
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		f.dropped, f.by = true, dropper{chain: c.Name}
	} else {
		f.accepted = true
	}
	return f, nil
}

// through follows the packet through a chain and those that it calls.
func (w *walk) through(at path) (f fate, err error) {
	if f, ok := w.known[at]; ok {
		if f == nil { // the kernel refuses chains that call each other in a circle
			return fate{accepted: true, passed: true}, nil
		}
		return *f, nil
	}
	w.known[at] = nil
	defer func() { w.known[at] = &f }()
	rules, err := w.rules.in(w.table, at.chain)
	if err != nil {
		return f, err
	}
	for _, r := range rules {
		j, err := w.rules.judge(w.table, r.Exprs, w.p)
		if err != nil {
			return f, err
		}
		if j.fits == no {
			continue
		}
		for _, v := range j.verdicts {
			ends, err := w.end(&f, v, at, &j, r.Handle)
			if err != nil {
				return f, err
			}
			if ends && j.fits == yes && len(j.verdicts) == 1 {
				return f, nil
			}
		}
	}
	f.passed = true
	return f, nil
}

// end adds a verdict of a rule to the fate of the packet in a chain, and reports whether nothing
// after that rule matters to a packet that it fits.
func (w *walk) end(f *fate, v expr.Verdict, at path, j *judgement, handle uint64) (ends bool, err error) {
	switch v.Kind {
	case expr.VerdictAccept, expr.VerdictStolen, expr.VerdictQueue, expr.VerdictRepeat, expr.VerdictStop:
		f.accepted = f.accepted || w.counts(at, j)
		return true, nil
	case expr.VerdictDrop:
		by := dropper{at.chain, handle, j.about}
		f.dropped, f.by = true, by
		if by.about[portField] && !j.rated {
			f.against = &by
		}
		return true, nil
	case expr.VerdictReturn:
		f.passed = true
		return true, nil
	case expr.VerdictJump, expr.VerdictGoto:
		sub, err := w.through(path{v.Chain, at.named || j.about[linkField], at.other || j.other})
		if err != nil {
			return false, err
		}
		f.accepted = f.accepted || sub.accepted
		if sub.dropped {
			f.dropped, f.by = true, sub.by
		}
		if sub.against != nil {
			f.against = sub.against
		}
		if v.Kind == expr.VerdictGoto { // the end of that chain is the end of this one
			f.passed = f.passed || sub.passed
			return true, nil
		}
		return !sub.passed, nil
	}
	return false, nil
}

// judgement is what one rule does with a packet.
type judgement struct {
	fits     truth
	verdicts []expr.Verdict // one of these, where it fits; empty: none
	about    map[field]bool
	other    bool // it names a link that may be the one that is not known
	rated    bool // it is about how many packets there are
	natted   bool // it gives the packet another destination
	hides    bool // it gives the packet another source address
	// It takes the packet out of connection tracking.
	untracked bool
}

// judge reads the conditions of a rule one after the other. What is not understood here may be met.
func (s *ruleset) judge(t *nftables.Table, rule []expr.Any, p *packet) (j judgement, err error) {
	j = judgement{fits: yes, about: make(map[field]bool)}
	registers := make(map[uint32]value)
	condition := func(v value, is truth, named bool) {
		if is == maybe && v.of == linkField {
			j.other = true
			if p.anyLink {
				is = yes
			}
		}
		if is == yes && named && !v.masked {
			j.about[v.of] = true
		}
		j.fits = min(j.fits, is)
	}
	for _, e := range rule {
		if r, v, ok := p.loads(e, t.Family); ok {
			registers[register(r)] = v
			continue
		}
		switch e := e.(type) {
		case *expr.Bitwise:
			registers[register(e.DestRegister)] = registers[register(e.SourceRegister)].and(e)
		case *expr.Cmp:
			v := registers[register(e.Register)]
			condition(v, v.compare(e.Op, e.Data), e.Op != expr.CmpOpNeq)
		case *expr.Range:
			v := registers[register(e.Register)]
			is := min(v.compare(expr.CmpOpGte, e.FromData), v.compare(expr.CmpOpLte, e.ToData))
			if e.Op == expr.CmpOpNeq {
				is = is.not()
			}
			condition(v, is, e.Op != expr.CmpOpNeq)
		case *expr.Lookup:
			v := registers[register(e.SourceRegister)]
			is, err := s.lookup(t, e, v, &j)
			if err != nil {
				return j, err
			}
			condition(v, is, !e.Invert)
			if e.IsDestRegSet && e.DestRegister != 0 {
				registers[register(e.DestRegister)] = value{}
			}
		case *expr.Match:
			field, is := p.matches(e)
			condition(value{of: field}, is, true)
			j.rated = j.rated || e.Name == "limit" || e.Name == "hashlimit" || e.Name == "connlimit" || e.Name == "recent"
		case *expr.Limit, *expr.Quota, *expr.Connlimit, *expr.Dynset:
			condition(value{}, maybe, false)
			j.rated = true
		case *expr.Verdict:
			j.verdicts = append(j.verdicts, *e)
		case *expr.Reject, *expr.SynProxy:
			j.verdicts = append(j.verdicts, expr.Verdict{Kind: expr.VerdictDrop})
		case *expr.Queue:
			j.verdicts = append(j.verdicts, expr.Verdict{Kind: expr.VerdictQueue})
		case *expr.NAT:
			j.natted, j.hides = e.Type == expr.NATTypeDestNAT, e.Type == expr.NATTypeSourceNAT
		case *expr.Notrack:
			j.untracked = true
		case *expr.Masq:
			j.hides = true
		case *expr.Redir:
			j.natted = true
		case *expr.Target:
			j.target(e)
		}
	}
	return j, nil
}

// lookup looks for a value in a set, or takes verdicts out of a map.
func (s *ruleset) lookup(t *nftables.Table, e *expr.Lookup, v value, j *judgement) (is truth, err error) {
	set, err := s.elements(t, e.SetName)
	if err != nil {
		return maybe, err
	}
	found, is := v.among(set)
	if e.Invert {
		return is.not(), nil
	}
	if e.IsDestRegSet && e.DestRegister == 0 {
		for _, x := range found {
			if verdict, ok := verdictOf(x.Val); ok {
				j.verdicts = append(j.verdicts, verdict)
			}
		}
	}
	return is, nil
}

// register gives one number to the two that the first register of each four has.
func register(n uint32) uint32 {
	const first, words = 8, 4 // NFT_REG32_00, and how many of these are in NFT_REG_1
	if n >= first && (n-first)%words == 0 {
		return 1 + (n-first)/words
	}
	return n
}

// target reads what a rule of iptables does. Most targets change the packet or write it down.
func (j *judgement) target(e *expr.Target) {
	j.untracked = j.untracked || notracks(e)
	switch e.Name {
	case "REJECT":
		j.verdicts = append(j.verdicts, expr.Verdict{Kind: expr.VerdictDrop})
	case "NFQUEUE", "TPROXY":
		j.verdicts = append(j.verdicts, expr.Verdict{Kind: expr.VerdictQueue})
	case "DNAT", "REDIRECT":
		j.natted = true
	case "SNAT", "MASQUERADE":
		j.hides = true
	}
}

// matches reads a condition of iptables.
func (p *packet) matches(e *expr.Match) (about field, is truth) {
	switch info := e.Info.(type) {
	case *xt.Comment:
		return otherField, yes
	case *xt.Udp:
		return p.ports(info)
	case *xt.Tcp:
		if p.proto != 0 && p.proto != unix.IPPROTO_TCP {
			return otherField, no
		}
	case *xt.AddrTypeV1:
		const local = 1 << 2 // XT_ADDRTYPE_LOCAL
		if p.local && info.Source == 0 && info.Flags == 0 {
			return otherField, met(info.Dest&local != 0)
		}
	case *xt.ConntrackMtinfo3:
		return otherField, p.tracked(&info.ConntrackMtinfo2)
	case *xt.ConntrackMtinfo2:
		return otherField, p.tracked(info)
	}
	if e.Name == "icmp" || e.Name == "icmp6" {
		if p.proto != 0 && p.icmp == nil {
			return otherField, no
		}
		return otherField, p.message(e)
	}
	return otherField, maybe
}

// tracked compares the state of the connection, where that is all that is compared. The bits are
// those of nftables.
func (p *packet) tracked(info *xt.ConntrackMtinfo2) truth {
	flags := xt.ConntrackFlags(info.MatchFlags)
	if flags&^(xt.ConntrackState|xt.ConntrackStateAlias) != 0 || flags == 0 {
		return maybe
	}
	is := met(uint32(info.StateMask)&p.state != 0)
	if xt.ConntrackFlags(info.InvertFlags)&xt.ConntrackState != 0 {
		return is.not()
	}
	return is
}

// ports compares the ports with ranges, of which that of all ports says nothing.
func (p *packet) ports(info *xt.Udp) (about field, is truth) {
	if p.proto != unix.IPPROTO_UDP {
		return otherField, met(p.proto == 0).not() // that of UDP itself is a condition of its own
	}
	is = yes
	one := func(port uint16, between [2]uint16, invert bool, of field) {
		switch {
		case between == [2]uint16{0, 0xffff} && !invert:
		case port == 0:
			is = min(is, maybe)
		default:
			is = min(is, met((between[0] <= port && port <= between[1]) != invert))
			about = of
		}
	}
	own, peer := portField, peerField
	if !p.local {
		own, peer = peer, own
	}
	one(p.sport, info.SrcPorts, info.InvFlags&xt.UdpInvSrcPorts != 0, peer)
	one(p.dport, info.DstPorts, info.InvFlags&xt.UdpInvDestPorts != 0, own)
	return about, is
}
