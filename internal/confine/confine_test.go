package confine

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// envChild makes this program the process that confines itself, with that directory to try things
// in.
const envChild = "TUND_TEST_CONFINE"

// TestFiles runs itself in another process, because confinement is for good.
func TestFiles(t *testing.T) {
	if dir := os.Getenv(envChild); dir != "" {
		confined(t, dir)
		return
	}
	t.Parallel()
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 {
		t.Skipf("this kernel has no Landlock: %v", errno)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestFiles$", "-test.v")
	cmd.Env = append(os.Environ(), envChild+"="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func confined(t *testing.T, dir string) {
	conf, run, secret := filepath.Join(dir, "conf"), filepath.Join(dir, "run"), filepath.Join(dir, "secret")
	key := filepath.Join(conf, "office.key")
	if err := errors.Join(os.Mkdir(conf, 0o700), os.Mkdir(run, 0o700), os.WriteFile(key, []byte("1"), 0o600),
		os.WriteFile(secret, []byte("2"), 0o600)); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(secret)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := Files(Tree{
		Read: []string{conf, filepath.Join(dir, "gone")}, Write: []string{run}, Device: []string{"/dev/net/tun"},
	}); err != nil {
		t.Fatal(err)
	}
	replace := func() error { return os.WriteFile(key, []byte("3"), 0o600) }
	read := func(path string) error { _, err := os.ReadFile(path); return err }
	listen := func(path string) error {
		l, err := net.Listen("unix", path)
		if err == nil {
			err = l.Close()
		}
		return err
	}
	for _, try := range []struct {
		what    string
		err     error
		allowed bool
	}{
		{"read a key", read(key), true},
		{"read another file", read(secret), false},
		{"change a key", replace(), false},
		{"make a file beside it", os.WriteFile(filepath.Join(conf, "x"), nil, 0o600), false},
		{"make an instance's directory", os.Mkdir(filepath.Join(run, "office"), 0o750), true},
		{"make its lock", os.WriteFile(filepath.Join(run, "office", "lock"), []byte("1"), 0o600), true},
		{"make its socket", listen(filepath.Join(run, "office", "sock")), true},
		{"remove them", os.RemoveAll(filepath.Join(run, "office")), true},
		{"make a socket elsewhere", listen(filepath.Join(dir, "sock")), false},
		{"run a program", exec.Command("/bin/true").Run(), false},
	} {
		switch {
		case try.allowed && try.err != nil:
			t.Errorf("may not %s: %v", try.what, try.err)
		case !try.allowed && !errors.Is(try.err, os.ErrPermission):
			t.Errorf("may %s: %v", try.what, try.err)
		}
	}
	if _, err := open.Read(make([]byte, 1)); err != nil {
		t.Errorf("may not go on with a file that was open: %v", err)
	}
	if tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err == nil {
		tun.Close()
	} else if errors.Is(err, unix.EACCES) && os.Geteuid() == 0 {
		t.Errorf("may not open /dev/net/tun: %v", err)
	}
}

func TestUndumpable_keepsOthersOut(t *testing.T) {
	if err := Undumpable(); err != nil {
		t.Fatal(err)
	}
	if got, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || got != 0 {
		t.Errorf("dumpable %d, %v", got, err)
	}
}

func TestAround_followsSymbolicLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/a", 0o700), os.Mkdir(dir+"/b", 0o700), os.WriteFile(dir+"/b/x", nil, 0o600),
		os.Symlink("../b/x", dir+"/a/x")); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][]string{
		dir + "/a/x": {dir + "/a", dir + "/b"}, dir + "/b/x": {dir + "/b"}, dir + "/a/gone": {dir + "/a"}, "x.toml": {"."},
	} {
		if got := Around(file); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}
