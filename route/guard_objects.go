package route

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"tund/route/firewall"
	"tund/route/path"
	"tund/route/sysctl"
)

// duty returns the settings that an instance has to switch off when it needs them no more: they
// were off before it, and no other instance has taken the duty over.
func duty(instance string, f facts, m memory) sysctl.Set {
	all := m.restore.Union(f.guards[instance].restore)
	for other, g := range f.guards {
		for _, s := range g.restore.List() {
			if other != instance {
				all = all.Without(s)
			}
		}
	}
	return all
}

// guardObject is the instance's whole nftables table.
type guardObject struct {
	mark       uint32 // of a full tunnel; 0: there is none
	protect    string // sorted "device address" lines; text, because the object must be comparable
	fence      bool   // it belongs to a full tunnel
	masquerade string // device whose packets leave with our address; "": none
	uses       sysctl.Set
	restore    sysctl.Set // that were off before us
}

func (o guardObject) String() string {
	text := "nft table"
	if o.fence {
		text = fmt.Sprintf("nft guard mark %#x", o.mark)
	}
	for line := range strings.Lines(o.protect) {
		text += ", " + strings.TrimSpace(line)
	}
	if o.masquerade != "" {
		text += ", masquerade what comes from " + o.masquerade
	}
	for i, s := range o.restore.List() {
		if i == 0 {
			text += ", sysctl to set back at the end:"
		}
		name, _, _ := strings.Cut(s.String(), "=")
		text += " " + name
	}
	return text
}

// table returns the object as what the table is to hold.
func (o guardObject) table() firewall.Table {
	return firewall.Table{
		Mark: o.mark, Protect: o.protect, Masquerade: o.masquerade,
		Uses: o.uses.Names(), Restore: o.restore.Names(),
	}
}

func (o guardObject) digest() string { return o.table().Digest() }

func (guardObject) rank() int { return rankGuard }

func (o guardObject) present(f facts, instance string) bool {
	g, ok := f.guards[instance]
	return ok && g == guardFact{digest: o.digest(), fence: o.fence, uses: o.uses, restore: o.restore}
}

func (o guardObject) add(k *netlinkKernel, instance string) error {
	if k.nft == nil {
		return k.nftErr
	}
	return k.nft.Add(instance, o.table())
}

func (guardObject) remove(k *netlinkKernel, instance string) error { return k.nft.Remove(instance) }

func (o guardObject) tolerates(err error, _ facts) (warning string, ok bool) {
	if o.masquerade != "" || !path.Unsupported(err) && !errors.Is(err, unix.ENOENT) {
		return "", false
	}
	if o.protect != "" {
		warning = fmt.Sprintf("this kernel has no usable nftables (%v): the tunnel's addresses are not "+
			"guarded against packets from other interfaces (CVE-2019-14899)", err)
	}
	return warning, true
}

func (o guardObject) fences() bool { return o.fence }

// sysctlObject is a setting that is on.
type sysctlObject struct{ setting sysctl.Setting }

func (o sysctlObject) String() string { return "sysctl " + o.setting.String() }

func (sysctlObject) rank() int { return rankSysctl }

func (o sysctlObject) present(f facts, _ string) bool { return f.sysctls[o.setting] }

func (o sysctlObject) add(k *netlinkKernel, _ string) error { return k.sysctls.Set(o.setting, true) }

func (o sysctlObject) remove(k *netlinkKernel, _ string) error {
	return k.sysctls.Set(o.setting, false)
}

func (o sysctlObject) advice(error) string {
	return "set " + o.setting.String() + " in /etc/sysctl.d: this process may not set it"
}

// tolerates: without strict reverse path checks the mark is not needed.
func (o sysctlObject) tolerates(err error, f facts) (warning string, ok bool) {
	if o.setting != sysctl.SrcValidMark {
		return "", false
	}
	if f.strictReverse {
		warning = fmt.Sprintf("cannot set net.ipv4.conf.all.src_valid_mark=1 (%v) and rp_filter is "+
			"strict (1): answers from endpoints will be dropped; set either in /etc/sysctl.d", err)
	}
	return warning, true
}

func (o sysctlObject) added(m *memory, _ facts) { m.restore = m.restore.With(o.setting) }

func (o sysctlObject) removed(m *memory) { m.restore = m.restore.Without(o.setting) }

func (o sysctlObject) fences() bool { return o.setting == sysctl.SrcValidMark }

// restoreObject is the duty to switch a setting off again, handed to another instance's table.
type restoreObject struct {
	heir    string
	setting sysctl.Setting
}

func (o restoreObject) String() string {
	return "nft chain " + firewall.RestoreChain(string(o.setting)) + " in table inet " + firewall.TableName(o.heir)
}

func (restoreObject) rank() int { return rankGuard }

func (o restoreObject) present(f facts, _ string) bool {
	return f.guards[o.heir].restore.Has(o.setting)
}

func (o restoreObject) add(k *netlinkKernel, _ string) error {
	return k.nft.AddRestore(o.heir, string(o.setting))
}

// remove does nothing: the duty goes with the table that has it.
func (restoreObject) remove(*netlinkKernel, string) error { return nil }

func (o restoreObject) added(m *memory, _ facts) { m.restore = m.restore.Without(o.setting) }

func (restoreObject) removed(*memory) {}

func (restoreObject) fences() bool { return true }

func (restoreObject) restorable(facts) bool { return false }
