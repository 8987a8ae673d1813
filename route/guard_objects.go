package route

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"tund/route/firewall"
)

// guardObject is the instance's whole nftables table.
type guardObject struct {
	mark    uint32
	protect string // sorted "device address" lines; text, because the object must be comparable
	restore bool   // src_valid_mark was 0 before us
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

// table returns the object as what the table is to hold.
func (o guardObject) table() firewall.Table {
	return firewall.Table{Mark: o.mark, Protect: o.protect, Restore: o.restore}
}

func (o guardObject) digest() string { return o.table().Digest() }

func (guardObject) rank() int { return rankGuard }

func (o guardObject) present(f facts, instance string) bool {
	g, ok := f.guards[instance]
	return ok && g.digest == o.digest() && g.restore == o.restore
}

func (o guardObject) add(k *netlinkKernel, instance string) error {
	if k.nft == nil {
		return k.nftErr
	}
	return k.nft.Add(instance, o.table())
}

func (guardObject) remove(k *netlinkKernel, instance string) error { return k.nft.Remove(instance) }

func (guardObject) tolerates(err error, _ facts) (warning string, ok bool) {
	if unsupported(err) || errors.Is(err, unix.ENOENT) {
		return fmt.Sprintf("this kernel has no usable nftables (%v): the tunnel's addresses are not "+
			"guarded against packets from other interfaces (CVE-2019-14899)", err), true
	}
	return "", false
}

func (guardObject) fences() bool { return true }

// sysctlObject is net.ipv4.conf.all.src_valid_mark = 1.
type sysctlObject struct{}

func (sysctlObject) String() string { return "sysctl net.ipv4.conf.all.src_valid_mark=1" }

func (sysctlObject) rank() int { return rankSysctl }

func (sysctlObject) present(f facts, _ string) bool { return f.srcValidMark }

func (sysctlObject) add(k *netlinkKernel, _ string) error { return k.writeSysctl('1') }

func (sysctlObject) remove(k *netlinkKernel, _ string) error { return k.writeSysctl('0') }

func (sysctlObject) advice(error) string {
	return "set net.ipv4.conf.all.src_valid_mark=1 in /etc/sysctl.d: the service may not set it"
}

// tolerates: without strict reverse path checks the mark is not needed.
func (sysctlObject) tolerates(err error, f facts) (warning string, ok bool) {
	if f.strictReverse {
		warning = fmt.Sprintf("cannot set net.ipv4.conf.all.src_valid_mark=1 (%v) and rp_filter is "+
			"strict (1): answers from endpoints will be dropped; set either in /etc/sysctl.d", err)
	}
	return warning, true
}

func (sysctlObject) added(m *memory, _ facts) { m.restore = true }

func (sysctlObject) removed(m *memory) { m.restore = false }

func (sysctlObject) fences() bool { return true }

// restoreObject is the duty to set the sysctl back to 0, handed to another instance's table.
type restoreObject struct{ heir string }

func (o restoreObject) String() string {
	return "nft chain " + firewall.RestoreChain + " in table inet " + firewall.TableName(o.heir)
}

func (restoreObject) rank() int { return rankGuard }

func (o restoreObject) present(f facts, _ string) bool { return f.guards[o.heir].restore }

func (o restoreObject) add(k *netlinkKernel, _ string) error { return k.nft.AddRestore(o.heir) }

// remove does nothing: the duty goes with the table that has it.
func (restoreObject) remove(*netlinkKernel, string) error { return nil }

func (restoreObject) added(m *memory, _ facts) { m.restore = false }

func (restoreObject) removed(*memory) {}

func (restoreObject) fences() bool { return true }

func (restoreObject) restorable(facts) bool { return false }
