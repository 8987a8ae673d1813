package config

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"tund/crypto/keys"
)

// The text of a file with ten thousand peers is a megabyte, and a configuration lives as long as
// the daemon.
func TestParse_keepsNothingOfTheText(t *testing.T) {
	private, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[tunnel]\nprivate_key = %q\n[tun]\ndevice = \"vpn0\"\naddress = [\"10.9.0.1/24\"]\n"+
		"[[peer]]\nname = \"berlin\"\npublic_key = %q\nendpoint = \"berlin.example.org:51820\"\nallowed_ips = [\"10.9.0.2/32\"]\n%s",
		private.Base64(), "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", strings.Repeat("# nothing\n", 1<<18))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c, err := Parse("office.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // what pools keep goes with the second collection
		runtime.GC()
	}
	runtime.ReadMemStats(&after)
	if kept := int(after.HeapAlloc) - int(before.HeapAlloc); kept > len(text)/2 {
		t.Errorf("a configuration with one peer keeps %d KiB", kept>>10)
	}
	runtime.KeepAlive(text)
	runtime.KeepAlive(c)
}
