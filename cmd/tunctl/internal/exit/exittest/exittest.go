// Package exittest checks in tests how a verb of tunctl ends.
//
// It runs no verb: the tests do.
package exittest

import (
	"errors"
	"strings"
	"testing"

	"tund/cmd/tunctl/internal/exit"
)

// Ends fails the test unless err ends tunctl with this exit code and says what it should.
func Ends(t testing.TB, err error, code int, says string) {
	t.Helper()
	var failure *exit.Failure
	if !errors.As(err, &failure) || failure.Code != code || !strings.Contains(err.Error(), says) {
		t.Errorf("ended with %v, want code %d and %q", err, code, says)
	}
}
