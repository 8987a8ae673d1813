package route

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Protocol marks routes and rules as ours: `ip route show proto 117`. Values above 99 are free for the taking,
// and /etc/iproute2/rt_protos names no 117.
const Protocol = 117

// Priorities of our rules, the same for every instance and for both address families. They come before the
// main table's 32766, before wg-quick's (32764 downward as tables are added) and after the rules that
// operators number by hand with small values.
//
// LocalAll has a priority of its own because Linux takes a new rule without "to" for a duplicate of any rule at
// its priority that has one (fib4_rule_compare), so a change from LocalPrivate could not add before it removes.
const (
	PriorityLocalAll = 31169 // LocalAll: main table, without its default route
	PriorityLocal    = 31170 // LocalPrivate: the same for private destinations
	PriorityTunnel   = 31171 // everything without our mark: the instance's table
)

// tableBase is the first byte of a table's number (117), groupBase that of a link group; 24 bits of hash follow.
const (
	tableBase = Protocol << 24
	groupBase = (Protocol - 1) << 24
	hashMask  = 1<<24 - 1
	baseMask  = 0xff << 24
)

// markHash are the bits of an automatic mark that vary. Kubernetes takes bits 14 and 15 for itself, Tailscale
// bits 16 to 23: a mark of ours must mean nothing to either.
const markHash = 1<<14 - 1

// Table returns the number of the routing table that a full tunnel of the instance uses.
func Table(instance string) uint32 { return tableBase | nameHash(instance) }

// DefaultMark returns the mark that the instance's full tunnel uses when State.FwMark is 0.
func DefaultMark(instance string) uint32 { return tableBase | nameHash(instance)&markHash }

// group returns the link group that marks bridges which the instance made.
func group(instance string) uint32 { return groupBase | nameHash(instance) }

// nameHash is FNV-1a folded to 24 bits. It need not resist anybody: an operator names the instances.
func nameHash(instance string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(instance))
	sum := h.Sum32()
	return (sum ^ sum>>24) & hashMask
}

// fenceMetric is the metric of the unreachable default route in the instance's table: the last to be looked at.
const fenceMetric = 1<<32 - 1

// nftTable returns the name of the instance's nftables table.
func nftTable(instance string) string { return nftPrefix + instance }

// restoreChain is the empty chain that says src_valid_mark was 0 before us.
const restoreChain = "restore_src_valid_mark"

// nftPrefix starts the names of all tables of ours.
const nftPrefix = "tund-"

// object is one thing in the kernel that is there or not. Implementations are comparable values, so that
// desired and actual state are sets, and their String is what ip(8) would call them.
type object interface {
	fmt.Stringer
	rank() int // the order of adding; removal goes the other way
}

// The objects. rank: a bridge before its port, a link up before its routes, the guard before traffic is
// led into the tunnel, the rules last and the tunnel's own rule after the exceptions from it.
type (
	bridgeObject struct{ name string } // a bridge that the instance made
	mtuObject    struct {
		dev string
		mtu int
	}
	masterObject struct{ dev, bridge string }
	upObject     struct{ dev string }
	addrObject   struct {
		dev  string
		addr netip.Prefix
	}
	guardObject struct { // the whole nftables table
		mark    uint32
		protect string // sorted "device address" lines; text, because the object must be comparable
		restore bool   // src_valid_mark was 0 before us
	}
	sysctlObject  struct{}              // net.ipv4.conf.all.src_valid_mark = 1
	restoreObject struct{ heir string } // the duty to set it back to 0, handed to another instance's table
	routeObject   struct {
		dev    string
		dst    netip.Prefix
		table  uint32 // never 0
		metric uint32
	} // without dev: unreachable (the fence)
	ruleObject struct {
		v6       bool
		priority uint32
		mark     uint32       // "not fwmark mark"; 0: any mark
		to       netip.Prefix // zero: all; never together with a mark, since "not" inverts the whole match
		table    uint32
		owner    uint32 // the instance's table, as suppress_ifgroup; 0 when table says it
	}
)

func (bridgeObject) rank() int  { return 0 }
func (mtuObject) rank() int     { return 1 }
func (masterObject) rank() int  { return 2 }
func (upObject) rank() int      { return 3 }
func (addrObject) rank() int    { return 4 }
func (guardObject) rank() int   { return 5 }
func (restoreObject) rank() int { return 5 }
func (sysctlObject) rank() int  { return 6 }
func (routeObject) rank() int   { return 7 }
func (o ruleObject) rank() int {
	if o.priority == PriorityTunnel {
		return 9
	}
	return 8
}

func (o bridgeObject) String() string { return "bridge " + o.name }
func (o mtuObject) String() string    { return "link " + o.dev + " mtu " + strconv.Itoa(o.mtu) }
func (o masterObject) String() string { return "link " + o.dev + " master " + o.bridge }
func (o upObject) String() string     { return "link " + o.dev + " up" }
func (o addrObject) String() string   { return "address " + o.addr.String() + " dev " + o.dev }
func (sysctlObject) String() string   { return "sysctl net.ipv4.conf.all.src_valid_mark=1" }

func (o restoreObject) String() string {
	return "nft chain " + restoreChain + " in table inet " + nftTable(o.heir)
}

func (o guardObject) String() string {
	text := fmt.Sprintf("nft guard mark %#x", o.mark)
	for line := range strings.Lines(o.protect) {
		text += ", " + strings.TrimSpace(line)
	}
	if o.restore {
		text += ", restore src_valid_mark"
	}
	return text
}

// digest identifies the contents of the guard's chains. It is kept in the kernel as a chain's name, because
// reading rules back and comparing them expression by expression would be a second compiler.
func (o guardObject) digest() string {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %s", o.mark, o.protect)
	return strconv.FormatUint(h.Sum64(), 16)
}

func (o routeObject) String() string {
	text := "route " + o.dst.String() + " dev " + o.dev
	if o.dev == "" {
		text = "route unreachable " + o.dst.String()
	}
	if o.table != unix.RT_TABLE_MAIN {
		text += " table " + tableName(o.table)
	}
	if o.metric != 0 {
		text += " metric " + strconv.FormatUint(uint64(o.metric), 10)
	}
	return text
}

// fence returns what ends the instance's table where the tunnel's own default route is missing.
func fence(instance string, v6 bool) routeObject {
	dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if v6 {
		dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return routeObject{dst: dst, table: Table(instance), metric: fenceMetric}
}

// ofFence reports whether o keeps a full tunnel closed while its device is missing.
func ofFence(o object) bool {
	switch o := o.(type) {
	case routeObject:
		return o.dev == ""
	case ruleObject, guardObject, sysctlObject, restoreObject:
		return true
	}
	return false
}

func (o ruleObject) String() string {
	text := "rule"
	if o.v6 {
		text = "rule -6"
	}
	text += fmt.Sprintf(" %d:", o.priority)
	if o.mark != 0 {
		text += fmt.Sprintf(" not fwmark %#x", o.mark)
	}
	if o.to.IsValid() {
		text += " to " + o.to.String()
	}
	text += " lookup " + tableName(o.table)
	if o.owner != 0 {
		text += " suppress_prefixlength 0 suppress_ifgroup " + tableName(o.owner)
	}
	return text
}

func tableName(table uint32) string {
	if table == unix.RT_TABLE_MAIN {
		return "main"
	}
	return strconv.FormatUint(uint64(table), 10)
}
