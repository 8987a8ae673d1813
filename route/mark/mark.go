// Package mark has the numbers by which objects in the kernel are recognized as those of an
// instance, also after a SIGKILL and by another process: a routing protocol, rule priorities,
// tables, metrics, firewall marks and link groups.
//
// Whatever tund puts into the kernel carries a mark of its owner, so that Cleanup finds it after a
// SIGKILL without any file on disk:
//
//   - routes and rules: protocol 117 (Protocol);
//   - unreachable routes (guards): metric 0xff000000 plus 24 bits of a hash of the instance's name,
//     the same at every start, different between instances;
//   - the routing table of a full tunnel: number 0x75000000 plus the same 24 bits (Table);
//   - rules: priorities 31168 to 31171 (PriorityNeighbor to PriorityTunnel) for every
//     instance. The last looks up the instance's table and thereby names its owner. The others
//     look up main, and carry the table's number as suppress_ifgroup instead: no device is in that
//     group, so the kernel ignores it;
//   - nftables: table "inet tund-<instance>". An empty chain "restore_src_valid_mark" in it says
//     that the sysctl was 0 before us, "uses_src_valid_mark" that the instance needs it, and so for
//     the settings of forwarding;
//   - a bridge made here: link group 0x74000000 plus the same 24 bits, which the kernel sets in the
//     very act of creation; and for human readers the alias "tund:<instance>".
//
// Addresses and routes of a TUN device do not name an instance: the kernel drops them with the
// device.
//
// It computes; it neither reads nor changes anything. All functions may be called from any
// goroutine.
package mark

import (
	"hash/fnv"
	"strconv"

	"golang.org/x/sys/unix"
)

// Protocol marks routes and rules as ours: `ip route show proto 117`. Values above 99 are free for
// any program, and /etc/iproute2/rt_protos names no 117.
const Protocol = 117

// Priorities of our rules, the same for every instance and for both address families. They come
// before the main table's 32766, before those of wg-quick (32764 downward as tables are added) and
// after the rules that operators number by hand with small values.
//
// LocalAll has a priority of its own because Linux takes a new rule without "to" for a duplicate of
// any rule at its priority that has one (fib4_rule_compare in net/ipv4/fib_rules.c), so a change
// from LocalPrivate could not add before it removes.
const (
	// From and to a network of this host: main table, without its default route.
	PriorityNeighbor = 31168
	PriorityLocalAll = 31169 // LocalAll: main table, without its default route
	PriorityLocal    = 31170 // LocalPrivate: the same for private destinations
	PriorityTunnel   = 31171 // everything without our mark: the instance's table
)

// tableBase is the first byte of a table's number (117), groupBase that of a link group, and
// guardBase that of the metric of a guard. 24 bits of a hash follow.
const (
	tableBase = Protocol << 24
	groupBase = (Protocol - 1) << 24
	guardBase = 0xff << 24
	hashMask  = 1<<24 - 1
	baseMask  = 0xff << 24
)

// MaxMetric is the worst metric of a route into a device: a guard's is worse.
const MaxMetric = guardBase - 1

// markHash are the bits of an automatic mark that vary. Kubernetes uses bits 14 and 15, Tailscale
// bits 16 to 23: a mark of ours must mean nothing to either.
const markHash = 1<<14 - 1

// Table returns the number of the routing table that a full tunnel of the instance uses.
func Table(instance string) uint32 { return tableBase | nameHash(instance) }

// Default returns the mark that the instance's full tunnel uses when route.State.FwMark is 0.
func Default(instance string) uint32 { return tableBase | nameHash(instance)&markHash }

// Group returns the link group that marks bridges which the instance made.
func Group(instance string) uint32 { return groupBase | nameHash(instance) }

// IsGroup reports whether a link group marks a bridge of any instance.
func IsGroup(g uint32) bool { return g&baseMask == groupBase }

// GuardMetric returns the metric of the unreachable routes that guard those of the instance.
func GuardMetric(instance string) uint32 { return guardBase | nameHash(instance) }

// nameHash is FNV-1a folded to 24 bits. It need not resist an attacker: an operator names the
// instances.
func nameHash(instance string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(instance))
	sum := h.Sum32()
	return (sum ^ sum>>24) & hashMask
}

// TableName returns the name of a table as ip(8) prints it.
func TableName(table uint32) string {
	if table == unix.RT_TABLE_MAIN {
		return "main"
	}
	return strconv.FormatUint(uint64(table), 10)
}
