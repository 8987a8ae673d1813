package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tund/crypto/keys"
	"tund/internal/testnet"
)

// quick is an interface of wg-quick(8).
type quick struct {
	t    testing.TB
	ns   *testnet.NS
	name string
	file string
}

func newQuick(t testing.TB, ns *testnet.NS, config string) *quick {
	t.Helper()
	testnet.Program(t, "wg-quick")
	q := &quick{t: t, ns: ns, name: newName()}
	q.file = filepath.Join(testnet.Scratch(t), q.name+".conf")
	if err := os.WriteFile(q.file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return q
}

// run runs wg-quick VERB FILE with tund for the program it calls.
func (q *quick) run(verb string) string {
	q.t.Helper()
	return q.ns.Run(q.t, "env", "WG_QUICK_USERSPACE_IMPLEMENTATION="+testnet.Tund(q.t), "WG_HIDE_KEYS=never",
		"TUND_RUN_DIR="+filepath.Join(testnet.Dir(), "run"), "wg-quick", verb, q.file)
}

// down is run("down") and the end of the process behind it.
func (q *quick) down() {
	q.t.Helper()
	q.run("down")
	(&device{t: q.t, name: q.name}).gone()
}

func TestWGQuick_upAndDownLeaveNothing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, address, allowed string
	}{
		{"plain", "10.9.0.1/24", "10.9.0.0/24, 198.51.100.0/24"},
		{"dual-stack", "10.9.0.1/24, fd09::1/64", "10.9.0.0/24, fd09::/64, 2001:db8:1::/48"},
		{"full tunnel", "10.9.0.1/24, fd09::1/64", "0.0.0.0/0, ::/0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			near, far := testnet.New(t), testnet.New(t)
			testnet.Veth(t, near, far, []string{outerA + "/24", outerA6 + "/64"}, []string{outerB + "/24", outerB6 + "/64"})
			near.Run(t, "ip", "route", "add", "default", "via", outerB)
			near.Run(t, "ip", "-6", "route", "add", "default", "via", outerB6)
			server := start(t, far, testnet.Tund(t))
			client, err := keys.GeneratePrivate()
			if err != nil {
				t.Fatal(err)
			}
			server.set("private-key", server.keyFile(), "listen-port", portB, "peer", client.Public().String(),
				"allowed-ips", innerA+"/32,"+innerA6+"/128")
			server.up(innerB+"/24", innerB6+"/64")
			q := newQuick(t, near, fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = %s\n\n[Peer]\nPublicKey = %s\nAllowedIPs = %s\nEndpoint = %s:%s\n",
				client.Base64(), tt.address, server.key.Public(), tt.allowed, outerB, portB))
			// What wg-quick sets and leaves.
			near.Run(t, "sysctl", "-q", "net.ipv4.conf.all.src_valid_mark=1")
			before := near.Snapshot()
			for range 2 {
				q.run("up")
				mustPing(t, near, innerB)
				if strings.Contains(tt.address, ":") {
					mustPing(t, near, innerB6)
				}
				if out := near.Run(t, "ip", "-o", "link", "show", q.name); !strings.Contains(out, "mtu 1420") {
					t.Errorf("wg-quick chose another MTU than 1420: %s", out)
				}
				q.down()
				if after := near.Snapshot(); after != before {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
			}
		})
	}
}

func TestWGQuick_stripAndSave(t *testing.T) {
	t.Parallel()
	ns := testnet.New(t)
	key, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	k := publicKeys(t, 2)
	peerPart := fmt.Sprintf("[Peer]\nPublicKey = %s\nAllowedIPs = 10.9.0.0/24\nEndpoint = 192.0.2.1:1\n", k[0])
	q := newQuick(t, ns, "[Interface]\nAddress = 10.9.0.1/24\nListenPort = 51999\nPrivateKey = "+key.Base64()+"\nPostUp = true\n\n"+peerPart)
	if out := q.run("strip"); strings.Contains(out, "Address") || !strings.Contains(out, "ListenPort = 51999") || !strings.Contains(out, k[0]) {
		t.Errorf("wg-quick strip: %s", out)
	}
	q.run("up")
	ns.Run(t, "wg", "set", q.name, "peer", k[1], "allowed-ips", "10.10.0.0/16", "persistent-keepalive", "7")
	q.run("save")
	q.down()
	text, err := os.ReadFile(q.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Address = 10.9.0.1/24", "PostUp = true", "ListenPort = 51999", "PrivateKey = " + key.Base64(),
		"PublicKey = " + k[0], "Endpoint = 192.0.2.1:1", "PublicKey = " + k[1], "AllowedIPs = 10.10.0.0/16", "PersistentKeepalive = 7"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("saved without %q:\n%s", want, text)
		}
	}
	q.run("up") // what was saved is understood
	if out := ns.Run(t, "wg", "show", q.name, "peers"); out != k[0]+"\n"+k[1]+"\n" {
		t.Errorf("peers after save and up: %s", out)
	}
	q.down()
}
