package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"tund/internal/testnet"
)

// programs makes a directory with the programs under test, and stand-ins for sudo and for what a
// namespace has no systemd for.
func programs(t *testing.T) string {
	t.Helper()
	dir := testnet.Scratch(t)
	tund := testnet.Tund(t)
	for name, target := range map[string]string{"tund": tund, "tunctl": testnet.Tunctl(t)} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"sudo": "#!/bin/sh\nexec \"$@\"\n", "systemctl": systemctl} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// systemctl stands for systemd where documents start and stop tund@NAME.
const systemctl = `#!/bin/bash
set -e
unit=${!#}
case $unit in tund@*) ;; *) exit 0 ;; esac
name=${unit#tund@}
stop() {
	local pid
	pid=$(cat "$TUND_STATE_DIR/$name.pid" 2>/dev/null) || return 0
	kill "$pid" 2>/dev/null || return 0
	while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
}
start() {
	mkdir -p "$TUND_STATE_DIR"
	tund -c "/etc/tund/$name.toml" >>"$TUND_STATE_DIR/$name.log" 2>&1 </dev/null &
	echo $! >"$TUND_STATE_DIR/$name.pid"
	for _ in $(seq 200); do
		tunctl -i "$name" status >/dev/null 2>&1 && return
		kill -0 $! 2>/dev/null || break
		sleep 0.05
	done
	cat "$TUND_STATE_DIR/$name.log" >&2
	return 1
}
case $1 in
enable | start) start ;;
disable | stop) stop ;;
restart) stop; start ;;
kill) kill -KILL "$(cat "$TUND_STATE_DIR/$name.pid")" ;; # systemctl kill -s KILL
*) echo "systemctl $*: not in this test" >&2; exit 1 ;;
esac
`

// stage is hosts in network namespaces, on which a document is run.
type stage struct {
	t      *testing.T
	dir    string // of the programs
	shells map[string]*shell
}

func newStage(t *testing.T) *stage {
	t.Helper()
	return &stage{t: t, dir: programs(t), shells: make(map[string]*shell)}
}

// host makes a host with an /etc and a /run of its own, and with the user tund.
func (s *stage) host(name string) {
	s.t.Helper()
	ns := testnet.New(s.t)
	dir := testnet.Scratch(s.t)
	s.shells[name] = newShell(s.t, "ip", "netns", "exec", ns.Name(), "bash", "-c", fmt.Sprintf(`set -e
cd %[1]s
mkdir -p etc/tund etc/wireguard etc/openvpn state home
cp -a /etc/passwd /etc/group /etc/alternatives /etc/ld.so* /etc/iproute2 /etc/ssl etc/ 2>/dev/null || true
grep -q ^tund: etc/passwd || { echo tund:x:989:989::/:/bin/false >>etc/passwd; echo tund:x:989: >>etc/group; }
echo 127.0.0.1 localhost >etc/hosts
mount --bind etc /etc
mount -t tmpfs tmpfs /run
mkdir /run/wireguard
export TUND_STATE_DIR=%[1]s/state HOME=%[1]s/home PATH=%[2]s:$PATH:/usr/sbin:/sbin
cd home
exec bash`, dir, s.dir))
	s.run(name, "true")  // it is in its namespace now
	s.t.Cleanup(func() { // before the namespace goes
		pids, _ := exec.Command("ip", "netns", "pids", ns.Name()).Output()
		for _, pid := range strings.Fields(string(pids)) {
			_ = exec.Command("kill", "-KILL", pid).Run()
		}
	})
}

// cable joins two hosts, with a device and addresses at each end; an
// end without addresses is only up.
func (s *stage) cable(a, aDevice, aAddress, b, bDevice, bAddress string) {
	s.t.Helper()
	s.run(a, "ip link add "+aDevice+" type veth peer name "+bDevice+" netns "+strconv.Itoa(s.shells[b].pid))
	for _, end := range [][3]string{{a, aDevice, aAddress}, {b, bDevice, bAddress}} {
		s.run(end[0], "ip link set "+end[1]+" up")
		for _, address := range strings.Fields(end[2]) {
			s.run(end[0], "ip address add "+address+" dev "+end[1])
		}
	}
}

// run runs commands at a host, which have to succeed.
func (s *stage) run(host, commands string) {
	s.t.Helper()
	if out, err := s.shells[host].do(s.t, host, commands); err != nil {
		s.t.Fatalf("%s: %s: %v\n%s", host, commands, err, out)
	}
}

// known gives all hosts of the stage the address of a name.
func (s *stage) known(name, address string) {
	s.t.Helper()
	for host := range s.shells {
		s.run(host, "echo "+address+" "+name+" >>/etc/hosts")
	}
}
