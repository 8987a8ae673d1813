package hostcheck

import (
	"testing"

	"github.com/google/nftables/expr"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	l4 := func(proto byte) []expr.Any {
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Register: 1, Data: []byte{proto}}}
	}
	port := func(hi, lo byte) []expr.Any {
		return []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Register: 1, Data: []byte{hi, lo}},
		}
	}
	link := func(name string) []expr.Any {
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Register: 1, Data: append([]byte(name), 0)}}
	}
	drop, accept := &expr.Verdict{Kind: expr.VerdictDrop}, &expr.Verdict{Kind: expr.VerdictAccept}
	rule := func(parts ...any) (all []expr.Any) {
		for _, p := range parts {
			if list, ok := p.([]expr.Any); ok {
				all = append(all, list...)
			} else {
				all = append(all, p.(expr.Any))
			}
		}
		return all
	}
	const udp, tcp = 17, 6
	for _, c := range []struct {
		name         string
		rule         []expr.Any
		about, drops bool
	}{
		{"udp dport 51820 drop", rule(l4(udp), port(0xca, 0x6c), drop), true, true},
		{"udp dport 51820 counter reject", rule(l4(udp), port(0xca, 0x6c), &expr.Counter{}, &expr.Reject{}), true, true},
		{"udp dport 51820 accept", rule(l4(udp), port(0xca, 0x6c), accept), true, false},
		{"tcp dport 51820 drop", rule(l4(tcp), port(0xca, 0x6c), drop), false, false},
		{"udp dport 53 accept", rule(l4(udp), port(0, 53), accept), false, false},
		{"udp dport 53 drop", rule(l4(udp), port(0, 53), drop), false, false},
		{"iifname lo accept", rule(link("lo"), accept), false, false},
		{"iifname wan accept", rule(link("wan"), accept), true, false},
		{"ct state established accept", rule(&expr.Ct{Key: expr.CtKeySTATE}, &expr.Cmp{Op: expr.CmpOpNeq}, accept), false, false},
		{"accept", rule(accept), true, false},
		{"drop", rule(drop), false, false},
	} {
		if about, drops := judge(c.rule, 51820); about != c.about || drops != c.drops {
			t.Errorf("%s: about %v, drops %v; want %v, %v", c.name, about, drops, c.about, c.drops)
		}
	}
}

// What an earlier rule may accept, itself or by another chain, is not certainly dropped.
func TestAccepts(t *testing.T) {
	t.Parallel()
	for kind, want := range map[expr.VerdictKind]bool{
		expr.VerdictAccept: true, expr.VerdictJump: true, expr.VerdictGoto: true, expr.VerdictDrop: false, expr.VerdictReturn: false,
	} {
		if got := accepts([]expr.Any{&expr.Counter{}, &expr.Verdict{Kind: kind}}); got != want {
			t.Errorf("verdict %d: %t, want %t", kind, got, want)
		}
	}
}
