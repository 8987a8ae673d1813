package hostcheck

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// table is one of the family inet with the rules of its chains, which nobody asks the kernel for.
func table(chains map[string][][]expr.Any) (*ruleset, *nftables.Table) {
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: "fw"}
	s := &ruleset{rules: make(map[place][]*nftables.Rule), sets: make(map[place][]nftables.SetElement)}
	for name, rules := range chains {
		list := make([]*nftables.Rule, len(rules))
		for i, exprs := range rules {
			list[i] = &nftables.Rule{Handle: uint64(i + 1), Exprs: exprs}
		}
		s.rules[place{t.Family, t.Name, name}] = list
	}
	return s, t
}

// Conditions and verdicts, as nft(8) makes them.
var (
	dropIt   = &expr.Verdict{Kind: expr.VerdictDrop}
	acceptIt = &expr.Verdict{Kind: expr.VerdictAccept}
)

func l4(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Register: 1, Data: []byte{proto}}}
}

func dport(n uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Register: 1, Data: binary.BigEndian.AppendUint16(nil, n)},
	}
}

func iifname(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Register: 1, Data: append([]byte(name), 0)}}
}

func saddr(a string) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Cmp{Register: 1, Data: netip.MustParseAddr(a).AsSlice()},
	}
}

func ctState(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func rule(parts ...any) (all []expr.Any) {
	for _, p := range parts {
		if list, ok := p.([]expr.Any); ok {
			all = append(all, list...)
		} else {
			all = append(all, p.(expr.Any))
		}
	}
	return all
}

const (
	udpProto = 17
	tcpProto = 6
	ourPort  = 51820
)

// What single rules of a chain whose policy is drop do with a datagram to our port from somebody
// who begins.
func TestRuleset_whatARuleDoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name              string
		rule              []expr.Any
		accepted, against bool // perhaps accepted; a rule about our port may drop it
	}{
		{"udp dport 51820 drop", rule(l4(udpProto), dport(ourPort), dropIt), false, true},
		{"udp dport 51820 counter reject", rule(l4(udpProto), dport(ourPort), &expr.Counter{}, &expr.Reject{}), false, true},
		{"udp dport 51820 accept", rule(l4(udpProto), dport(ourPort), acceptIt), true, false},
		{"udp dport 51820 from somebody drop", rule(saddr("192.0.2.9"), l4(udpProto), dport(ourPort), dropIt), false, true},
		{"udp dport 51820 at a rate drop", rule(l4(udpProto), dport(ourPort), &expr.Limit{Over: true}, dropIt), false, false},
		{"tcp dport 51820 drop", rule(l4(tcpProto), dport(ourPort), dropIt), false, false},
		{"udp dport 53 accept", rule(l4(udpProto), dport(53), acceptIt), false, false},
		{"udp dport 53 drop", rule(l4(udpProto), dport(53), dropIt), false, false},
		{"iifname lo accept", rule(iifname("lo"), acceptIt), false, false},
		{"iifname wan accept", rule(iifname("wan"), acceptIt), true, false},
		{"ct state established accept", rule(ctState(expr.CtStateBitESTABLISHED), acceptIt), false, false},
		{"ct state new accept", rule(ctState(expr.CtStateBitNEW), acceptIt), true, false},
		{"accept", rule(acceptIt), true, false},
		{"drop", rule(dropIt), false, false},
		{"a condition that is not understood", rule(&expr.Match{Name: "recent"}, acceptIt), true, false},
		{"queue", rule(&expr.Queue{}), true, false},
	} {
		s, fw := table(map[string][][]expr.Any{"in": {c.rule}})
		policy := nftables.ChainPolicyDrop
		p := packet{proto: unix.IPPROTO_UDP, dport: ourPort, local: true, state: expr.CtStateBitNEW}
		f, err := s.base(&nftables.Chain{Name: "in", Table: fw, Policy: &policy}, &p)
		if err != nil || f.accepted != c.accepted || f.certain() == c.accepted || (f.against != nil) != c.against {
			t.Errorf("%s: %+v, %v", c.name, f, err)
		}
	}
}

// What an earlier rule accepts, itself or by another chain, is not dropped by a later one.
func TestRuleset_followsChains(t *testing.T) {
	t.Parallel()
	call := func(kind expr.VerdictKind) []expr.Any { return rule(&expr.Verdict{Kind: kind, Chain: "sub"}) }
	against := rule(l4(udpProto), dport(ourPort), dropIt)
	for _, c := range []struct {
		name    string
		in, sub [][]expr.Any
		by      string // the chain that certainly drops it; "": perhaps none
		handle  uint64
	}{
		{"in the chain itself", [][]expr.Any{against}, nil, "in", 1},
		{"in a chain that is called", [][]expr.Any{call(expr.VerdictJump)}, [][]expr.Any{against}, "sub", 1},
		{"accepted before", [][]expr.Any{rule(acceptIt), against}, nil, "", 0},
		{"accepted in a chain that is called before", [][]expr.Any{call(expr.VerdictJump), against}, [][]expr.Any{rule(acceptIt)}, "", 0},
		{"others are accepted in that chain", [][]expr.Any{call(expr.VerdictJump), against}, [][]expr.Any{rule(l4(tcpProto), acceptIt)}, "in", 2},
		{"that chain returns", [][]expr.Any{call(expr.VerdictJump), rule(dropIt)},
			[][]expr.Any{rule(&expr.Verdict{Kind: expr.VerdictReturn}), rule(acceptIt)}, "in", 2},
		{"goto does not come back", [][]expr.Any{call(expr.VerdictGoto), against}, nil, "", 0},
		{"a chain that may be called", [][]expr.Any{rule(iifname("wan"), &expr.Verdict{Kind: expr.VerdictJump, Chain: "sub"}), rule(dropIt)},
			[][]expr.Any{rule(acceptIt)}, "", 0},
		{"a chain without end", [][]expr.Any{call(expr.VerdictJump), against}, [][]expr.Any{call(expr.VerdictJump)}, "", 0},
	} {
		s, fw := table(map[string][][]expr.Any{"in": c.in, "sub": c.sub})
		p := packet{proto: unix.IPPROTO_UDP, dport: ourPort, local: true, state: expr.CtStateBitNEW}
		f, err := s.base(&nftables.Chain{Name: "in", Table: fw}, &p)
		if err != nil || f.certain() != (c.by != "") || f.certain() && (f.by.chain != c.by || f.by.handle != c.handle) {
			t.Errorf("%s: %+v, %v", c.name, f, err)
		}
	}
}

func TestValue_among(t *testing.T) {
	t.Parallel()
	port := func(n uint16, end bool) nftables.SetElement {
		return nftables.SetElement{Key: binary.BigEndian.AppendUint16(nil, n), IntervalEnd: end}
	}
	known := value{data: binary.BigEndian.AppendUint16(nil, ourPort)}
	for _, c := range []struct {
		name string
		v    value
		set  []nftables.SetElement
		want truth
	}{
		{"it is there", known, []nftables.SetElement{port(53, false), port(ourPort, false)}, yes},
		{"it is not", known, []nftables.SetElement{port(53, false)}, no},
		{"the set is empty", value{}, nil, no},
		{"nobody knows", value{}, []nftables.SetElement{port(53, false)}, maybe},
		{"in an interval", known, []nftables.SetElement{port(60000, true), port(51000, false), port(0, true)}, yes},
		{"behind an interval", known, []nftables.SetElement{port(51820, true), port(51000, false), port(0, true)}, no},
		{"before an interval", known, []nftables.SetElement{port(60001, true), port(60000, false), port(0, true)}, no},
		{"several fields", known, []nftables.SetElement{{Key: make([]byte, 8)}}, maybe},
		{"a range", known, []nftables.SetElement{{Key: port(51000, false).Key, KeyEnd: port(52000, false).Key}}, yes},
		{"any link", value{notLoop: true}, []nftables.SetElement{{Key: []byte("lo\x00")}}, no},
	} {
		if _, got := c.v.among(c.set); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
