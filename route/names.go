package route

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

// maxMetric is the worst metric of a route into a device: a guard's is worse.
const maxMetric = guardBase - 1

// markHash are the bits of an automatic mark that vary. Kubernetes uses bits 14 and 15, Tailscale
// bits 16 to 23: a mark of ours must mean nothing to either.
const markHash = 1<<14 - 1

// Table returns the number of the routing table that a full tunnel of the instance uses.
func Table(instance string) uint32 { return tableBase | nameHash(instance) }

// DefaultMark returns the mark that the instance's full tunnel uses when State.FwMark is 0.
func DefaultMark(instance string) uint32 { return tableBase | nameHash(instance)&markHash }

// group returns the link group that marks bridges which the instance made.
func group(instance string) uint32 { return groupBase | nameHash(instance) }

// guardMetric returns the metric of the unreachable routes that guard those of the instance.
func guardMetric(instance string) uint32 { return guardBase | nameHash(instance) }

// nameHash is FNV-1a folded to 24 bits. It need not resist an attacker: an operator names the
// instances.
func nameHash(instance string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(instance))
	sum := h.Sum32()
	return (sum ^ sum>>24) & hashMask
}

func tableName(table uint32) string {
	if table == unix.RT_TABLE_MAIN {
		return "main"
	}
	return strconv.FormatUint(uint64(table), 10)
}
