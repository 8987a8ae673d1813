package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/control"
	"tund/internal/screen"
)

// explain turns any error of a command into a failure, whose text is safe to print: it may contain
// what an instance answered, or names that a peer chose.
func (a *app) explain(err error) *exit.Failure {
	f := a.failure(err)
	lines := strings.Split(f.Text, "\n")
	for i := range lines {
		lines[i] = screen.Style{UTF8: true}.Clean(lines[i])
	}
	return exit.Errorf(f.Code, "%s", strings.Join(lines, "\n"))
}

// failure finds the code and the next step for an error.
func (a *app) failure(err error) *exit.Failure {
	var f *exit.Failure
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
		return exit.Errorf(exit.Permission, "%v (try sudo)", err)
	case !a.started: // cobra refused the command line before any of our code ran
		return exit.Errorf(exit.Misused, "%s\nSee: %s --help", strings.TrimSpace(err.Error()), cmp.Or(a.verb, "tunctl"))
	}
	return exit.Errorf(exit.Failed, "%v", err)
}

// explainDial says why nobody answers, and what to do.
func (a *app) explainDial(e *control.DialError) *exit.Failure {
	switch {
	case e.Permission():
		text := e.Error() + ` - you are neither root nor in group "tund" (try sudo`
		if a.env.user != "" {
			text += ", or: usermod -aG tund " + a.env.user
		}
		return exit.Errorf(exit.Permission, "%s)", text)
	case e.Missing():
		text := e.Error() + fmt.Sprintf(" - instance %q is not running (start it: systemctl start tund@%s", e.Instance, e.Instance)
		if names, err := control.Instances(a.env.runDir); err == nil && len(names) > 0 {
			text += "; running: " + strings.Join(names, ", ")
		}
		return exit.Errorf(exit.Unreachable, "%s)", text)
	case e.Stale():
		return exit.Errorf(exit.Unreachable, "%v - instance %q ended without cleaning up (see: systemctl status tund@%s)",
			e, e.Instance, e.Instance)
	}
	return exit.Errorf(exit.Unreachable, "%v (see: systemctl status tund@%s)", e, e.Instance)
}

// explainAnswer says why the daemon refused.
func explainAnswer(err error, e *control.Error) *exit.Failure {
	switch e.Code {
	case control.CodePermission:
		return exit.Errorf(exit.Permission, "%v (try sudo)", err)
	case control.CodeConfig:
		return exit.Errorf(exit.Config, "%v", err)
	case control.CodeBusy:
		return exit.Errorf(exit.Unreachable, "%v (try again)", err)
	case control.CodeMethod:
		return exit.Errorf(exit.Failed, "%v (are tund and tunctl of the same version?)", err)
	}
	return exit.Errorf(exit.Failed, "%v", err)
}
