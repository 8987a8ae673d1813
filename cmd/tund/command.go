package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
)

const usage = `usage: tund -c FILE [--check]
       tund --cleanup INSTANCE
       tund --version

  -c, --config FILE      configuration of the instance; its name is the file's, without .toml
  -t, --check            check the configuration, say everything that is wrong with it, and exit
      --cleanup INSTANCE remove what a killed instance left in the kernel, and exit
      --log-level LEVEL  debug, info, warn or error [info]
      --log-format FORM  console or json [console]
      --version          print the version and exit

Signals: SIGHUP reloads the configuration, SIGTERM and SIGINT stop the instance.
`

// command is what the command line asks for.
type command struct {
	config, cleanup     string
	check, version      bool
	logLevel, logFormat string
}

var errHelp = errors.New("help wanted")

// parse reads the command line. An error is about usage.
func parse(args []string) (command, error) {
	var c command
	f := flag.NewFlagSet("tund", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	for _, name := range []string{"c", "config"} {
		f.StringVar(&c.config, name, "", "")
	}
	for _, name := range []string{"t", "check"} {
		f.BoolVar(&c.check, name, false, "")
	}
	f.StringVar(&c.cleanup, "cleanup", "", "")
	f.StringVar(&c.logLevel, "log-level", "info", "")
	f.StringVar(&c.logFormat, "log-format", "console", "")
	f.BoolVar(&c.version, "version", false, "")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, errHelp
		}
		return c, err
	}
	switch {
	case f.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case c.version, c.cleanup != "":
		return c, nil
	case c.config == "":
		return c, errors.New("no configuration: give one with -c FILE")
	}
	return c, nil
}
