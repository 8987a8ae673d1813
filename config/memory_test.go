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
	skipUnderRaceDetector(t)
	private, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[tunnel]\nprivate_key = %q\n[tun]\ndevice = \"vpn0\"\naddress = [\"10.9.0.1/24\"]\n"+
		"[[peer]]\nname = \"berlin\"\npublic_key = %q\nendpoint = \"berlin.example.org:51820\"\nallowed_ips = [\"10.9.0.2/32\"]\n%s",
		private.Base64(), "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", strings.Repeat("# nothing\n", 1<<18))
	if kept := keptBy(t, text); kept > len(text)/2 {
		t.Errorf("a configuration with one peer keeps %d KiB", kept>>10)
	}
}

// parsedPeer bounds what is kept of a peer without an endpoint and with one allowed IP, in bytes.
// It is 290 when all peers share a few blocks, and 350 with a block for each name and allowed IP.
const parsedPeer = 330

func TestParse_keepsLittleOfEachPeer(t *testing.T) {
	const peers = 2000
	private, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "[tunnel]\nprivate_key = %q\n[tun]\ndevice = \"vpn0\"\naddress = [\"10.9.0.1/24\"]\n", private.Base64())
	for n := range peers {
		key, err := keys.GeneratePrivate()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "[[peer]]\npublic_key = %q\nallowed_ips = [\"10.20.%d.%d/32\"]\n", key.Public(), n>>8, n&255)
	}
	kept := keptBy(t, text.String()) / peers
	t.Logf("%d bytes for each peer", kept)
	if kept > parsedPeer {
		t.Errorf("a peer keeps %d bytes, want at most %d", kept, parsedPeer)
	}
}

// keptBy returns how many bytes the configuration of a file keeps.
func keptBy(t *testing.T, text string) int {
	t.Helper()
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
	runtime.KeepAlive(text)
	runtime.KeepAlive(c)
	return int(after.HeapAlloc) - int(before.HeapAlloc)
}

// TestRead_longListsTakeLittle: a list says the same again and again, as an agent may write it. It
// takes no more memory than what it says, and no time that grows with its square.
func TestRead_longListsTakeLittle(t *testing.T) {
	const times = 20_000
	c := &Config{Instance: "office", Path: "/etc/tund/office.toml", Tun: &Tun{}, Tap: &Tap{Hub: true}}
	vlans, endpoints := make([]any, times), make([]any, times)
	for i := range times {
		vlans[i], endpoints[i] = "0-4094", fmt.Sprintf("10.%d.%d.%d:51820", i>>16, i>>8&255, i&255)
	}
	values := map[string]any{
		"public_key": "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "ethernet": true, "vlans": vlans, "endpoint": endpoints,
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p, err := c.NewPeerReader().Read(values)
	runtime.ReadMemStats(&after)
	if err != nil || len(p.VLANs) != 4095 || len(p.Endpoints) != times {
		t.Fatalf("%d VLANs, %d endpoints, %v", len(p.VLANs), len(p.Endpoints), err)
	}
	if took := int(after.TotalAlloc-before.TotalAlloc) / times; took > 2000 {
		t.Errorf("an element takes %d bytes", took)
	}
}
