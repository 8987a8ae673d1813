package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/control"
	"tund/internal/events"
	"tund/internal/rundir"
	"tund/internal/screen"
	"tund/internal/screen/screentest"
	"tund/internal/unixsock/unixsocktest"
)

// fake is a Backend.
type fake struct {
	instance control.Instance
	level    atomic.Value
	reload   error
	confirm  time.Duration // of the last reload
	pinned   atomic.Value
	changed  atomic.Value
	pings    atomic.Int64
	onPing   func(n int64) // nil: nothing
	lossy    bool          // every other echo request has no answer
	noEcho   error         // nil: the peer answers echo requests
	routes   control.RouteInstance
	events   *events.Log
}

func (f *fake) Events() *events.Log { return f.events }

func (f *fake) Status() control.Instance { return f.instance }
func (f *fake) FDB() control.FDBInstance {
	return control.FDBInstance{Name: f.instance.Name, FDB: f.instance.FDB, Limit: f.instance.FDBLimit}
}
func (f *fake) Sources() []control.Source {
	return []control.Source{{Name: "file", Peers: 4}, {Name: "agent", Generation: 7, Epoch: "one", Peers: 1, Rejected: 2}}
}
func (f *fake) Reload(confirm time.Duration) error {
	f.confirm = confirm
	return f.reload
}

func (f *fake) Confirm() error { return f.reload }

func (f *fake) LogLevel() string { return f.level.Load().(string) }
func (f *fake) SetLogLevel(level string) error {
	f.level.Store(level)
	return nil
}
func (f *fake) FlushFDB(filter control.FDBFilter) (int, error) {
	if f.instance.FDBLimit == 0 {
		return 0, &control.Error{Code: control.CodeUnsupported, Message: "this instance has no [tap]"}
	}
	if filter.Port != "" {
		return 1, nil
	}
	return 4, nil
}
func (f *fake) Routes() (control.RouteInstance, error) { return f.routes, nil }
func (f *fake) ChangePeer(change control.PeerChange) error {
	f.changed.Store(change)
	return nil
}
func (f *fake) Capture(control.CaptureRequest) (control.Capture, error) {
	return nil, &control.Error{Code: control.CodeBusy, Message: "4 captures are running already"}
}

func (f *fake) Ping(_ context.Context, r control.PingRequest) (control.PingAnswer, error) {
	n := f.pings.Add(1)
	if f.onPing != nil {
		f.onPing(n)
	}
	if f.noEcho != nil {
		return control.PingAnswer{}, f.noEcho
	}
	if f.lossy && n%2 == 0 {
		return control.PingAnswer{Reason: "no answer"}, nil
	}
	rtt := 0.001 * float64(n)
	return control.PingAnswer{RTTS: &rtt}, nil
}
func (f *fake) PinFDB(pin control.FDBPin) error {
	f.pinned.Store(pin)
	return nil
}

// world is a run directory with instances in it, and a terminal.
type world struct {
	t      *testing.T
	dir    string
	env    map[string]string
	stdin  string
	width  int
	height int
	expose bool
	// programs is called in place of programs that tunctl starts.
	programs func(ctx context.Context, program string, args ...string) error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, dir: unixsocktest.Dir(t), env: map[string]string{"LANG": "en_US.UTF-8"}}
}

// start serves an instance.
func (w *world) start(i control.Instance) *fake {
	w.t.Helper()
	f := &fake{instance: i, events: events.New(screentest.Noon())}
	f.level.Store("info")
	s, err := control.Listen(control.Options{RunDir: w.dir, Instance: i.Name, Version: i.Version})
	if err != nil {
		w.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(f) }()
	w.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			w.t.Error(err)
		}
		if err := <-served; err != nil {
			w.t.Error(err)
		}
	})
	return f
}

// run executes a command line, and returns what it printed with the run directory written as $RUN.
func (w *world) run(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, w.environment(&out, &errs))
	return code, strings.ReplaceAll(out.String(), w.dir, "$RUN"), strings.ReplaceAll(errs.String(), w.dir, "$RUN")
}

// environment is what tunctl sees of the world.
func (w *world) environment(out, errs io.Writer) *environment {
	return &environment{
		stdin: strings.NewReader(w.stdin), stdout: out, stderr: errs, now: screentest.Noon, runDir: w.dir, user: "ana",
		getenv: func(name string) string { return w.env[name] }, width: w.width, height: w.height, exposed: w.expose, configDir: filepath.Join(w.dir, "etc"),
		run: w.programs, sysNet: filepath.Join(w.dir, "net"),
	}
}

// expect runs a command line and compares the code, and that the outputs hold the given texts.
func (w *world) expect(code int, stdout, stderr string, args ...string) {
	w.t.Helper()
	gotCode, gotOut, gotErr := w.run(args...)
	if gotCode != code {
		w.t.Errorf("tunctl %s: exit code %d, want %d", strings.Join(args, " "), gotCode, code)
	}
	for what, x := range map[string][2]string{"stdout": {gotOut, stdout}, "stderr": {gotErr, stderr}} {
		if x[1] == "" && x[0] != "" || !strings.Contains(x[0], x[1]) {
			w.t.Errorf("tunctl %s: %s is\n%s\nwant in it: %q", strings.Join(args, " "), what, x[0], x[1])
		}
	}
}

func TestRun_everyVerbTalksToItsInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.start(screentest.Office())
	w.expect(0, "✗ 2 problems - 4 peers", "")
	w.expect(0, "✗ 2 problems - 4 peers", "", "status")
	w.expect(0, "branch-berlin  ● up for 1d2h", "", "status", "branch-berlin")
	w.expect(0, "branch-berlin  ● up", "", "status", "branch-b")
	w.expect(0, "branch-berlin  ● up", "", "status", "berlinx")
	w.expect(0, "4 of 16384 entries", "", "fdb")
	w.expect(0, "agent       1         0        2    never           7  one", "", "sources")
	w.expect(0, `"generation": 7`, "", "sources", "--json")
	w.expect(0, "4 of 16384 entries", "", "fdb", "show")
	w.expect(0, "02:00:00:00:00:02", "", "fdb", "show", "02-00-00-00-00-02")
	w.expect(0, "02:00:00:00:00:01", "", "fdb", "show", "10.9.1.7")
	w.expect(0, "02:00:00:00:00:04", "", "fdb", "show", "eth1")
	w.expect(0, "02:00:00:00:00:03", "", "fdb", "show", "vm-host-3")
	w.expect(1, "", "nothing is known about 10.9.1.8", "fdb", "show", "10.9.1.8")
	w.expect(1, `"fdb": []`, "nothing is known about 10.9.1.8", "fdb", "show", "10.9.1.8", "--json")
	w.expect(2, "", "fdb show takes [MAC | IP | PORT], and was given 2 arguments", "fdb", "show", "a", "b")
	w.expect(0, "office: flushed 4 entries", "", "fdb", "flush")
	w.expect(0, "office: flushed 1 entry", "", "fdb", "flush", "--port", "vm-host-3", "--vlan", "0")
	w.expect(0, "office: pinned 02:00:00:00:00:0a to vm-host-3", "", "fdb", "pin", "02-00-00-00-00-0A", "vm-host-3", "--vlan", "7")
	if got, want := f.pinned.Load(), (control.FDBPin{MAC: "02:00:00:00:00:0a", VLAN: 7, Port: "vm-host-3"}); got != want {
		t.Errorf("pinned %+v, want %+v", got, want)
	}
	w.expect(0, "office: reloaded", "", "-i", "office", "reload")
	w.expect(0, "office: reloaded; the former configuration comes back in 1m30s unless you run: tunctl -i office confirm", "",
		"reload", "--confirm", "90s")
	if f.confirm != 90*time.Second {
		t.Errorf("confirmation within %v, want 90s", f.confirm)
	}
	w.expect(2, "", "--confirm: time for a confirmation 10ms: want 1s to 24h0m0s", "reload", "--confirm", "10ms")
	w.expect(2, "", "--confirm", "reload", "--confirm", "soon")
	w.expect(0, "office: confirmed", "", "confirm")
	w.expect(0, "office: info", "", "log-level")
	w.expect(0, "office: debug", "", "log-level", "debug")
	w.expect(0, "office: debug", "", "log-level")
	w.expect(0, "office: tund 1.4.0 go1", "", "version")

	f.reload = &control.Error{Code: control.CodeConfig, Message: "office.toml:3:1: unknown key \"prot\"\noffice.toml:9:1: bad"}
	w.expect(78, "", "office: reload refused, the old configuration stays in force:\noffice.toml:3:1", "reload")
}

func TestRun_jsonIsOneDocumentOverAllInstances(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start(screentest.Office())
	w.start(screentest.Lab())
	code, out, errs := w.run("status", "--json")
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d, stderr %q", code, errs)
	}
	var document control.Status
	decoder := json.NewDecoder(strings.NewReader(out))
	if err := decoder.Decode(&document); err != nil || decoder.More() {
		t.Fatalf("not one document: %v", err)
	}
	if document.Schema != "tund.status/v1" || len(document.Instances) != 2 || document.Instances[0].Name != "lab" || document.Instances[1].Name != "office" {
		t.Errorf("got %s with %d instances", document.Schema, len(document.Instances))
	}
	if strings.Contains(out, "\x1b") {
		t.Error("an escape character went through")
	}
	w.expect(0, `"schema": "tund.fdb/v1"`, "", "fdb", "--json")
	code, out, _ = w.run("status", "branch-oslo", "--json")
	if err := json.Unmarshal([]byte(out), &document); code != 0 || err != nil || len(document.Instances) != 1 || len(document.Instances[0].Peers) != 1 {
		t.Errorf("status PEER --json: %d, %v", code, err)
	}
}

func TestRun_failuresSayCausePlaceAndNextStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expect(69, "", "tunctl: no instance is running: no control socket below $RUN (start one: systemctl start tund@NAME")
	w.expect(69, `"instances": []`, "no instance is running", "--json")
	w.expect(69, "", `tunctl: cannot reach $RUN/office/control.sock: no such file or directory - instance "office" is not running`, "-i", "office", "reload")

	w.start(screentest.Office())
	w.start(screentest.Lab())
	w.expect(69, "", "running: lab, office)", "-i", "munich")
	w.expect(2, "", "several instances are running: choose one with -i (lab, office)", "reload")
	w.expect(2, "", "choose one with -i", "fdb", "flush")
	w.expect(1, "", "lab: flush: this instance has no [tap]", "-i", "lab", "fdb", "flush")
	w.expect(1, "", `no peer "munich" (there is `, "status", "munich")
	w.expect(1, "", `no peer "laptop-anna": did you mean "laptop-ana"?`, "status", "laptop-anna")
	w.expect(1, "", `"branch-" fits 2 peers: branch-berlin, branch-oslo`, "status", "branch-")

	w.expect(2, "", "unknown command \"stauts\"", "stauts")
	w.expect(2, "", "unknown flag: --jsom", "status", "--jsom")
	w.expect(2, "", `unknown command "list"`, "fdb", "list")
	w.expect(2, "", `unknown command "nosh" for "tunctl completion"`, "completion", "nosh")
	w.expect(2, "", `unknown command "nope" for "tunctl"`, "help", "nope")
	w.expect(2, "", `unknown command "nope" for "tunctl peer"`, "help", "peer", "nope")
	w.expect(0, "Show everything about one peer", "", "help", "peer", "show")
	w.expect(0, "tunctl queries and controls", "", "help")
	w.expect(0, "# bash completion", "", "completion", "bash")
	w.expect(2, "", `unexpected argument "x": tunctl genkey takes none`, "genkey", "x")
	w.expect(2, "", "tunctl: fdb pin takes MAC PORT, and was given 1 argument\nSee: tunctl fdb pin --help\n", "fdb", "pin", "02:00:00:00:00:01")
	w.expect(2, "", "is not a MAC address", "-i", "office", "fdb", "pin", "02:00:00:00:00", "a")
	w.expect(2, "", "--mac: ", "-i", "office", "fdb", "flush", "--mac", "ff:ff:ff:ff:ff:ff")
	w.expect(2, "", "--vlan: 5000 is not between 0", "-i", "office", "fdb", "flush", "--vlan", "5000")
	w.expect(2, "", "--vlan: -1 is not between 0", "-i", "office", "fdb", "pin", "02:00:00:00:00:01", "vm-host-3", "--vlan", "-1")
	w.expect(2, "", "filter, at \"hots\" (character 1): want peer NAME", "-i", "office", "capture", "-w", "f", "hots", "10.9.0.1")
	w.expect(2, "", `log level "loud" is not one of`, "-i", "office", "log-level", "loud")
	w.expect(2, "", `--color "blue" is not one of`, "--color", "blue")
	w.expect(2, "", `-i: instance name "../x" begins with`, "-i", "../x")

	// A daemon that was killed leaves a socket nobody serves; the others are shown all the same.
	if err := os.Mkdir(filepath.Join(w.dir, "dead"), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: rundir.ControlSocket(w.dir, "dead")})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	w.expect(69, "2 instances, 6 peers", `dead/control.sock: connection refused - instance "dead" ended without cleaning up`)
}

func TestApp_permissionProblemsEndWith77(t *testing.T) {
	t.Parallel()
	a := &app{env: &environment{user: "ana"}, started: true}
	for _, err := range []error{
		&control.DialError{Instance: "office", Socket: "/run/tund/office/control.sock", Err: os.ErrPermission},
		&control.Error{Code: control.CodePermission, Message: "only root"},
		&os.PathError{Op: "open", Path: "/run/tund", Err: os.ErrPermission},
	} {
		f := a.explain(fmt.Errorf("wrapped: %w", err))
		if f.Code != exit.Permission || !strings.Contains(f.Text, "try sudo") {
			t.Errorf("%v: got %d %q", err, f.Code, f.Text)
		}
	}
}

func TestRun_keysAreThoseOfWireGuard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// RFC 7748 §6.1, Alice.
	w.stdin = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n"
	w.expect(0, "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n", "", "pubkey")
	for _, verb := range []string{"genkey", "genpsk"} {
		_, first, _ := w.run(verb)
		_, second, _ := w.run(verb)
		if len(first) != 45 || first == second {
			t.Errorf("%s: %q, then %q", verb, first, second)
		}
		w.expose = true
		w.expect(0, "=", "others may read this file", verb)
		w.expose = false
	}
	for _, bad := range []string{"", "short", strings.Repeat("A", 5000)} {
		w.stdin = bad
		code, out, errs := w.run("pubkey")
		if code != 1 || out != "" || !strings.Contains(errs, "not a private key") || bad != "" && strings.Contains(errs, bad) {
			t.Errorf("pubkey of %.10q: %d %q %q", bad, code, out, errs)
		}
	}
}

func TestEnvironment_styleFollowsTerminalAndLocale(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flag  string
		width int
		env   map[string]string
		want  screen.Style
	}{
		{"auto", 80, map[string]string{"LANG": "de_DE.UTF-8"}, screen.Style{Color: true, UTF8: true, Width: 80}},
		{"auto", 80, map[string]string{"LANG": "C.utf8"}, screen.Style{Color: true, UTF8: true, Width: 80}},
		{"auto", 80, map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, screen.Style{Color: true, Width: 80}},
		{"auto", 80, map[string]string{"LC_CTYPE": "en_US.UTF-8"}, screen.Style{Color: true, UTF8: true, Width: 80}},
		{"auto", 80, map[string]string{"NO_COLOR": "1"}, screen.Style{Width: 80}},
		{"auto", 80, map[string]string{"TERM": "dumb"}, screen.Style{Width: 80}},
		{"auto", 0, nil, screen.Style{}},
		{"never", 80, nil, screen.Style{Width: 80}},
		{"always", 0, map[string]string{"NO_COLOR": "1"}, screen.Style{Color: true}},
	} {
		e := &environment{width: c.width, getenv: func(name string) string { return c.env[name] }}
		if got, err := e.style(c.flag); got != c.want || err != nil {
			t.Errorf("--color %s, %d columns, %v: got %+v, %v; want %+v", c.flag, c.width, c.env, got, err, c.want)
		}
	}
}

func TestRun_saysWhyThereIsNoConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expect(exit.Misused, "", "no configuration in $RUN/etc: name its file", "check")
	w.expect(exit.Misused, "", "no configuration in $RUN/etc: name its file", "export")
	if os.Geteuid() == 0 {
		t.Skip("root may read every directory")
	}
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(closed, 0); err != nil {
		t.Fatal(err)
	}
	a := &app{env: &environment{configDir: closed, runDir: t.TempDir()}}
	_, err := a.configPath(t.Context())
	var f *exit.Failure
	if !errors.As(err, &f) || f.Code != exit.Permission || !strings.HasSuffix(f.Text, "permission denied (try sudo)") {
		t.Errorf("a directory that may not be read: %v", err)
	}
}
