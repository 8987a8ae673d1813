package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

const usage = `usage: tund -c FILE [--check [--plan]]
       tund [-f] INTERFACE
       tund --cleanup INSTANCE
       tund --version

  -c, --config FILE      configuration of the instance; its name is the file's, without .toml
  -t, --check            check the configuration, report all mistakes, and exit
      --plan             with --check: also print what a start or reload would change in the kernel
  -f, --foreground       with INTERFACE: stay in the foreground
      --cleanup INSTANCE remove what a killed instance left in the kernel, and exit
      --log-level LEVEL  debug, info, warn or error [info]
      --log-format FORM  console or json [console]
      --version          print the version and exit

With INTERFACE, tund creates a TUN device for wg(8), which is what wg-quick(8) asks for with
WG_QUICK_USERSPACE_IMPLEMENTATION=tund. It then reads the environment variables LOG_LEVEL (verbose,
info, warn, error or silent), WG_PROCESS_FOREGROUND=1, WG_TUN_FD and WG_UAPI_FD.

Signals: SIGHUP reloads the configuration, SIGTERM and SIGINT stop the instance.
`

// synopsis is the beginning of usage, for a command line that is wrong.
func synopsis() string {
	forms, _, _ := strings.Cut(usage, "\n\n")
	return forms + "\n`tund --help` explains them.\n"
}

// command is what the command line asks for.
type command struct {
	config, cleanup     string
	device              string // INTERFACE
	foreground          bool
	check, plan         bool
	version             bool
	logLevel, logFormat string
}

var errHelp = errors.New("help wanted")

// flags are those of the command line, which fill c. docs/tund.md describes them, checked by a
// test.
func (c *command) flags() *flag.FlagSet {
	f := flag.NewFlagSet("tund", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	for _, name := range []string{"c", "config"} {
		f.StringVar(&c.config, name, "", "")
	}
	for _, name := range []string{"t", "check"} {
		f.BoolVar(&c.check, name, false, "")
	}
	f.BoolVar(&c.plan, "plan", false, "")
	for _, name := range []string{"f", "foreground"} {
		f.BoolVar(&c.foreground, name, false, "")
	}
	f.StringVar(&c.cleanup, "cleanup", "", "")
	f.StringVar(&c.logLevel, "log-level", "info", "")
	f.StringVar(&c.logFormat, "log-format", "console", "")
	f.BoolVar(&c.version, "version", false, "")
	return f
}

// parse reads the command line. An error is about usage.
func parse(args []string) (command, error) {
	var c command
	f := c.flags()
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, errHelp
		}
		return c, err
	}
	if _, err := logLevel(c.logLevel); err != nil {
		return c, err
	}
	levelGiven := false
	f.Visit(func(given *flag.Flag) { levelGiven = levelGiven || given.Name == "log-level" })
	switch {
	case c.logFormat != "console" && c.logFormat != "json":
		return c, fmt.Errorf("log format %q: want console or json", c.logFormat)
	case c.plan && !c.check:
		return c, errors.New("--plan requires --check")
	case c.cleanup != "" && (c.config != "" || c.check || c.foreground):
		return c, errors.New("--cleanup INSTANCE stands alone")
	case c.version, c.cleanup != "" && f.NArg() == 0:
		return c, nil
	case f.NArg() == 1 && c.config == "" && c.cleanup == "" && !c.check:
		if levelGiven {
			return c, errors.New("--log-level has no effect on an interface for wg(8): set LOG_LEVEL in the environment")
		}
		c.device = f.Arg(0)
		return c, checkInterface(c.device)
	case f.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q", f.Arg(f.NArg()-1))
	case c.config == "":
		return c, errors.New("no configuration: give one with -c FILE, or the name of an interface for wg(8)")
	case c.foreground:
		return c, errors.New("-f requires the name of an interface; with -c tund always stays in the foreground")
	}
	return c, nil
}
