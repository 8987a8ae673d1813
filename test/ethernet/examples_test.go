package ethernet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tund/internal/names"
	"tund/internal/testnet"
	"tund/tunnel/l2"
)

// guestEnv makes the test binary play a virtual machine's part: it opens the TAP that it names and
// answers.
const guestEnv = "TUND_ETHERNET_GUEST"

// Every example with a script runs as its README says.
func TestExamples_run(t *testing.T) {
	testnet.Require(t)
	scripts, err := filepath.Glob("../../examples/*/run.sh")
	if err != nil || len(scripts) < 8 {
		t.Fatalf("scripts of examples: %q, %v; want at least eight", scripts, err)
	}
	for _, script := range scripts {
		name := filepath.Base(filepath.Dir(script))
		t.Run(name, func(t *testing.T) {
			beside(t)
			mark := fmt.Sprintf("TUND_EXAMPLE=%s-%d", name, os.Getpid())
			env := append(os.Environ(), mark, "TUND="+testnet.Tund(t), "TUNCTL="+testnet.Tunctl(t))
			switch name {
			case "vlan-trunk":
				if !has8021q(t) {
					t.Log("this kernel has no 8021q: make test-vm runs it, and here TestVLAN uses frames made by hand")
					return
				}
			case "vm-tap":
				self, err := os.Executable()
				if err != nil {
					t.Fatal(err)
				}
				env = append(env, "GUEST="+self, guestEnv+"=10.7.0.50")
			case "evpn-frr":
				if _, err := os.Stat("/usr/lib/frr/bgpd"); err != nil {
					t.Skip("no FRR, which is a service of its own that make test does not install; .ci/run does (Debian: frr)")
				}
			case "many-sites": // a machine that is busy with other tests is slower
				env = append(env, "LIMIT=15000")
			}
			run := exec.Command(script)
			run.Env = env
			out, err := run.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Errorf("%s: %v", script, err)
			}
			if !bytes.Contains(out, []byte("   ok  ")) {
				t.Errorf("%s shows nothing", script)
			}
			if left := processesWith(mark); len(left) > 0 {
				t.Errorf("%s leaves processes behind: %q", script, left)
			}
		})
	}
}

// processesWith returns the command lines of the processes that have variable in their environment.
func processesWith(variable string) (commands []string) {
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range environments {
		environment, err := os.ReadFile(file)
		if err != nil || !slices.Contains(strings.Split(string(environment), "\x00"), variable) {
			continue // it has ended, or is another's
		}
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		commands = append(commands, strings.ReplaceAll(string(command), "\x00", " "))
	}
	return commands
}

// The example of a virtual machine runs with a real one: qemu, a kernel, and the initrd that the
// example makes.
func TestSoakExamples_virtualMachine(t *testing.T) {
	testnet.Soak(t)
	testnet.Require(t)
	env := append(os.Environ(), "TUND="+testnet.Tund(t), "TUNCTL="+testnet.Tunctl(t))
	// Beside a kernel in /boot, the one that make test-vm has fetched.
	if found, _ := filepath.Glob("/boot/vmlinuz-*"); len(found) == 0 && os.Getenv("KERNEL") == "" {
		home, _ := os.UserHomeDir()
		found, _ = filepath.Glob(filepath.Join(home, ".cache/tund-lab/kernel-*/boot/vmlinuz-*"))
		if len(found) == 0 {
			testnet.Lacks(t, "no kernel to boot: make test-vm fetches one")
		}
		env = append(env, "KERNEL="+found[0], "MODULES="+filepath.Dir(filepath.Dir(found[0])))
	}
	for _, program := range []string{"qemu-system-x86_64", "busybox", "cpio", "modprobe"} {
		testnet.Program(t, program)
	}
	run := exec.Command("../../examples/vm-tap/run.sh")
	run.Env = env
	out, err := run.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !bytes.Contains(out, []byte("   ok  ")) {
		t.Errorf("examples/vm-tap: %v", err)
	}
}

func has8021q(t *testing.T) bool {
	ns := testnet.New(t)
	_, err := ns.Try("ip", "link", "add", "link", "lo", "name", "v1", "type", "vlan", "id", "1")
	return err == nil
}

// playGuest is the other life of the test binary: what stands behind the TAP of a virtual machine.
// It answers ARP and echo requests for one address, until it is killed.
func playGuest(ip string) {
	if err := answerAs(os.Getenv("TAP"), os.Getenv("MAC"), ip); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answerAs(tap, mac, ip string) error {
	own, err := names.Station(mac)
	if err != nil {
		return err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	request, err := unix.NewIfreq(tap)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return err
	}
	buf := make([]byte, 70000)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return err
		}
		if answer := answerTo(buf[vnetHeader:n], l2.MACFromBytes(own[:]), netIP(ip)); answer != nil {
			if _, err := unix.Write(fd, append(make([]byte, vnetHeader), answer...)); err != nil {
				return err
			}
		}
	}
}

// answerTo returns the answer of a host to a frame, made in place, or nil.
func answerTo(f []byte, own l2.MAC, ip []byte) []byte {
	if len(f) < 42 {
		return nil
	}
	swap := func(a, b, n int) {
		for i := range n {
			f[a+i], f[b+i] = f[b+i], f[a+i]
		}
	}
	switch etherType := binary.BigEndian.Uint16(f[12:]); {
	case etherType == 0x0806 && f[21] == 1 && bytes.Equal(f[38:42], ip):
		swap(22, 32, 10)
		own.Put(f[22:])
		f[21] = 2
	case etherType == 0x0800 && f[23] == 1 && f[34] == 8 && bytes.Equal(f[30:34], ip):
		swap(26, 30, 4)
		f[34] = 0
		binary.BigEndian.PutUint16(f[36:], 0)
		end := 14 + int(binary.BigEndian.Uint16(f[16:]))
		if end > len(f) {
			return nil
		}
		message := append([]byte(nil), f[34:end]...)
		if len(message)%2 == 1 {
			message = append(message, 0)
		}
		binary.BigEndian.PutUint16(f[36:], ^sum(message, 0))
		f = f[:end]
	default:
		return nil
	}
	swap(0, 6, 6)
	own.Put(f[6:])
	return f
}

// The same with a real machine: qemu and Debian's kernel, which answers with its own stack and full
// offloads.
func TestSoakExamples_vmWithQemu(t *testing.T) {
	testnet.Soak(t)
	kernels, _ := filepath.Glob(os.Getenv("HOME") + "/.cache/tund-lab/kernel-*/boot/vmlinuz-*")
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil || len(kernels) == 0 {
		t.Skip("no qemu, or no kernel yet: make test-vm fetches one")
	}
	beside(t)
	run := exec.Command("../../examples/vm-tap/run.sh")
	run.Env = append(os.Environ(), "TUND="+testnet.Tund(t), "TUNCTL="+testnet.Tunctl(t),
		"KERNEL="+kernels[len(kernels)-1], "INITRD="+initrd(t, kernels[len(kernels)-1]))
	out, err := run.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// initrd makes the system of a guest that does nothing but answer at 10.7.0.50: busybox and the
// driver of its network.
func initrd(t *testing.T, kernel string) string {
	t.Helper()
	root := testnet.Scratch(t)
	release := strings.TrimPrefix(filepath.Base(kernel), "vmlinuz-")
	tree := filepath.Dir(filepath.Dir(kernel))
	script := fmt.Sprintf(`set -e
mkdir -p bin lib proc sys
cp "$(command -v busybox)" bin/busybox
for dir in %[1]s %[1]s/usr; do [ -d $dir/lib/modules/%[2]s ] && tree=$dir; done
n=10
for m in $(modprobe -d $tree -S %[2]s --show-depends virtio_pci 2>/dev/null | awk '$1 == "insmod" {print $2}') \
	$(modprobe -d $tree -S %[2]s --show-depends virtio_net | awk '$1 == "insmod" {print $2}'); do
	cp $m lib/$n-$(basename $m); n=$((n + 1))
done
cat >init <<'X'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for m in /lib/*; do case $m in *.xz) xz -dc $m >/m.ko; insmod /m.ko;; *) insmod $m;; esac; done 2>/dev/null
ip link set eth0 up
ip addr add 10.7.0.50/24 dev eth0
echo guest is up
while :; do sleep 60; done
X
chmod +x init
find . | cpio --quiet -o -H newc | gzip -1 >../%[3]s.gz`, tree, release, filepath.Base(root))
	build := exec.Command("sh", "-c", script)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("cannot make the guest's system: %v\n%s", err, out)
	}
	t.Cleanup(func() { _ = os.Remove(root + ".gz") })
	return root + ".gz"
}
