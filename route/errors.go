package route

import (
	"errors"

	"tund/route/refused"
)

// ErrClosed is returned by a Manager after Close.
var ErrClosed = errors.New("route: manager closed")

// newOpError wraps err with the object, whose name is given, and with the next step for an
// operator. o may be nil.
func newOpError(op, name string, o object, err error) *refused.Error {
	advice := ""
	if a, ok := o.(advisor); ok {
		advice = a.advice(err)
	}
	return refused.New(op, name, err, advice)
}
