package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"tund/crypto/keys"
)

// A peer's values are what the file says: changing nothing changes nothing.
func TestWithPeer_checksAsTheFileIs(t *testing.T) {
	t.Parallel()
	private, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	other := func() string {
		k, err := keys.GeneratePrivate()
		if err != nil {
			t.Fatal(err)
		}
		return k.Public().String()
	}
	a, n := other(), other()
	// Its default name is none that a file may give.
	const b = "Rz/wk+/9ePTxXL7XihnJhVXR7Di5XoWZQAMJfHyCMBY="
	c, err := Parse("office.toml", []byte("[tunnel]\nprivate_key = \""+private.Base64()+"\"\nlisten_port = 1\n[tun]\naddress = [\"10.9.0.1/24\"]\n"+
		"[tap]\ndevice = \"t\"\n[[peer]]\nname = \"a\"\npublic_key = \""+a+"\"\npreshared_key = \""+pskD+"\"\nendpoint = [\"x:1\", \"[2001:db8::1]:2\"]\n"+
		"allowed_ips = [\"10.20.0.0/16\"]\nkeepalive = 7\nethernet = true\nmacs = [\"02:00:00:00:00:01\"]\nvlans = [\"2-4\"]\npvid = 5\ntrust = [\"dhcp\", \"ra\"]\nisolated = true\nneighbor_suppression = false\n"+
		"[[peer]]\npublic_key = \""+b+"\"\nallowed_ips = [\"10.9.0.2/32\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	keyA, keyB := c.Peers[0].PublicKey, c.Peers[1].PublicKey
	for _, key := range []keys.PublicKey{keyA, keyB} {
		same, err := c.WithPeer(key, nil)
		if err != nil || !reflect.DeepEqual(normal(same.Peers), normal(c.Peers)) {
			t.Errorf("%v\n%+v\n%+v", err, same, c)
		}
	}
	was := c.Peers[0].Keepalive
	next, err := c.WithPeer(keyA, map[string]any{"keepalive": int64(25), "ethernet": false, "preshared_key": nil})
	if err != nil || next.Peers[0].Keepalive != 25*time.Second || next.Peers[0].MACs != nil || !next.Peers[0].PresharedKey.IsZero() || c.Peers[0].Keepalive != was {
		t.Errorf("%v %+v", err, next)
	}
	next, err = c.WithPeer(keys.PublicKey{}, map[string]any{"public_key": n, "allowed_ips": []any{"10.9.0.3"}})
	if err != nil || len(next.Peers) != 3 || next.Peers[2].Name != n[:8] || len(c.Peers) != 2 {
		t.Errorf("%v %+v", err, next)
	}
	for want, values := range map[string]map[string]any{
		`peer 3: public_key: missing`: {"name": nil},
		`peer "x": allowed_ips: 10.20.0.0/16 is also an allowed IP of peer "a"; if one stands in for the other, give the preferred one a priority`: {"name": "x", "public_key": n, "allowed_ips": []any{"10.20.0.0/16"}},
		`peer "a": name: "a" is also the name of the peer`:                                              {"name": "a", "public_key": n},
		`peer 3: unknown key "keepalife": did you mean "keepalive"?`:                                    {"public_key": n, "keepalife": int64(1)},
		`peer 3: public_key: is our own public key, that of the private key: put that of the peer here`: {"public_key": private.Public().String()},
		`peer 3: endpoint: missing port (want host:port)`:                                               {"public_key": n, "endpoint": "x"},
		`peer 3: macs: 02:00:00:00:00:01 is also pinned to peer "a"`:                                    {"public_key": n, "ethernet": true, "macs": []any{"02:00:00:00:00:01"}},
	} {
		if _, err := c.WithPeer(keys.PublicKey{}, values); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := c.WithPeer(keys.PublicKey{1}, nil); err == nil || !strings.Contains(err.Error(), "no such peer") {
		t.Error(err)
	}
	if less := c.WithoutPeer(keyA); len(less.Peers) != 1 || less.Peers[0].PublicKey != keyB || len(c.Peers) != 2 {
		t.Errorf("%+v", less.Peers)
	}
}

// normal makes empty lists equal to none.
func normal(peers []Peer) []Peer {
	out := make([]Peer, len(peers))
	for i, p := range peers {
		if len(p.Endpoints) == 0 {
			p.Endpoints = nil
		}
		out[i] = p
	}
	return out
}

// A name that happens to be how the key begins is the one that was given, and stays.
func TestWithPeer_keepsANameThatTheKeyBeginsWith(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, tapSection+"[[peer]]\nname = \"Rz\"\npublic_key = \"Rz/wk+/9ePTxXL7XihnJhVXR7Di5XoWZQAMJfHyCMBY=\"\n")
	next, err := c.WithPeer(c.Peers[0].PublicKey, map[string]any{"keepalive": int64(25)})
	if err != nil || next.Peers[0].Name != "Rz" {
		t.Errorf("%v, the peer is called %q", err, next.Peers[0].Name)
	}
}
