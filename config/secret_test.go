package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"tund/crypto/keys"
)

// secret is what must never be seen: a key with its last characters cut off, in parts of eight
// characters, so that a part of it is found as well.
const secret = "qL0vcmVhZHRoaXNhbmR3aGVyZXZlcml0aXNzaG93bjA"

func TestErrors_neverShowASecret(t *testing.T) {
	t.Parallel()
	full := secret + "="
	for _, src := range []string{
		"[tunnel]\nprivate_key = \"" + secret + "\"\n",
		"[tunnel]\nprivate_key = \"" + full + "=\"\n",
		"[tunnel]\nprivate_key = \"" + full + "\n",
		"[tunnel]\nprivate_key = \"\"\"" + full + "\n",
		"[tunnel]\nprivate_key = '" + full + "\n",
		"[tunnel]\nprivate_key = " + full + "\n",
		"[tunnel]\nprivate_key = 0x" + full + "\n",
		"[tunnel]\nprivate_key = [\"" + full + "\"]\n",
		"[tunnel]\nprivate_key = {\"" + full + "\" = 1}\n",
		"[tunnel]\nprivate_key = \"" + full + "\" \"" + full + "\"\n",
		"[tunnel]\nprivate_key = \"" + full + "\"\nprivate_key = \"" + full + "\"\n",
		"[tunnel]\nprivatekey = \"" + full + "\"\n",
		"[tunnel]\nprivate_key = \"\\q" + full + "\"\n",
		"[tunnel]\nprivate_key_file = \"" + full + "\"\n",
		"[tunnel]\nprivate_key_file = \"" + secret + "\"\n",
		"[tunnel]\nprivate_key_file = \"/etc/tund/" + full + "\"\n",
		"[tunnel]\ncredential = \"" + full + "\"\n",
		"[tunnel]\noffload = \"" + full + "\"\n",
		"[tunnel]\n\"" + full + "\" = 1\n",
		"[tunnel]\n" + full + "\n",
		"[tunnel]\n" + full + " 1\n",
		"[" + full + "\n",
		"[[" + full + "]\n",
		full + "\n",
		full,
		secret + " = 1\n" + secret + " = 1\n",
		secret + ".a = 1\n[" + secret + ".a]\n",
		tunSection + "device = \"" + full + "\"\n",
		tunSection + "address = [\"" + full + "\"]\n",
		tunSection + "address = [\"10.0.0.1/" + full + "\"]\n",
		peerSection + "name = \"" + full + "\"\n",
		peerSection + "public_key = \"" + full + "\"\n",
		peerSection + "preshared_key = \"" + secret + "\"\n",
		peerSection + "preshared_key_file = \"" + full + "\"\n",
		peerSection + "endpoint = \"" + full + "\"\n",
		peerSection + "endpoint = \"host:" + full + "\"\n",
		peerSection + "endpoint = \"" + full + ":1\"\n",
		peerSection + "endpoint = \"" + full + ":1:" + full + "\"\n",
		peerSection + "allowed_ips = [\"" + full + "\"]\n",
		etherSection + "ethernet = true\nmacs = [\"" + full + "\"]\nvlans = [\"" + full + "\"]\ntrust = [\"" + full + "\"]\n",
	} {
		c, err := loadText(src)
		said := fmt.Sprintf("%v %+v %#v %q %v", err, err, err, err, c)
		if err == nil {
			t.Errorf("no error in:\n%s", src)
		}
		for i := 0; i+8 <= len(secret); i++ {
			if strings.Contains(said, secret[i:i+8]) {
				t.Errorf("%q is shown:\n%v\nof:\n%s", secret[i:i+8], err, src)
				break
			}
		}
	}
}

func TestConfig_printsNoSecret(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, "[tunnel]\nprivate_key = \""+privA+"\"\n[tun]\n[[peer]]\npublic_key = \""+pubB+"\"\n"+usable+
		"preshared_key = \""+pskD+"\"\n")
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	said := string(text)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		said += fmt.Sprintf(format, c) + fmt.Sprintf(format, *c) + fmt.Sprintf(format, c.Peers) + fmt.Sprintf(format, c.Tunnel)
	}
	private, _ := keys.ParsePrivate(privA)
	preshared, _ := keys.ParsePreshared(pskD)
	for name, key := range map[string][32]byte{"private": private, "preshared": preshared} {
		for form, text := range map[string]string{
			"base64": keys.PrivateKey(key).Base64()[1:20], "hex": fmt.Sprintf("%x", key[1:20]), "HEX": fmt.Sprintf("%X", key[1:20]),
			"decimal": strings.Trim(fmt.Sprint(key[1:20]), "[]"), "Go": strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", key[1:20]), "[]byte{"), "}"),
		} {
			if strings.Contains(said, text) {
				t.Errorf("the %s key is printed in %s", name, form)
			}
		}
	}
	if !strings.Contains(said, "(hidden)") || !strings.Contains(said, pubB) {
		t.Errorf("JSON = %s", text)
	}
}
