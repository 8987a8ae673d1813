package refused

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInPart matches, with errors.Is, the errors of InPart.
var ErrInPart = errors.New("refused in part")

// InPart returns the error of a configuration that is in force, but for what err says. The text has
// a line for each line of err.
func InPart(err error) error {
	return inPart{fmt.Errorf("the new configuration is in force, but the kernel refused a part of it, which will be tried again "+
		"when the network changes; not applied:\n  %s", strings.ReplaceAll(err.Error(), "\n", "\n  "))}
}

// inPart makes an error match ErrInPart without changing its text.
type inPart struct{ error }

func (inPart) Is(target error) bool { return target == ErrInPart }
func (e inPart) Unwrap() error      { return e.error }
