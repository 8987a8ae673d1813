// Package exit says how tunctl ends: the exit codes, and errors that carry one.
//
// It does not decide which error has which code: the verbs do, and cmd/tunctl for errors that have
// none of their own.
//
// Sources: sysexits.h for the codes from 64 on.
package exit

import "fmt"

// The exit codes. A verb may have more of its own.
const (
	OK          = 0
	Failed      = 1
	Misused     = 2
	Unreachable = 69
	Permission  = 77
	Config      = 78
)

// Failure is an error as the user reads it: cause, place and next step, and the exit code.
type Failure struct {
	Code int
	Text string
}

// Error returns the text.
func (f *Failure) Error() string { return f.Text }

// Errorf makes a failure with a code. It wraps no error: its text is all that is left of one.
func Errorf(code int, format string, args ...any) *Failure {
	return &Failure{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Usage makes a failure out of a wrong command line.
func Usage(format string, args ...any) error { return Errorf(Misused, format, args...) }

// Reported is an error that was printed already; only its exit code is left to use.
type Reported struct{ Code int }

// Error is for programmers: nobody prints it.
func (*Reported) Error() string { return "reported" }
