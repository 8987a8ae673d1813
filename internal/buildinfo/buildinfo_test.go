package buildinfo_test

import (
	"testing"

	"tund/internal/buildinfo"
)

func TestVersion_whatTheBuildWroteCountsFirst(t *testing.T) {
	t.Parallel()
	if got := buildinfo.Version("1.2.3"); got != "1.2.3" {
		t.Errorf("got %q, want what the build wrote", got)
	}
	if got := buildinfo.Version(""); got == "" {
		t.Error("no version at all without one from the build")
	}
}
