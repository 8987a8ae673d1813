package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"tund/config"
	"tund/internal/daemon"
	"tund/route/refused"
)

func TestParse_commandLines(t *testing.T) {
	t.Parallel()
	plain := command{logLevel: "info", logFormat: "console"}
	with := func(change func(*command)) command { c := plain; change(&c); return c }
	for _, test := range []struct {
		args string
		want command
		err  string
	}{
		{"-c a.toml", with(func(c *command) { c.config = "a.toml" }), ""},
		{"--config=a.toml --log-level debug -log-format json", command{config: "a.toml", logLevel: "debug", logFormat: "json"}, ""},
		{"-t -c a.toml", with(func(c *command) { c.config, c.check = "a.toml", true }), ""},
		{"--check -c a.toml", with(func(c *command) { c.config, c.check = "a.toml", true }), ""},
		{"--cleanup office", with(func(c *command) { c.cleanup = "office" }), ""},
		{"--version", with(func(c *command) { c.version = true }), ""},
		{"wg0", with(func(c *command) { c.device = "wg0" }), ""},
		{"-f wg0", with(func(c *command) { c.device, c.foreground = "wg0", true }), ""},
		{"--foreground wg%d", with(func(c *command) { c.device, c.foreground = "wg%d", true }), ""},
		{"-h", plain, errHelp.Error()},
		{"--help", plain, errHelp.Error()},
		{"", plain, "no configuration"},
		{"-t", plain, "no configuration"},
		{"-t wg0", plain, `unexpected argument "wg0"`},
		{"-c a.toml wg0", plain, `unexpected argument "wg0"`},
		{"--cleanup office wg0", plain, `unexpected argument "wg0"`},
		{"wg0 wg1", plain, `unexpected argument "wg1"`},
		{"-f -c a.toml", plain, "-f requires the name of an interface"},
		{"wg/0", plain, "interface name"},
		{"abcdefghijklmnop", plain, "interface name"},
		{"-t -c a.toml --log-level loud", plain, `log level "loud"`},
		{"--log-format xml wg0", plain, `log format "xml"`},
		{"--log-level debug wg0", plain, "LOG_LEVEL"},
		{"-t --cleanup office", plain, "stands alone"},
		{"-x", plain, "-x"},
		{"-c", plain, "-c"},
	} {
		got, err := parse(strings.Fields(test.args))
		switch {
		case test.err == "" && (err != nil || got != test.want):
			t.Errorf("%q: got %+v, %v, want %+v", test.args, got, err, test.want)
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
			t.Errorf("%q: error %v, want %q", test.args, err, test.err)
		}
	}
}

// write puts a file into a fresh directory.
func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

const (
	key  = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8="
	good = "[tunnel]\nprivate_key = \"" + key + "\"\nlisten_port = 1\n[tun]\n"
	peer = "[[peer]]\npublic_key = \"GatewayOf%s7cJ2mTz9RkWb4uHsYp1NdQfLx3g8=\"\nallowed_ips = [\"10.0.0.%d/32\"]\n"
)

func TestRun_exitCodesAndWhereWordsGo(t *testing.T) {
	t.Parallel()
	peers := fmt.Sprintf(peer, "Berlin", 1) + fmt.Sprintf(peer, "London", 2)
	fine := write(t, "office.toml", good+peers, 0o600)
	open := write(t, "office.toml", good+fmt.Sprintf(peer, "Berlin", 1), 0o604)
	faulty := write(t, "office.toml", good+"mtuu = 1\n[[peer]]\n", 0o600)
	keyless := write(t, "office.toml", "[tunnel]\nprivate_key_file = \"gone.key\"\n[tun]\n", 0o600)
	for _, test := range []struct {
		args           []string
		code           int
		stdout, stderr string // parts; "" means that nothing is said there
	}{
		{[]string{"--help"}, exitOK, usage, ""},
		{[]string{"--version"}, exitOK, "tund ", ""},
		{[]string{"--bad"}, exitUsage, "", "usage: tund -c FILE"},
		{[]string{"--cleanup", "../x"}, exitUsage, "", "instance name"},
		{[]string{"-t", "-c", fine}, exitOK, fine + ": ok, 2 peers\n", ""},
		{[]string{"-t", "-c", open}, exitOK, open + ": ok, 1 peer\n", open + ":1:1: warning: this file holds a secret and is open to others"},
		{[]string{"-t", "-c", faulty}, exitConfig, "", `:5:1: tun: unknown key "mtuu": did you mean "mtu"?`},
		{[]string{"-t", "-c", keyless}, exitConfig, "", ":2:20: tunnel: private_key_file: open "},
		{[]string{"-t", "-c", fine + ".gone"}, exitConfig, "", "office.toml.gone: no such file"},
		{[]string{"-c", fine, "--log-level", "loud"}, exitUsage, "", `"loud": want debug, info, warn or error`},
		{[]string{"-c", fine, "--log-format", "xml"}, exitUsage, "", `"xml": want console or json`},
		{[]string{"-c", faulty}, exitConfig, "", ":6:1: peer 1: public_key: missing"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(test.args, &stdout, &stderr)
		if code != test.code || !says(stdout.String(), test.stdout) || !says(stderr.String(), test.stderr) {
			t.Errorf("%q: exit code %d, want %d\nstdout %q, want %q\nstderr %q, want %q",
				test.args, code, test.code, stdout.String(), test.stdout, stderr.String(), test.stderr)
		}
		if strings.Contains(stdout.String()+stderr.String(), key) {
			t.Errorf("%q: the private key was printed", test.args)
		}
	}
}

// Anything that stays is a failure, also when all else is gone: scripts only see the exit code.
func TestCleanup_saysThatFilesStay(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	// No directory can be made below a file, not even by root.
	code := cleanup(write(t, "run", "", 0o600), "no-instance-of-this-name", &bytes.Buffer{}, &stderr)
	if code != exitFailure || !strings.Contains(stderr.String(), "its files stay: ") {
		t.Errorf("exit code %d, want %d; stderr %q", code, exitFailure, stderr.String())
	}
}

func TestCleanup_saysWhatItFound(t *testing.T) {
	t.Setenv("SERVICE_RESULT", "")
	if os.Geteuid() != 0 {
		t.Skip("needs root, to read the kernel's network state")
	}
	var stdout, stderr bytes.Buffer
	if code := cleanup(t.TempDir(), "no-instance-of-this-name", &stdout, &stderr); code != exitOK ||
		!strings.Contains(stdout.String(), "no-instance-of-this-name: nothing to clean up") {
		t.Errorf("exit code %d, said %q, %q", code, stdout.String(), stderr.String())
	}
}

func TestUsage_isShortWhenItIsWrong(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if code := run([]string{"--plan"}, &stdout, &stderr); code != exitUsage || strings.Count(stderr.String(), "\n") > 6 ||
		!strings.Contains(stderr.String(), "tund --help") {
		t.Errorf("exit code %d, said\n%s", code, stderr.String())
	}
}

func says(got, want string) bool { return (got == "") == (want == "") && strings.Contains(got, want) }

func TestExitCode_ofErrors(t *testing.T) {
	t.Parallel()
	permission := &os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}
	for _, test := range []struct {
		what string
		err  error
		want int
	}{
		{"anything", errors.New("x"), exitFailure},
		{"configuration", fmt.Errorf("reload: %w", config.Errors{{Msg: "x"}}), exitConfig},
		{"a file we may not read", fmt.Errorf("x: %w", permission), exitPermission},
		{"no /dev/net/tun", fmt.Errorf("x: %w", daemon.ErrNotPermitted), exitPermission},
		{"no CAP_NET_ADMIN", fmt.Errorf("x: %w", &refused.Error{Op: "add", Object: "route", Err: syscall.EPERM}), exitPermission},
		{"IPv6 switched off", fmt.Errorf("x: %w", &refused.Error{Op: "add", Object: "address", Err: syscall.EACCES}), exitFailure},
	} {
		if got := exitCode(test.err); got != test.want {
			t.Errorf("%s: exit code %d, want %d", test.what, got, test.want)
		}
	}
	if got := loadCode(permission); got != exitPermission {
		t.Errorf("unreadable file: exit code %d, want %d", got, exitPermission)
	}
	if got := loadCode(config.Errors{{Msg: permission.Error()}}); got != exitConfig {
		t.Errorf("unreadable key file: exit code %d, want %d", got, exitConfig)
	}
}

func TestAfterService_readsWhatSystemdSays(t *testing.T) {
	t.Parallel()
	for result, want := range map[string]removal{
		"": everything, "success": nothing, "exit-code": allButFences, "signal": allButFences, "timeout": allButFences,
	} {
		env := map[string]string{"SERVICE_RESULT": result}
		if got := afterService(func(name string) string { return env[name] }); got != want {
			t.Errorf("%v: %d, want %d", env, got, want)
		}
	}
}

func TestNewLogger_formats(t *testing.T) {
	t.Parallel()
	event := func(format, level string) string {
		var b bytes.Buffer
		log, at, err := newLogger(format, level, &b, false)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("not yet")
		at.SetLevel(zap.DebugLevel)
		log.Debug("now")
		log.Warn("two\nlines", zap.String("peer", "berlin"), zap.Duration("age", 90e9), zap.Error(errors.New("a\nb")))
		return b.String()
	}
	lines := strings.Split(strings.TrimSuffix(event("json", "info"), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	var entry struct{ Level, TS, Msg, Peer, Age, Error string }
	if err := json.Unmarshal([]byte(lines[1]), &entry); err != nil {
		t.Fatal(err)
	}
	if entry.Level != "warn" || entry.Msg != "two\nlines" || entry.Peer != "berlin" || entry.Age != "1m30s" || entry.Error != "a\nb" || len(entry.TS) < 20 {
		t.Errorf("entry %+v", entry)
	}
	console := event("console", "info")
	if got := strings.Count(console, "\n"); got != 3 || !strings.Contains(console, `WARN two`) || !strings.Contains(console, `"peer": "berlin"`) {
		t.Errorf("console:\n%s", console)
	}
	for _, bad := range [][2]string{{"xml", "info"}, {"json", "loud"}, {"json", "fatal"}, {"json", ""}} {
		if _, _, err := newLogger(bad[0], bad[1], &bytes.Buffer{}, false); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestSignals_stopReloadAndImpatience is not parallel: signals concern the whole process.
func TestSignals_stopReloadAndImpatience(t *testing.T) {
	exited := make(chan int, 1)
	s := catchSignals(func(code int) { exited <- code })
	defer s.close()
	var b bytes.Buffer
	log, _, err := newLogger("console", "info", &b, false)
	if err != nil {
		t.Fatal(err)
	}
	s.say(log)
	send := func(sig syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
	}
	send(syscall.SIGHUP)
	<-s.reload
	if s.ctx.Err() != nil {
		t.Error("SIGHUP stops")
	}
	send(syscall.SIGTERM)
	<-s.ctx.Done()
	send(syscall.SIGINT)
	send(syscall.SIGTERM)
	if code := <-exited; code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	if n := strings.Count(b.String(), "\n"); n != 3 || !strings.Contains(b.String(), "already stopping") {
		t.Errorf("log:\n%s", b.String())
	}
}

// TestLogger_forTheJournal: priorities before each line, and no second time.
func TestLogger_forTheJournal(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log, level, err := newLogger("console", "info", &b, true)
	if err != nil {
		t.Fatal(err)
	}
	level.SetLevel(zap.DebugLevel)
	log = log.With(zap.String("instance", "office"))
	log.Debug("d")
	log.Info("i")
	log.Warn("w")
	log.Error("two\nlines")
	want := "<7>DEBUG d {\"instance\": \"office\"}\n<6>INFO i {\"instance\": \"office\"}\n<4>WARN w {\"instance\": \"office\"}\n" +
		"<3>ERROR two\n<3>lines {\"instance\": \"office\"}\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	b.Reset()
	if log, _, err = newLogger("json", "info", &b, true); err != nil {
		t.Fatal(err)
	}
	log.Info("i")
	if !strings.HasPrefix(b.String(), `<6>{"level":"info","ts":"`) {
		t.Errorf("JSON: %s", b.String())
	}
	b.Reset()
	w := journalWriter{&b, zap.ErrorLevel}
	if n, err := fmt.Fprint(w, "a.toml:1:1: x\na.toml:2:1: y\n"); n != 28 || err != nil || b.String() != "<3>a.toml:1:1: x\n<3>a.toml:2:1: y\n" {
		t.Errorf("printed %q, %d, %v", b.String(), n, err)
	}
}

// full is a standard output on a full disk.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestRun_whatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	good := write(t, "office.toml", "[tunnel]\nprivate_key = \""+strings.Repeat("A", 42)+"E=\"\n[tun]\n", 0o600)
	for _, args := range [][]string{{"--version"}, {"--help"}, {"--check", "-c", good}} {
		var errs bytes.Buffer
		if code := run(args, full{}, &errs); code != exitFailure || !strings.Contains(errs.String(), "tund: no space left on device") {
			t.Errorf("tund %s: %d %q", strings.Join(args, " "), code, &errs)
		}
	}
}
