package config

import (
	"strings"
	"testing"
)

func TestMetrics_saysWhereToListen(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`"127.0.0.1:9586"`:               "127.0.0.1:9586",
		`"[::1]:9586"`:                   "[::1]:9586",
		`"localhost:1"`:                  "127.0.0.1:1",
		`"unix:/run/tund/office/m.sock"`: "unix:/run/tund/office/m.sock",
		`"unix:m.sock"`:                  "unix:/etc/tund/m.sock",
		`""`:                             "off",
		`":9586"`:                        "is not an address with a port",
		`"127.0.0.1"`:                    "is not an address with a port",
		`"127.0.0.1:0"`:                  "is not an address with a port",
		`"metrics.example.org:9586"`:     "is not an address with a port",
		`9586`:                           "want a string",
		`"unix:"`:                        "no path after unix:",
		`"unix:/` + strings.Repeat("x", 107) + `"`: "is 108 bytes long (at most 107)",
	} {
		c, err := loadText(tunnelSection + "[tun]\n[metrics]\nlisten = " + value + "\n")
		switch {
		case err != nil:
			if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "metrics: listen: ") {
				t.Errorf("%s: %v, want %q", value, err, want)
			}
		case c.Metrics.String() != want || c.Metrics.Off() != (want == "off"):
			t.Errorf("%s: %v, want %s", value, c.Metrics, want)
		case len(c.Warnings) != 0:
			t.Errorf("%s: %v", value, c.Warnings)
		}
	}
	c := mustLoad(t, tunnelSection+"[tun]\n[metrics]\nlisten = \"0.0.0.0:9586\"\n")
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].String(), "no password") {
		t.Errorf("an address that everybody reaches: %v", c.Warnings)
	}
	if c := mustLoad(t, tunnelSection+"[tun]\n"); !c.Metrics.Off() {
		t.Errorf("without the section: %v", c.Metrics)
	}
}
