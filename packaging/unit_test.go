// Package packaging holds what is installed beside the programs: the systemd unit and small configuration files.
// Its tests check them with systemd's own tools; there is no code here.
package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// maxExposure is what `systemd-analyze security` may say, times ten.
const maxExposure = "20"

// analyze runs systemd-analyze on the unit, with the programs it starts replaced by one that exists here.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed (Debian: systemd)")
	}
	unit, err := os.ReadFile("tund@.service")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`/usr/(sbin/tund|bin/tunctl)\b`).ReplaceAllString(string(unit), "/bin/true")
	path := filepath.Join(t.TempDir(), "tund@.service")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool, append(args, path)...).CombinedOutput()
	return string(out), err
}

func TestUnit_verifiesWithoutAWord(t *testing.T) {
	t.Parallel()
	out, err := analyze(t, "verify", "--man=no", "--recursive-errors=no")
	if err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestUnit_isSandboxed(t *testing.T) {
	t.Parallel()
	out, err := analyze(t, "security", "--offline=yes", "--no-pager", "--threshold="+maxExposure)
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
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
