// Command tund is the tunnel daemon: it runs one instance from one configuration file, in the
// foreground, or one device for WireGuard's tools, in the background.
//
//	tund -c /etc/tund/office.toml           run
//	tund -c /etc/tund/office.toml --check   say what is wrong with the file, and exit
//	tund wg0                                make a device for wg(8), in the background
//	tund --cleanup office                   remove what a killed instance left in the kernel
//
// It logs to standard error and ends with 0 after SIGTERM or SIGINT, 1 when something failed at run
// time, 2 for wrong usage, 77 when it lacks a permission and 78 when the configuration has a fault.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"tund/config"
	"tund/internal/buildinfo"
	"tund/internal/confine"
	"tund/internal/daemon"
	"tund/internal/desired"
	"tund/internal/heap"
	"tund/internal/output"
	"tund/internal/rundir"
	"tund/internal/stamps"
	"tund/internal/trial"
	"tund/internal/uapi"
	"tund/route"
	"tund/route/refused"
)

// version is set by the Makefile.
var version = ""

// Exit codes: sysexits.h where it has one.
const (
	exitOK         = 0
	exitFailure    = 1
	exitUsage      = 2
	exitPermission = 77
	exitConfig     = 78
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run executes one command line and returns the exit code. What could not be written to standard
// output is a failure.
func run(args []string, stdout, stderr io.Writer) int {
	out := output.New(stdout)
	code := execute(args, out, stderr)
	if err := out.Err(); err != nil && code == exitOK {
		fmt.Fprintf(stderr, "tund: %v\n", err)
		return exitFailure
	}
	return code
}

func execute(args []string, stdout, stderr io.Writer) int {
	c, err := parse(args)
	switch {
	case errors.Is(err, errHelp):
		fmt.Fprint(stdout, usage)
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "tund: %v\n%s", err, synopsis())
		return exitUsage
	case c.version:
		fmt.Fprintf(stdout, "tund %s %s\n", buildinfo.Version(version), runtime.Version())
		return exitOK
	case c.cleanup != "":
		return cleanup("", c.cleanup, stdout, stderr)
	case c.device != "":
		return serveInterface(c, stderr)
	}
	if c.check {
		return check(c, stdout, stderr)
	}
	return serve(c, stderr)
}

// check says what is to be said about a configuration.
func check(c command, stdout, stderr io.Writer) int {
	cfg, err := config.Load(c.config)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return loadCode(err)
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(stderr, w)
	}
	peers := "peers"
	if len(cfg.Peers) == 1 {
		peers = "peer"
	}
	fmt.Fprintf(stdout, "%s: ok, %d %s\n", c.config, len(cfg.Peers), peers)
	if c.plan {
		return plan(cfg, stdout, stderr)
	}
	return exitOK
}

// plan says what a start or reload would change in the kernel.
func plan(cfg *config.Config, stdout, stderr io.Writer) int {
	changes, warnings, err := desired.Plan(cfg)
	for _, w := range warnings {
		fmt.Fprintln(stderr, w)
	}
	if err != nil {
		fmt.Fprintf(stderr, "tund: plan %s: %v\n", cfg.Instance, err)
		return exitCode(err)
	}
	for _, line := range changes {
		fmt.Fprintln(stdout, line)
	}
	if len(changes) == 0 {
		fmt.Fprintln(stdout, "nothing would change in the kernel")
	}
	return exitOK
}

// loadCode is the exit code for an error of config.Load: everything is the configuration's fault
// but that we may not read it.
func loadCode(err error) int {
	var faults config.Errors
	if !errors.As(err, &faults) && errors.Is(err, os.ErrPermission) {
		return exitPermission
	}
	return exitConfig
}

// serve runs the instance until a signal ends it.
func serve(c command, stderr io.Writer) int {
	outliveReaders()
	s := catchSignals(os.Exit)
	defer s.close()
	journal := toJournal(2)
	log, level, err := newLogger(c.logFormat, c.logLevel, stderr, journal)
	if journal {
		stderr = journalWriter{stderr, zapcore.ErrorLevel}
	}
	if err != nil {
		fmt.Fprintf(stderr, "tund: %v\n", err)
		return exitUsage
	}
	s.say(log)
	heap.Begin()
	cfg, err := config.Load(c.config)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return loadCode(err)
	}
	former := formerOf(cfg, log)
	if former != nil {
		cfg = former
	}
	schedule()
	heap.Suit(mostPeers(cfg))
	keepMemory(log)
	o := daemon.Options{
		Config: cfg, Former: former != nil, Log: log, Level: level, Version: buildinfo.Version(version), Reload: s.reload, Restart: s.again.Load,
		Confine: func() error { return confine.Files(filesOf(cfg)) },
	}
	if err := daemon.Run(s.ctx, o); err != nil {
		log.Error("instance ended: " + explained(err))
		return exitCode(err)
	}
	return exitOK
}

// mostPeers is how many peers the instance has, or may be given by its agent.
func mostPeers(c *config.Config) int {
	if c.Agent != nil {
		return len(c.Peers) + c.Agent.Peers
	}
	return len(c.Peers)
}

// formerOf returns the configuration that is to be in force instead of that of the file, because
// that was on trial when the instance ended; nil: there is none.
func formerOf(cfg *config.Config, log *zap.Logger) *config.Config {
	text, err := trial.Former(stamps.Dir(cfg.Instance), cfg.Source())
	if text == nil && err == nil {
		return nil
	}
	var former *config.Config
	if err == nil {
		former, err = config.Parse(cfg.Path, text)
	}
	if err != nil {
		log.Warn("the configuration of the file is in force, although it may have been on trial", zap.Error(err))
		return nil
	}
	return former
}

// schedule makes the scheduler fit the packet path: its loops sit in system calls, where each
// occupies a thread but no core, so there are to be more of Go's processors than those of the
// machine, or a loop that comes back from the kernel would have to wait for one.
func schedule() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	}
}

// cleanup removes what a killed instance left: kernel objects, and its files in the run directory.
// It holds the instance's claim meanwhile, so that it never takes anything from one that runs. What
// cannot be removed does not keep the rest from going, but the exit code says so. runDir "" is the
// default of internal/control.
func cleanup(runDir, instance string, stdout, stderr io.Writer) int {
	if toJournal(2) {
		stderr = journalWriter{stderr, zapcore.WarnLevel}
	}
	if err := rundir.CheckName(instance); err != nil {
		fmt.Fprintf(stderr, "tund: %v\n%s", err, synopsis())
		return exitUsage
	}
	_, missing := os.Stat(rundir.Instance(cmp.Or(runDir, rundir.Path()), instance))
	code := exitOK
	failed := func(what string, err error) {
		fmt.Fprintf(stderr, "tund: clean up %s: %s%v\n", instance, what, err)
		code = exitCode(err)
	}
	release, err := rundir.Hold(runDir, instance)
	if errors.Is(err, rundir.ErrRunning) {
		fmt.Fprintf(stderr, "tund: clean up %s: %v\n", instance, err)
		return exitFailure
	}
	if err == nil {
		defer release() // takes the files of the killed instance along
	} else {
		failed("its files stay: ", err)
	}
	// WireGuard's socket bears the name of the device, which is usually that of the instance;
	// otherwise the next start replaces it.
	if err := uapi.RemoveStale("", instance); err != nil {
		failed("", err)
	}
	what := afterService(os.Getenv)
	removed, err := what.remove(instance)
	if err != nil {
		failed("", err)
	}
	switch {
	case code != exitOK || what != everything:
		// In the journal of a service, a success is not worth a line.
	case removed == 0 && errors.Is(missing, os.ErrNotExist):
		fmt.Fprintf(stdout, "%s: nothing to clean up: the kernel has nothing of an instance of this name\n", instance)
	default:
		fmt.Fprintf(stdout, "%s: cleaned up, %d objects of the kernel removed\n", instance, removed)
	}
	return code
}

// removal is what cleanup removes from the kernel.
type removal int

const (
	everything   removal = iota
	allButFences         // not what keeps traffic from leaving in the clear
	nothing
)

func (r removal) remove(instance string) (removed int, err error) {
	switch r {
	case nothing:
		return 0, nil
	case allButFences:
		return route.CleanupClosed(instance)
	}
	return route.Cleanup(instance)
}

// afterService tells what is to be removed if systemd calls us after a service has ended
// (ExecStopPost= in tund@.service; systemd.exec(5) on $SERVICE_RESULT). After a success, the
// service itself has removed what was to go, and what it has left is for its next process. After a
// failure, what keeps traffic from leaving in the clear stays: it has to be there until the service
// runs again, even if that takes a corrected configuration.
func afterService(getenv func(string) string) removal {
	switch getenv("SERVICE_RESULT") {
	case "":
		return everything
	case "success":
		return nothing
	}
	return allButFences
}

// explained is the text of an error, with the next step where it depends on the process alone.
func explained(err error) string {
	if errors.Is(err, syscall.EMFILE) {
		return err.Error() + ": raise the limit for this process (`ulimit -n`, or LimitNOFILE= in the unit)"
	}
	return err.Error()
}

func exitCode(err error) int {
	var faults config.Errors
	var refusal *refused.Error
	switch {
	case errors.Is(err, daemon.ErrNotPermitted):
		return exitPermission
	case errors.As(err, &faults):
		return exitConfig
	case errors.As(err, &refusal) && errors.Is(refusal.Err, syscall.EACCES):
		// What the kernel says where IPv6 is switched off; for want of a privilege it says EPERM.
		return exitFailure
	case errors.Is(err, os.ErrPermission):
		return exitPermission
	}
	return exitFailure
}
