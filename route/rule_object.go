package route

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tund/route/mark"
)

// ruleObject is a rule of policy routing.
type ruleObject struct {
	v6       bool
	priority uint32
	mark     uint32       // "not fwmark mark"; 0: any mark
	from     netip.Prefix // zero: all
	// Zero: all; never together with a mark, since "not" inverts the whole match.
	to    netip.Prefix
	table uint32
	owner uint32 // the instance's table, as suppress_ifgroup; 0 when table says it
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
	if o.from.IsValid() {
		text += " from " + o.from.String()
	}
	if o.to.IsValid() {
		text += " to " + o.to.String()
	}
	text += " lookup " + mark.TableName(o.table)
	if o.owner != 0 {
		text += " suppress_prefixlength 0 suppress_ifgroup " + mark.TableName(o.owner)
	}
	return text
}

func (o ruleObject) rank() int {
	if o.priority == mark.PriorityTunnel {
		return rankTunnelRule
	}
	return rankRule
}

func (o ruleObject) present(f facts, _ string) bool { return f.rules[o] }

func (o ruleObject) add(k *netlinkKernel, _ string) error { return k.rt.RuleAdd(o.netlink()) }

func (o ruleObject) remove(k *netlinkKernel, _ string) error { return k.rt.RuleDel(o.netlink()) }

func (o ruleObject) netlink() *netlink.Rule {
	r := netlink.NewRule()
	r.Family = unix.AF_INET
	if o.v6 {
		r.Family = unix.AF_INET6
	}
	r.Priority, r.Table, r.Protocol = int(o.priority), int(o.table), mark.Protocol
	r.Mark, r.Invert = o.mark, o.mark != 0
	if o.from.IsValid() {
		r.Src = ipNetOf(o.from)
	}
	if o.to.IsValid() {
		r.Dst = ipNetOf(o.to)
	}
	if o.owner != 0 {
		r.SuppressPrefixlen, r.SuppressIfgroup = 0, int(o.owner)
	}
	return r
}

func (ruleObject) fences() bool { return true }
