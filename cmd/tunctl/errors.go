package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"tund/internal/control"
)

// Exit codes: sysexits.h where it has one.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitUnreachable = 69
	exitPermission  = 77
	exitConfig      = 78
)

// failure is an error as the user reads it: cause, place and next step, and the exit code.
type failure struct {
	code int
	text string
}

func (f *failure) Error() string { return f.text }

// usage makes a failure out of a wrong command line.
func usage(format string, args ...any) error {
	return &failure{exitUsage, fmt.Sprintf(format, args...)}
}

// reported is an error that was printed already; only its exit code is left to use.
type reported struct{ code int }

func (*reported) Error() string { return "reported" }

// explain turns any error of a command into a failure.
func (a *app) explain(err error) *failure {
	var f *failure
	var dial *control.DialError
	var answer *control.Error
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &dial):
		return a.explainDial(dial)
	case errors.As(err, &answer):
		return explainAnswer(err, answer)
	case errors.Is(err, fs.ErrPermission):
		return &failure{exitPermission, err.Error() + " (try sudo)"}
	case !a.started: // cobra refused the command line before any of our code ran
		return &failure{exitUsage, strings.TrimSpace(err.Error()) + "\nSee: tunctl --help"}
	}
	return &failure{exitFailure, err.Error()}
}

// explainDial says why nobody answers, and what to do.
func (a *app) explainDial(e *control.DialError) *failure {
	switch {
	case e.Permission():
		text := e.Error() + ` - you are neither root nor in group "tund" (try sudo`
		if a.env.user != "" {
			text += ", or: usermod -aG tund " + a.env.user
		}
		return &failure{exitPermission, text + ")"}
	case e.Missing():
		text := e.Error() + fmt.Sprintf(" - instance %q is not running (start it: systemctl start tund@%s", e.Instance, e.Instance)
		if names, err := control.Instances(a.env.runDir); err == nil && len(names) > 0 {
			text += "; running: " + strings.Join(names, ", ")
		}
		return &failure{exitUnreachable, text + ")"}
	case e.Stale():
		return &failure{exitUnreachable, e.Error() + fmt.Sprintf(" - instance %q ended without cleaning up (see: systemctl status tund@%s)",
			e.Instance, e.Instance)}
	}
	return &failure{exitUnreachable, e.Error() + fmt.Sprintf(" (see: systemctl status tund@%s)", e.Instance)}
}

// explainAnswer says why the daemon refused.
func explainAnswer(err error, e *control.Error) *failure {
	switch e.Code {
	case control.CodePermission:
		return &failure{exitPermission, err.Error() + " (try sudo)"}
	case control.CodeConfig:
		return &failure{exitConfig, err.Error()}
	case control.CodeBusy:
		return &failure{exitUnreachable, err.Error() + " (try again)"}
	case control.CodeMethod:
		return &failure{exitFailure, err.Error() + " (are tund and tunctl of the same version?)"}
	}
	return &failure{exitFailure, err.Error()}
}
