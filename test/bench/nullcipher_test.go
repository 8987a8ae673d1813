package main

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// What takes the place of the assembly must declare what the assembly declares.
func TestNullOverlay_fitsTheCiphers(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("tund-null replaces code for amd64")
	}
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "overlay.json")
	if err := writeNullOverlay(top, list); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-C", top, "-overlay", list, "./crypto/aead")
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
