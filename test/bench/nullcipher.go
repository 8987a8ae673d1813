package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// nullCipher builds a tund whose ciphers of transport data only copy, and returns the program's
// path. Its speed is what remains of the path when encryption costs nothing: the floor that another
// cipher could reach. The handshake is unchanged. The file that takes the place of the assembly is
// in testdata, and the go command substitutes it, so no program that somebody could install has it.
func nullCipher(ctx context.Context, shop *workshop) (string, error) {
	if runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("%w: tund-null replaces code for amd64", errUnavailable)
	}
	top, err := filepath.Abs(shop.top)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(shop.bin, "tund-null")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	if err := writeNullOverlay(top, list); err != nil {
		return "", err
	}
	program := filepath.Join(dir, "tund")
	shop.say("building tund without a cipher")
	_, err = run(ctx, "env", "CGO_ENABLED=0", "go", "build", "-C", top, "-trimpath", "-overlay", list,
		"-ldflags", "-X main.version=null-cipher", "-o", program, "./cmd/tund")
	return program, err
}

// writeNullOverlay writes to path which files of the checkout in the directory top, which is
// absolute, the go command takes from elsewhere.
func writeNullOverlay(top, path string) error {
	aead := filepath.Join(top, "crypto", "aead")
	replace := map[string]string{
		filepath.Join(aead, "asm_amd64.go"): filepath.Join(top, "test", "bench", "testdata", "nullcipher", "asm_amd64.go"),
	}
	assembly, err := filepath.Glob(filepath.Join(aead, "*_amd64.s"))
	if err != nil {
		return err
	}
	for _, file := range assembly {
		replace[file] = "" // the go command builds as if it did not exist
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(path, overlay, 0o644)
}
