// Package firewall keeps the nftables table of an instance. For a full tunnel it holds rules that
// drop packets to the tunnel's addresses from other interfaces, and rules that give the mark of our
// datagrams to their answers; for an exit, the rule that translates addresses. Empty chains note
// which kernel settings the instance uses, and which it has to restore. The package knows nothing
// of routes, and touches no table but those of tund.
//
// A Firewall belongs to one goroutine at a time. Sources: nft(8), linux/netfilter/nf_tables.h.
package firewall

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	nlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Chains of our table.
const (
	natChain   = "nat"       // translates addresses of packets that leave an exit
	guardChain = "guard"     // drops packets to tunnel addresses that arrive elsewhere
	saveChain  = "save_mark" // keeps our packets' mark with their connection …
	loadChain  = "load_mark" // … and gives it to the answers, for src_valid_mark

	// digestChain starts the name of an empty chain that says what the others hold: the digest, "_"
	// and the number of rules in guardChain follow.
	digestChain = "digest_"
)

// register is where every expression loads its value and the next one compares it.
const register = unix.NFT_REG_1

// timeout bounds one exchange with the kernel, which answers at once unless an answer is lost.
const timeout = 10 * time.Second

// tablePrefix starts the names of all tables of ours.
const tablePrefix = "tund-"

// TableName returns the name of the instance's table.
func TableName(instance string) string { return tablePrefix + instance }

// Beginnings of the names of empty chains that note something about a setting.
const (
	restorePrefix = "restore_" // it was off before us
	usesPrefix    = "uses_"    // the instance needs it
)

// RestoreChain returns the name of the empty chain that says that a setting was off before us.
func RestoreChain(setting string) string { return restorePrefix + setting }

// Table is what the table of an instance is to hold.
type Table struct {
	Mark    uint32 // of a full tunnel's datagrams; 0: no full tunnel
	Protect string // sorted "device address" lines
	// Device whose packets get the address of the device by which they leave; "": none.
	Masquerade string
	Uses       []string // settings that the instance needs
	Restore    []string // settings that were off before us
}

// Digest identifies the contents of the chains. It is kept in the kernel as the name of a chain,
// because reading rules back and comparing them expression by expression would take a second
// compiler.
func (t Table) Digest() string {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %s", t.Mark, t.Protect)
	if t.Masquerade != "" {
		_, _ = fmt.Fprintf(h, " masquerade %s", t.Masquerade)
	}
	return strconv.FormatUint(h.Sum64(), 16)
}

// Found is what there is of a table.
type Found struct {
	Digest        string   // "" when chains or rules are missing
	Uses, Restore []string // settings
	FullTunnel    bool     // it has the chains of a full tunnel
}

// Firewall is one lasting connection to nftables, in the network namespace of the thread that
// opened it.
type Firewall struct {
	conn *nftables.Conn
	sock *nlink.Conn // the connection inside conn, for deadlines
}

// Open connects to nftables. It fails with EOPNOTSUPP when the kernel has none, and with
// EPERM without CAP_NET_ADMIN.
func Open() (*Firewall, error) {
	fw := &Firewall{}
	keep := func(c *nlink.Conn) error {
		fw.sock = c
		return nil
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(keep))
	if err != nil {
		return nil, err
	}
	fw.conn = conn
	_, err = fw.Read()
	if err == nil {
		return fw, nil
	}
	_ = fw.Close()
	if errors.Is(err, unix.EPERM) {
		return nil, unix.EPERM
	}
	// Nfnetlink knows no such subsystem: EINVAL.
	return nil, fmt.Errorf("%w: %v", unix.EOPNOTSUPP, err)
}

// Close releases the connection. The tables stay.
func (fw *Firewall) Close() error { return fw.conn.CloseLasting() }

// begin prepares the next exchanges with the kernel. It bounds them, because a refused batch may be
// answered by fewer acknowledgements than there were messages, and drops what has come in answer to
// an earlier one that was given up: it would be taken for the next answer, and every later one for
// that of the exchange before, for as long as the connection lasts.
func (fw *Firewall) begin() {
	_ = fw.sock.SetDeadline(time.Now().Add(timeout))
	raw, err := fw.sock.SyscallConn()
	if err != nil {
		return // the exchange itself fails as well
	}
	var none [1]byte // the rest of a datagram is dropped with it
	_ = raw.Control(func(fd uintptr) {
		for err := error(nil); err == nil || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR); {
			_, _, err = unix.Recvfrom(int(fd), none[:], unix.MSG_DONTWAIT)
		}
	})
}

// tableOf returns the table of an instance.
func tableOf(instance string) *nftables.Table {
	return &nftables.Table{Name: TableName(instance), Family: nftables.TableFamilyINet}
}

// Read returns what is there of every instance's table.
func (fw *Firewall) Read() (map[string]Found, error) {
	fw.begin()
	tables, err := fw.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	guards := make(map[string]Found)
	for _, t := range tables {
		if instance, ok := strings.CutPrefix(t.Name, tablePrefix); ok {
			guards[instance] = Found{}
		}
	}
	if len(guards) == 0 {
		return guards, nil
	}
	chains, err := fw.conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		instance, ok := strings.CutPrefix(c.Table.Name, tablePrefix)
		if !ok {
			continue
		}
		g := guards[instance]
		if setting, ok := strings.CutPrefix(c.Name, restorePrefix); ok {
			g.Restore = append(g.Restore, setting)
		} else if setting, ok := strings.CutPrefix(c.Name, usesPrefix); ok {
			g.Uses = append(g.Uses, setting)
		} else if c.Name == guardChain {
			g.FullTunnel = true
		} else if stamp, ok := strings.CutPrefix(c.Name, digestChain); ok {
			g.Digest = fw.verified(c.Table, stamp)
		}
		guards[instance] = g
	}
	return guards, nil
}

// verified returns the digest in a stamp if the chains hold as many rules as they should: flushing
// a table leaves its chains.
func (fw *Firewall) verified(t *nftables.Table, stamp string) string {
	digest, count, _ := strings.Cut(stamp, "_")
	total := 0
	for _, chain := range []string{guardChain, natChain} {
		rules, err := fw.conn.GetRules(t, &nftables.Chain{Name: chain, Table: t})
		if err != nil && !errors.Is(err, unix.ENOENT) { // not every table has each
			return ""
		}
		total += len(rules)
	}
	if strconv.Itoa(total) != count {
		return ""
	}
	return digest
}

// Add replaces the instance's table in one transaction, so that there is no moment without it. The
// mark chains are left out when the kernel cannot track connections.
func (fw *Firewall) Add(instance string, o Table) error {
	fw.table(instance, o)
	if o.Mark != 0 {
		fw.marks(instance, o.Mark)
	}
	fw.begin()
	err := fw.conn.Flush()
	if err == nil || o.Mark == 0 {
		return err
	}
	fw.table(instance, o)
	fw.begin()
	if fw.conn.Flush() != nil {
		return err
	}
	return nil
}

// table queues the table with its guard, digest and restore chains.
func (fw *Firewall) table(instance string, o Table) {
	t := tableOf(instance)
	fw.conn.AddTable(t) // so that deleting it cannot fail
	fw.conn.DelTable(t)
	fw.conn.AddTable(t)
	rules := 0
	if o.Masquerade != "" {
		rules += fw.nat(t, o.Masquerade)
	}
	guard := &nftables.Chain{
		Name: guardChain, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	}
	if o.Mark != 0 {
		guard = fw.conn.AddChain(guard)
	}
	for line := range strings.Lines(o.Protect) {
		dev, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		addr, err := netip.ParseAddr(text)
		if err != nil {
			// A caller writes these lines from netip values.
			panic("firewall: malformed address " + text)
		}
		fw.conn.AddRule(&nftables.Rule{Table: t, Chain: guard, Exprs: guardRule(dev, addr)})
		rules++
	}
	stamp := fmt.Sprintf("%s%s_%d", digestChain, o.Digest(), rules)
	fw.conn.AddChain(&nftables.Chain{Name: stamp, Table: t})
	for _, setting := range o.Uses {
		fw.conn.AddChain(&nftables.Chain{Name: usesPrefix + setting, Table: t})
	}
	for _, setting := range o.Restore {
		fw.conn.AddChain(&nftables.Chain{Name: RestoreChain(setting), Table: t})
	}
}

// guardRule is: iifname != dev, destination addr, source not one of this host's: drop.
func guardRule(dev string, addr netip.Addr) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, dev)
	family, offset := byte(unix.NFPROTO_IPV4), uint32(16) // destination address: RFC 791 §3.1
	if addr.Is6() {
		family, offset = unix.NFPROTO_IPV6, 24 // RFC 8200 §3
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: name},
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register},
		equals([]byte{family}),
		&expr.Payload{
			DestRegister: register, Base: expr.PayloadBaseNetworkHeader,
			Offset: offset, Len: uint32(addr.BitLen() / 8),
		},
		equals(addr.AsSlice()),
		&expr.Fib{Register: register, ResultADDRTYPE: true, FlagSADDR: true},
		&expr.Cmp{
			Op: expr.CmpOpNeq, Register: register,
			Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL),
		},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// marks queues the chains that carry our mark from a connection's packets to its answers, so that
// a strict reverse path check (rp_filter=1 with src_valid_mark=1) looks them up where the packets
// went.
func (fw *Firewall) marks(instance string, mark uint32) {
	t := tableOf(instance)
	value := binaryutil.NativeEndian.PutUint32(mark)
	udp := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, equals([]byte{unix.IPPROTO_UDP}),
	}
	save := fw.conn.AddChain(&nftables.Chain{
		Name: saveChain, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityMangle,
	})
	fw.conn.AddRule(&nftables.Rule{Table: t, Chain: save, Exprs: append(slices.Clone(udp),
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register}, equals(value),
		&expr.Ct{Key: expr.CtKeyMARK, Register: register, SourceRegister: true},
	)})
	load := fw.conn.AddChain(&nftables.Chain{
		Name: loadChain, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
	})
	fw.conn.AddRule(&nftables.Rule{Table: t, Chain: load, Exprs: append(slices.Clone(udp),
		&expr.Ct{Key: expr.CtKeyMARK, Register: register}, equals(value),
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register, SourceRegister: true},
	)})
}

func equals(value []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: bytes.Clone(value)}
}

// AddRestore hands the duty to switch a setting off again to another instance.
func (fw *Firewall) AddRestore(heir, setting string) error {
	fw.conn.AddChain(&nftables.Chain{Name: RestoreChain(setting), Table: tableOf(heir)})
	fw.begin()
	return fw.conn.Flush()
}

// Remove deletes the instance's table.
func (fw *Firewall) Remove(instance string) error {
	fw.conn.DelTable(tableOf(instance))
	fw.begin()
	return fw.conn.Flush()
}
