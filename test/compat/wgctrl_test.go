package compat

import (
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"tund/internal/testnet"
)

// What exporters and controllers use is the library wgctrl.
func TestWGCtrl_configuresAndReads(t *testing.T) {
	t.Parallel()
	p := newPair(t, testnet.Tund(t), testnet.Tund(t))
	mustPing(t, p.a.inner, innerB)
	client, err := wgctrl.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	d, err := client.Device(p.a.name)
	if err != nil {
		t.Fatal(err)
	}
	if d.Type != wgtypes.Userspace || d.PrivateKey != wgtypes.Key(p.a.key) || d.PublicKey != wgtypes.Key(p.a.key.Public()) || d.ListenPort != 51821 {
		t.Errorf("device %+v", d)
	}
	if len(d.Peers) != 1 {
		t.Fatalf("%d peers, want 1", len(d.Peers))
	}
	peer := d.Peers[0]
	if peer.PublicKey != wgtypes.Key(p.b.key.Public()) || peer.Endpoint.String() != outerB+":"+portB || peer.ProtocolVersion != 1 ||
		time.Since(peer.LastHandshakeTime) > time.Minute || peer.ReceiveBytes == 0 || peer.TransmitBytes == 0 || len(peer.AllowedIPs) != 2 {
		t.Errorf("peer %+v", peer)
	}

	psk, err := wgtypes.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	mark, keepalive := 0x42, 7*time.Second
	_, network, _ := net.ParseCIDR("10.77.0.0/16")
	stranger, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	err = client.ConfigureDevice(p.a.name, wgtypes.Config{FirewallMark: &mark, Peers: []wgtypes.PeerConfig{
		{PublicKey: other.PublicKey(), PresharedKey: &psk, PersistentKeepaliveInterval: &keepalive, ReplaceAllowedIPs: true,
			AllowedIPs: []net.IPNet{*network}, Endpoint: net.UDPAddrFromAddrPort(netip.MustParseAddrPort("[2001:db8::7]:7"))},
		{PublicKey: stranger.PublicKey(), UpdateOnly: true, PresharedKey: &psk},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if d, err = client.Device(p.a.name); err != nil {
		t.Fatal(err)
	}
	if d.FirewallMark != mark || len(d.Peers) != 2 {
		t.Fatalf("device %+v, want the mark and 2 peers: a peer only to be updated is not made", d)
	}
	if got := d.Peers[1]; got.PublicKey != other.PublicKey() || got.PresharedKey != psk || got.PersistentKeepaliveInterval != keepalive ||
		got.Endpoint.String() != "[2001:db8::7]:7" || len(got.AllowedIPs) != 1 || got.AllowedIPs[0].String() != "10.77.0.0/16" || !got.LastHandshakeTime.IsZero() {
		t.Errorf("peer %+v", got)
	}
	if d.Peers[0].LastHandshakeTime != peer.LastHandshakeTime {
		t.Error("a peer that was not named lost its session")
	}
	err = client.ConfigureDevice(p.a.name, wgtypes.Config{Peers: []wgtypes.PeerConfig{{PublicKey: other.PublicKey(), Remove: true}}})
	if err != nil {
		t.Fatal(err)
	}
	if d, err = client.Device(p.a.name); err != nil || len(d.Peers) != 1 {
		t.Errorf("device %+v (%v), want one peer", d, err)
	}
	if _, err := client.Device("nobody"); err == nil {
		t.Error("a device that does not exist was found")
	}
}

// module returns the directory of a module's sources, which go fetches if need be.
func module(t *testing.T, version string) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", version)
	cmd.Dir = testnet.Scratch(t) // not this module
	out, err := cmd.Output()
	var m struct{ Dir, Error string }
	if err2 := json.Unmarshal(out, &m); err2 != nil || m.Dir == "" {
		t.Fatalf("go mod download %s: %v %v %s", version, err, err2, m.Error)
	}
	return m.Dir
}

// wgctrl's own integration tests reset whatever devices they find: here those are two of ours.
func TestSoak_wgctrlsOwnTests(t *testing.T) {
	testnet.Soak(t)
	dir := module(t, "golang.zx2c4.com/wireguard/wgctrl@v0.0.0-20241231184526-a9ab2273dd10")
	bin := filepath.Join(testnet.Scratch(t), "wgctrl.test")
	build := exec.Command("go", "test", "-c", "-o", bin, ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=-mod=readonly")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := newPair(t, testnet.Tund(t), testnet.Tund(t))
	cmd := exec.Command(bin, "-test.v", "-test.run", "Integration")
	cmd.Env = append(os.Environ(), "WGCTRL_INTEGRATION=yesreallydoit")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "SKIP") {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"get", "configure", "configure_many_IPs", "configure_many_peers", "configure_peers_update_only", "reset"} {
		for _, d := range []*device{p.a, p.b} {
			if want := "--- PASS: TestIntegrationClient/" + name + "/" + d.name; !strings.Contains(string(out), want) {
				t.Errorf("wgctrl's tests do not say %q:\n%s", want, out)
			}
		}
	}
}
