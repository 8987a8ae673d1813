package firewall

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// nat queues the chain that translates the addresses of what a device brings and another carries
// on, and returns the number of its rules: one for IPv4, and one for IPv6 that spares public
// addresses (2000::/3, RFC 4291 §2.4), to which answers find their way without. Matching the
// incoming device in this hook takes Linux 5.7.
func (fw *Firewall) nat(t *nftables.Table, dev string) (rules int) {
	chain := fw.conn.AddChain(&nftables.Chain{
		Name: natChain, Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, dev)
	from := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register}, equals(name),
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: name},
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register},
	}
	private := []expr.Any{ // ip6 saddr & e000:: != 2000::
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 1},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{0xe0}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: []byte{0x20}},
	}
	for _, match := range [][]expr.Any{
		{equals([]byte{unix.NFPROTO_IPV4})},
		append([]expr.Any{equals([]byte{unix.NFPROTO_IPV6})}, private...),
	} {
		exprs := append(append([]expr.Any{}, from...), match...)
		fw.conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(exprs, &expr.Masq{})})
		rules++
	}
	return rules
}
