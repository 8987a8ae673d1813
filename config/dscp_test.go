package config

import (
	"strings"
	"testing"
)

func TestDSCP(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int{`"none"`: 0, `"copy"`: CopyDSCP, "0": 0, "46": 46, "63": 63} {
		if got := mustLoad(t, tunnelSection+"dscp = "+value+"\n"+"[tun]\n").Tunnel.DSCP; got != want {
			t.Errorf("%s: %d, want %d", value, got, want)
		}
	}
	for value, want := range map[string]string{
		"64": "64 is out of range (0 to 63)", "-1": "-1 is out of range", `"ef"`: `not "ef"`, "true": `want "none", "copy" or a number from 0 to 63`,
	} {
		files := map[string]string{"office.toml": tunnelSection + "dscp = " + value + "\n[tun]\n"}
		if _, err := load("office.toml", testHost(files)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", value, err, want)
		}
	}
}
