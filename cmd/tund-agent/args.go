package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"go.uber.org/zap/zapcore"

	"tund/internal/rundir"
)

const usage = `usage: tund-agent -c FILE
       tund-agent status | request | leave | check [-c FILE | INSTANCE]
       tund-agent --version

Without a verb, run. With one, do this for the agent of an instance, or of a file, and exit;
without either, for the only one in /etc/tund/agent.

  status   print what the running agent knows (also --status)
  request  print what a signer needs to grant this site: tunctl net grant (also --request)
  leave    tell the other sites that this one leaves the network; its agent must be stopped
  check    check the configuration, with the certificates that it names (also --check, -t)

  -c, --config FILE      configuration of the agent
      --log-level LEVEL  debug, info, warn or error [info]
      --version          print the version and exit
`

// configDir holds the file of the agent of each instance.
const configDir = "/etc/tund/agent"

// The verbs. Without one, the agent runs.
const (
	verbStatus  = "status"
	verbRequest = "request"
	verbLeave   = "leave"
	verbCheck   = "check"
)

// command is one command line.
type command struct {
	verb, path  string
	level       zapcore.Level
	showVersion bool
}

// parse reads a command line. Verbs may be written as flags, too, but for one that writes.
func parse(args []string) (c command, err error) {
	f := flag.NewFlagSet("tund-agent", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	verb := func(name string) func(string) error {
		return func(string) error {
			if c.verb != "" && c.verb != name {
				return fmt.Errorf("%s and %s are two things", c.verb, name)
			}
			c.verb = name
			return nil
		}
	}
	for name, of := range map[string]string{"status": verbStatus, "request": verbRequest, "check": verbCheck, "t": verbCheck} {
		f.BoolFunc(name, "", verb(of))
	}
	for _, name := range []string{"c", "config"} {
		f.StringVar(&c.path, name, "", "")
	}
	level := f.String("log-level", "info", "")
	f.BoolVar(&c.showVersion, "version", false, "")
	var instance []string
	// Flags may follow what is none.
	for err = f.Parse(args); err == nil && f.NArg() > 0; err = f.Parse(f.Args()[1:]) {
		arg := f.Arg(0)
		if len(instance) > 0 || !slices.Contains([]string{verbStatus, verbRequest, verbLeave, verbCheck}, arg) {
			instance = append(instance, arg)
		} else if err := verb(arg)(""); err != nil {
			return c, err
		}
	}
	if err != nil || c.showVersion {
		return c, err
	}
	if c.level, err = zapcore.ParseLevel(*level); err != nil || c.level < zapcore.DebugLevel || c.level > zapcore.ErrorLevel {
		return c, fmt.Errorf("log level %q: want debug, info, warn or error", *level)
	}
	return c, c.find(instance)
}

// find sets the path of the file that the command is about.
func (c *command) find(instance []string) error {
	switch {
	case len(instance) > 1 || len(instance) == 1 && (c.verb == "" || c.path != ""):
		return fmt.Errorf("unexpected argument %q", instance[len(instance)-1])
	case c.path != "":
		return nil
	case len(instance) == 1:
		if err := rundir.CheckName(instance[0]); err != nil {
			return err
		}
		c.path = filepath.Join(configDir, instance[0]+".toml")
		return nil
	case c.verb == "":
		return errors.New("no configuration: give one with -c FILE")
	}
	files, err := filepath.Glob(filepath.Join(configDir, "*.toml"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("%s has %d files: give the name of an instance, or -c FILE", configDir, len(files))
	}
	c.path = files[0]
	return nil
}
