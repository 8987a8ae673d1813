package config

import (
	"strings"
	"testing"

	"tund/crypto/keys"
)

// Peers share an allowed IP only if their priorities say which of them carries.
func TestPriority_decidesWhoHasASharedPrefix(t *testing.T) {
	t.Parallel()
	file := func(priorities ...string) string {
		src := tunnelSection + "listen_port = 1\n[tun]\n"
		for i, p := range priorities {
			src += "[[peer]]\npublic_key = \"" + []string{pubB, pubC, pubD}[i] + "\"\nallowed_ips = [\"10.20.0.0/16\"]\n" + p + "\n"
		}
		return src
	}
	c := mustLoad(t, file("priority = 10", "", "priority = 5"))
	for i, want := range []int32{10, 0, 5} {
		if p := c.Peers[i]; p.Priority != want || len(p.AllowedIPs) != 1 {
			t.Errorf("peer %d: priority %d, allowed IPs %v", i+1, p.Priority, p.AllowedIPs)
		}
	}
	for src, want := range map[string]string{
		file("", "priority = 10", ""):             "peer 3: allowed_ips: 10.20.0.0/16 is also an allowed IP of peer 1",
		file("priority = 7", "", "priority = 7"):  "peer 3: allowed_ips: 10.20.0.0/16 is also an allowed IP of peer 1, at 7:16, with the same priority 7",
		file("priority = 1", "priority = 70000"):  "peer 2: priority: 70000 is out of range",
		file("priority = 1", "priority = \"a\""):  "peer 2: priority",
		file("priority = \"1\"", "priority = -1"): "peer 1: priority",
	} {
		if _, err := load("office.toml", testHost(map[string]string{"office.toml": src})); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	// The same when a running instance is given a peer more.
	more := map[string]any{"public_key": "SomebodyElseKqHIDJJ2nVwnBQjJnK8xSoWLQ3iTSwk=", "allowed_ips": []any{"10.20.0.0/16"}}
	for priority, want := range map[int64]string{1: "", 5: "with the same priority 5", 0: "give the preferred one a priority"} {
		more["priority"] = priority
		_, err := c.WithPeer(keys.PublicKey{}, more)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("priority %d: %v, want %q", priority, err, want)
		}
	}
}
