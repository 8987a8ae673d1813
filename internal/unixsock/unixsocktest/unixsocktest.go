// Package unixsocktest provides directories for the unix sockets of tests.
//
// It makes no sockets: package unixsock and the packages that are tested do.
package unixsocktest

import (
	"os"
	"testing"
)

// Dir returns a new directory that is removed when the test ends. Its path is short: the path of a
// socket has at most 107 bytes (unix(7)), and t.TempDir has the name of the test in it.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
