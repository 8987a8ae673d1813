// Package packaging holds what is installed beside the programs: the systemd unit and small
// configuration files. Its tests check them with systemd's own tools; there is no code here.
package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxExposure is what `systemd-analyze security` may say, times ten.
const maxExposure = "17"

// units are those that belong to an instance.
var units = []string{"tund@.service", "tund-dns@.path", "tund-dns@.service"}

// analyze runs systemd-analyze on a unit, with the programs that it and the others start replaced
// by one that exists here.
func analyze(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed (Debian: systemd)")
	}
	dir := t.TempDir()
	for _, name := range units {
		unit, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := regexp.MustCompile(`/usr/(sbin/tund|bin/tunctl)\b`).ReplaceAllString(string(unit), "/bin/true")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(tool, append(args, filepath.Join(dir, name))...).CombinedOutput()
	return string(out), err
}

func TestUnit_verifiesWithoutAWord(t *testing.T) {
	t.Parallel()
	for _, name := range units {
		out, err := analyze(t, name, "verify", "--man=no", "--recursive-errors=no")
		if err != nil || strings.TrimSpace(out) != "" {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, out)
		}
	}
}

func TestUnit_isSandboxed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"tund@.service", "tund-dns@.service"} {
		out, err := analyze(t, name, "security", "--offline=yes", "--no-pager", "--threshold="+maxExposure)
		if err != nil {
			t.Errorf("systemd-analyze security %s: %v\n%s", name, err, out)
		}
	}
}

// A stop that is half of a restart is announced by SIGUSR1, any other is not: systemctl says which
// it is.
func TestUnit_announcesARestart(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("tund@.service")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^ExecStop=\+-/bin/sh -c '(.*)'$`).FindSubmatch(unit)
	if found == nil {
		t.Fatal("no ExecStop= line that runs a shell")
	}
	script := strings.ReplaceAll(string(found[1]), "%n", "tund@office.service")
	for jobs, want := range map[string]string{
		"": "stop", "4711 tund@office.service stop running": "stop", "4711 tund@office.service restart running": "restart",
		"4711 tund@restart.service stop running": "stop",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\necho '"+jobs+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		// The shell is its own main process, and says which signal it has got by the end.
		cmd := exec.Command("sh", "-c", "said=stop; trap 'said=restart' USR1; MAINPID=$$; export MAINPID; sh -c \"$1\"; echo $said", "sh", script)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("jobs %q: %q, %v, want %s", jobs, out, err, want)
		}
	}
}

// The routing protocol has one number, in the kernel and in iproute2's file.
func TestRtProtos_namesOurNumber(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("rt_protos.d/tund.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^117\s+tund$`).Match(text) {
		t.Errorf("got %q, want 117 for tund", text)
	}
}

// unitValues returns what the unit assigns to a key, in its order.
func unitValues(t *testing.T, key string) []string {
	t.Helper()
	text, err := os.ReadFile("tund@.service")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^`+key+`=(.*)$`).FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	return all
}

// docs/tund.md says as whom the service runs, what it can do and how it is rated.
func TestUnit_isWhatTheManualSays(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/tund.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## The service\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for key, want := range map[string]string{
		"User": "tund", "Group": "tund", "CapabilityBoundingSet": "CAP_NET_ADMIN", "AmbientCapabilities": "CAP_NET_ADMIN",
		"RuntimeDirectory": "tund/%i", "RuntimeDirectoryMode": "0750",
		"StateDirectory": "tund/%i", "StateDirectoryMode": "0700",
	} {
		if got := unitValues(t, key); !slices.Equal(got, []string{want}) {
			t.Errorf("%s=%q, want %s", key, got, want)
		}
	}
	rating := maxExposure[:1] + "." + maxExposure[1:]
	for _, said := range []string{
		"system user `tund`", "one capability, CAP_NET_ADMIN", "rates it " + rating, "`/etc/tund` has mode 2750 and the group `tund`",
		"CapabilityBoundingSet=CAP_NET_BIND_SERVICE` and `AmbientCapabilities=CAP_NET_BIND_SERVICE",
	} {
		if !strings.Contains(strings.Join(strings.Fields(section), " "), said) {
			t.Errorf("docs/tund.md does not say %q", said)
		}
	}
}

// What the service needs before it starts is made by systemd's own tools, in a root of its own
// here.
func TestUserAndDirectories_areMade(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give directories away")
	}
	root := t.TempDir()
	run := func(tool string, args ...string) {
		t.Helper()
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Skipf("%s is not installed (Debian: systemd)", tool)
		}
		if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", tool, args, err, out)
		}
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	run("systemd-sysusers", "--root="+root, here+"/sysusers.d/tund.conf")
	users, err := os.ReadFile(root + "/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^tund:[^:]*:(\d+):(\d+):[^:]*:/:\S*nologin$`).FindStringSubmatch(string(users))
	if m == nil {
		t.Fatalf("no user tund without a login:\n%s", users)
	}
	run("systemd-tmpfiles", "--create", "--root="+root, here+"/tmpfiles.d/tund.conf")
	for path, want := range map[string]string{
		"/etc/tund":      "drwxr-s--- root " + m[2],
		"/run/tund":      "drwxr-xr-x root 0",
		"/run/wireguard": "drwxrwxr-t root 0",
	} {
		out, err := exec.Command("stat", "-c", "%A %U %g", root+path).Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", path, got, err, want)
		}
	}
}
