package scalar

import (
	"strings"
	"testing"
)

func TestPrefix(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want, why string }{
		{"10.20.0.0/16", "10.20.0.0/16", ""},
		{"10.20.0.1", "10.20.0.1/32", ""},
		{"fd00::1", "fd00::1/128", ""},
		{"", "", "is empty"},
		{"10.20.0.0/33", "", `has length "33", which is not 0 to 32`},
		{"10.20.0.0/255.255.0.0", "", "has a netmask: write 10.20.0.0/16"},
		{"::ffff:10.20.0.0/112", "", "write 10.20.0.0/16"},
		{"fe80::1%eth0", "", "has a zone"},
		{"10.20.0.0/16,10.21.0.0/16", "", "is more than one"},
		{" 10.20.0.0/16", "", "has spaces around it"},
		{"any", "", "is not an address"},
		{"[fd00::1]/64", "", "has brackets"},
		{"10.20.0.1:51820", "", "has a port"},
	} {
		p, why := Prefix(test.text)
		if test.why == "" && (why != "" || p.String() != test.want) {
			t.Errorf("Prefix(%q) = %v, %q, want %s", test.text, p, why, test.want)
		}
		if test.why != "" && !strings.Contains(why, test.why) {
			t.Errorf("Prefix(%q): %q, want %q", test.text, why, test.why)
		}
	}
}

func TestHost(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	for _, test := range []struct {
		text      string
		bracketed bool
		want      string // "": none
	}{
		{"192.0.2.1", false, "192.0.2.1"}, {"::ffff:192.0.2.1", true, "192.0.2.1"}, {"2001:db8::1", true, "2001:db8::1"},
		{"vpn.example.org", false, "vpn.example.org"}, {"vpn.example.org.", false, "vpn.example.org."}, {"_wg.example.org", false, "_wg.example.org"},
		{long + ".org", false, long + ".org"}, {long + "a.org", false, ""}, {strings.Repeat(long+".", 4) + "org", false, ""},
		{"0.0.0.0", false, ""}, {"224.0.0.1", false, ""}, {"192.0.2", false, ""}, {"a..b", false, ""}, {"-a.b", false, ""}, {"a b", false, ""},
		{"vpn.example.org", true, ""}, {"2001:db8::g", false, ""}, {"müller.example", false, ""}, {"", false, ""},
	} {
		got, why := Host(test.text, test.bracketed)
		if got != test.want || (why == "") != (test.want != "") {
			t.Errorf("Host(%q, %v) = %q, %q, want %q", test.text, test.bracketed, got, why, test.want)
		}
	}
}

// What may be a secret is in no message, whole or in part.
func TestShown_hidesSecrets(t *testing.T) {
	t.Parallel()
	const key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
	for _, text := range []string{key, key[:30], "x" + key, strings.Repeat("0a", 32)} {
		for _, out := range []string{Shown(text), ShownKey(text), Key(text + "\n"), Name(text)} {
			for i := 0; i+8 <= len(text); i++ {
				if strings.Contains(out, text[i:i+8]) {
					t.Fatalf("%q is shown in %q", text[i:i+8], out)
				}
			}
		}
	}
	if Shown("10.9.0.1") != `"10.9.0.1"` || ShownKey("listen_port") != `"listen_port"` {
		t.Errorf("shows %s, %s", Shown("10.9.0.1"), ShownKey("listen_port"))
	}
	if Key(key) != "" || IsPlaceholder(key) || !EndsLikeKey("/etc/tund/"+key) || EndsLikeKey("/etc/tund/office.key") {
		t.Error("a key is not known for one")
	}
	for text, why := range map[string]string{
		"": "is empty", "PutThePublicKeyOfParisHere00000000000000000=": "placeholder", " " + key: "spaces", key[:43]: "has 43 characters",
		strings.Repeat("0a", 32): "hexadecimal", "-----BEGIN PRIVATE KEY-----": "PEM",
	} {
		if got := Key(text); !strings.Contains(got, why) {
			t.Errorf("Key(%q): %q, want %q", text, got, why)
		}
	}
}
