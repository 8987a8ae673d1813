package config

import (
	"strings"
	"testing"
)

func TestLoad_dnsThatCannotBe(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		`["10.9.0.1", "10.9.0.1"]`:     "\"10.9.0.1\" is there twice",
		`["0.0.0.0"]`:                  "\"0.0.0.0\" is not the address of a server",
		`["fe80::1%eth0"]`:             "is not the address of a server",
		`["224.0.0.1"]`:                "is not the address of a server",
		`["10.9.0.1", "corp example"]`: "is neither an address nor a domain",
		`["10.9.0.1", "-x"]`:           "is neither an address nor a domain",
		`["corp.example"]`:             "has domains, and no server",
		`"10.9.0.1"`:                   "want a list",
	} {
		_, err := loadText(tunSection + "dns = " + list + "\n")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "tun: dns: ") {
			t.Errorf("%s: %v, want %q", list, err, want)
		}
	}
}
