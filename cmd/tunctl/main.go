// Command tunctl queries and controls running instances of tund, translates and edits their
// configurations, and makes keys.
//
//	tunctl                     status of every instance
//	tunctl status berlin       everything about one peer
//	tunctl -i office reload    read the configuration again
//	tunctl import wg0.conf     a configuration from a file of wg-quick
//	tunctl genkey              a new private key
//
// It talks to the control socket of each instance (internal/control) and holds no state. It ends
// with 0, 1 when something failed, 2 for wrong usage, 4 or 5 when doctor has found warnings or
// problems, 69 when a daemon cannot be reached, 77 when it lacks a permission and 78 when a
// configuration has errors or a reload was refused. docs/tunctl.md lists every verb and flag.
//
// Deliberately not here: rates over more than the time it runs (scrape the daemon).
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/output"
	"tund/internal/rundir"
	"tund/internal/screen"
)

// version is set by the Makefile.
var version = ""

func main() {
	// A closed pipe (tunctl | head) is no reason to complain.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(os.Args[1:], system()))
}

// environment is everything of the outside world that tunctl looks at, so that tests can give it
// another one.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	now            func() time.Time
	run            func(ctx context.Context, program string, args ...string) error
	runDir         string
	sysNet         string                     // where sysfs describes the host's network devices
	configDir      string                     // of configurations, one for each instance
	user           string                     // login name, for hints; "" unknown
	width          int                        // of the terminal at stdout; 0: not a terminal
	height         int                        // of the same, in lines
	measure        func() (width, height int) // asks the terminal again
	progress       int                        // of the terminal at stderr, 0: none
	exposed        bool                       // stdout is a file that others may read
}

// system is the real environment.
func system() *environment {
	e := &environment{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, now: time.Now, run: runProgram, runDir: rundir.Path(),
		configDir: "/etc/tund", sysNet: "/sys/class/net",
	}
	if u, err := user.Current(); err == nil {
		e.user = u.Username
	}
	e.measure = func() (width, height int) {
		size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
		if err != nil {
			return 0, 0
		}
		// A terminal may not know its size.
		return cmp.Or(int(size.Col), 80), cmp.Or(int(size.Row), 24)
	}
	e.width, e.height = e.measure()
	if size, err := unix.IoctlGetWinsize(int(os.Stderr.Fd()), unix.TIOCGWINSZ); err == nil {
		e.progress = cmp.Or(int(size.Col), 80)
	}
	if info, err := os.Stdout.Stat(); err == nil {
		e.exposed = info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0
	}
	return e
}

// style decides how output may look. A --color on the command line beats the environment.
func (e *environment) style(color string) (screen.Style, error) {
	s := screen.Style{Width: e.width}
	switch color {
	case "auto":
		s.Color = e.width > 0 && e.getenv("NO_COLOR") == "" && e.getenv("TERM") != "dumb"
	case "always":
		s.Color = true
	case "never":
	default:
		return s, fmt.Errorf("--color %q is not one of auto, always, never", color)
	}
	locale := e.getenv("LC_ALL")
	for _, name := range []string{"LC_CTYPE", "LANG"} {
		if locale == "" {
			locale = e.getenv(name)
		}
	}
	locale = strings.ToLower(strings.ReplaceAll(locale, "-", ""))
	s.UTF8 = strings.Contains(locale, "utf8")
	return s, nil
}

// run executes one command line and returns the exit code.
func run(args []string, env *environment) int {
	out := output.New(env.stdout)
	if env.width == 0 { // a terminal has to be seen as one, and is never full
		env.stdout = out
	}
	a := &app{env: env}
	root := a.commands()
	root.SetArgs(append([]string{}, args...)) // of a nil slice cobra would make os.Args
	cmd, err := root.ExecuteContextC(context.Background())
	a.verb = cmd.CommandPath()
	if lost := out.Err(); lost != nil && (err == nil || errors.Is(err, lost)) {
		a.started = true // also for help: nothing is wrong with the command line
		err = lost       // of help and single lines, where nobody else looks at it
	}
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return exit.OK
	}
	var reported *exit.Reported
	if errors.As(err, &reported) {
		return reported.Code
	}
	f := a.explain(err)
	fmt.Fprintln(env.stderr, "tunctl: "+f.Text)
	return f.Code
}
