package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/crypto/keys"
	"tund/internal/testnet"
)

// Keys of the tests: privA is a private key, pubA its public half; the others are public keys of
// nobody.
const (
	privA = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8="
	pubB  = "GatewayOfBerlinU8JZpDE0iGXlD6gNCFbaEPFjbD0M="
	pubC  = "GatewayOfParis8Oool8DklZDOCj2ISaJiHkTj0rLGY="
	pubD  = "GatewayOfRomehf4VucSmEHgaKwVJ7faC9qEwjky40o="
	pskD  = "SecretOfBerlinXGjtEkDnNfribxUdl7dXTPyLsxPFk="
)

// testHost has the files of a map, all of mode 0600, and no environment.
func testHost(files map[string]string) host {
	return host{
		readFile: func(path string, limit int64) ([]byte, fs.FileInfo, error) {
			text, ok := files[path]
			if !ok {
				return nil, nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
			}
			if int64(len(text)) > limit {
				return nil, nil, errTooLarge
			}
			return []byte(text), nil, nil
		},
		getenv: func(string) string { return "" },
	}
}

// loadText loads src as /etc/tund/office.toml, beside office.key with privA.
func loadText(src string) (*Config, error) {
	return load("/etc/tund/office.toml", testHost(map[string]string{
		"/etc/tund/office.toml": src,
		"/etc/tund/office.key":  privA + "\n",
		"/etc/tund/berlin.psk":  pskD + "\n",
		"/etc/tund/broken.key":  "SECRET\n",
		"/etc/tund/large.key":   strings.Repeat("x", maxKeyFileSize+1),
		"/etc/tund/zero.key":    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
	}))
}

func mustLoad(t *testing.T, src string) *Config {
	t.Helper()
	c, err := loadText(src)
	if err != nil {
		t.Fatalf("load: %v\n%s", err, src)
	}
	return c
}

// report is what loading src says, without the directory: errors, or the warnings of a good file.
func report(src string) string {
	c, err := loadText(src)
	var said []string
	if err != nil {
		said = append(said, err.Error())
	} else {
		for _, w := range c.Warnings {
			said = append(said, w.String())
		}
	}
	return strings.ReplaceAll(strings.Join(said, "\n"), "/etc/tund/", "")
}

const (
	tunnelSection = "[tunnel]\nprivate_key_file = \"office.key\"\n"          // lines 1 and 2
	tunSection    = tunnelSection + "[tun]\n"                                // line 3
	tapSection    = tunnelSection + "listen_port = 1\n[tap]\n"               // lines 3 and 4
	peerSection   = tunSection + "[[peer]]\npublic_key = \"" + pubB + "\"\n" // lines 4 and 5
	etherSection  = tapSection + "[[peer]]\npublic_key = \"" + pubB + "\"\n" // lines 5 and 6
	callable      = "endpoint = \"192.0.2.1:1\"\n"                           // silences a warning
	usable        = callable + "allowed_ips = [\"10.0.0.0/8\"]\n"            // silences two
	secondPeer    = "[[peer]]\npublic_key = \"" + pubC + "\"\n"              // two lines
)

func TestLoad_fillsInEveryValue(t *testing.T) {
	t.Parallel()
	priv, _ := keys.ParsePrivate(privA)
	pub, _ := keys.ParsePublic(pubB)
	psk, _ := keys.ParsePreshared(pskD)
	got := mustLoad(t, `
[tunnel]
private_key = "`+privA+`"
listen_port = 51820
fwmark = 0xca6c
offload = "off"
udp_offload = "off"
lanes = 2
inner_checksum = "verify"
[tun]
device = "wan0"
address = ["10.9.0.1/24", "fd09::1/64", "10.8.0.1"]
mtu = 1380
routes = "off"
table = 100
metric = 50
local_networks = "none"
guard = "always"
dns = ["10.9.0.53", "FD09::53", "corp.Example", "~."]
[tap]
device = "lan0"
bridge = "br0"
bridge_vlans = ["20-21", 10]
bridge_pvid = 5
mtu = 9000
ageing = 60
max_macs = 1000
max_macs_per_peer = 20
broadcast_limit = 1
multicast_limit = 2
unknown_unicast_limit = 3
double_tags = true
hub = true
bpdu = "guard"
mss_clamp = false
fragment = false
neighbor_suppression = false
unsuppressed_vlans = [0, "10-11"]
transparent = ["ptp", "lldp", "lldp", "eapol", "mvrp", "cdp", "lacp"]
learning = true
snooping = false
[[peer]]
name = "berlin"
public_key = "`+pubB+`"
preshared_key_file = "berlin.psk"
endpoint = ["berlin.example.org:51820", "[2001:DB8::7]:1", "[::ffff:192.0.2.1]:2", "[fe80::1%eth0]:3"]
allowed_ips = ["10.20.0.0/16", "fd20::/48", "10.9.0.2"]
keepalive = 25
ethernet = true
macs = ["02:00:00:00:00:01", "02-00-00-00-00-02"]
max_macs = 7
vlans = [30, "10-12", 11]
pvid = 5
trust = ["dhcp", "ra"]
isolated = true
bum = false
neighbor_suppression = false
broadcast_limit = 4
multicast_limit = 5
unknown_unicast_limit = 6
`)
	want := &Config{
		Instance: "office", Path: "/etc/tund/office.toml",
		Tunnel: Tunnel{PrivateKey: priv, ListenPort: 51820, FwMark: 0xca6c, Lanes: 2, VerifyInnerChecksum: true},
		Tun: &Tun{Device: "wan0", Addresses: prefixes("10.9.0.1/24", "fd09::1/64", "10.8.0.1/32"), MTU: 1380,
			Table: 100, Metric: 50, LocalNetworks: LocalNone, Guard: GuardAlways,
			DNS: []netip.Addr{netip.MustParseAddr("10.9.0.53"), netip.MustParseAddr("fd09::53")}, DNSDomains: []string{"corp.example", "~."}},
		Tap: &Tap{Device: "lan0", Bridge: "br0", BridgeVLANs: []uint16{10, 20, 21}, BridgePVID: 5, MTU: 9000, Ageing: time.Minute, MaxMACs: 1000, MaxMACsPerPeer: 20,
			BroadcastLimit: 1, MulticastLimit: 2, UnknownUnicastLimit: 3, DoubleTags: true, Hub: true, BPDU: BPDUGuard, Learning: true,
			UnsuppressedVLANs: []uint16{0, 10, 11},
			Transparent:       []LinkProtocol{LinkLLDP, LinkEAPOL, LinkLACP, LinkCDP, LinkPTP, LinkMVRP}},
		Files: []string{"/etc/tund/berlin.psk"},
		Peers: []Peer{{
			Name: "berlin", PublicKey: pub, PresharedKey: psk,
			Endpoints:  []Endpoint{{"berlin.example.org", 51820}, {"2001:db8::7", 1}, {"192.0.2.1", 2}, {"fe80::1%eth0", 3}},
			AllowedIPs: prefixes("10.20.0.0/16", "fd20::/48", "10.9.0.2/32"),
			Keepalive:  25 * time.Second, Ethernet: true,
			MACs: []MAC{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}, MaxMACs: 7,
			VLANs: []uint16{10, 11, 12, 30}, PVID: 5, TrustDHCP: true, TrustRA: true, Isolated: true, NoBUM: true, NoSuppression: true,
			BroadcastLimit: 4, MulticastLimit: 5, UnknownUnicastLimit: 6,
		}},
	}
	if text := string(got.Source()); !strings.Contains(text, `name = "berlin"`) {
		t.Errorf("the text of the file is forgotten: %q", text)
	}
	got.text = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v\ntun %+v\ntap %+v", got, want, got.Tun, got.Tap)
	}
}

func TestLoad_fillsInDefaults(t *testing.T) {
	t.Parallel()
	got := mustLoad(t, peerSection+usable+"ethernet = true\n[tap]\ndevice = \"lan\"\n")
	if got.Tunnel.PrivateKey.IsZero() || !got.Tunnel.Offload || got.Tunnel.ListenPort != 0 {
		t.Errorf("tunnel = %+v", got.Tunnel)
	}
	if want := (&Tun{Device: "office", Routes: true}); !reflect.DeepEqual(got.Tun, want) {
		t.Errorf("tun = %+v, want %+v", got.Tun, want)
	}
	want := &Tap{Device: "lan", BridgePVID: -1, Ageing: 5 * time.Minute, MaxMACs: 16384, MaxMACsPerPeer: 256, BroadcastLimit: 1000,
		MulticastLimit: 1000, UnknownUnicastLimit: 1000, MSSClamp: true, Fragment: true, NeighborSuppression: true, Snooping: true, Learning: true}
	if !reflect.DeepEqual(got.Tap, want) {
		t.Errorf("tap = %+v, want %+v", got.Tap, want)
	}
	if p := got.Peers[0]; p.Name != "GatewayO" || p.MaxMACs != 0 || p.MACs != nil || p.Keepalive != 0 {
		t.Errorf("peer = %+v", p)
	}
	if got := mustLoad(t, tapSection); got.Tap.Device != "office" || got.Tun != nil || len(got.Warnings) != 0 {
		t.Errorf("[tap] alone = %+v", got.Tap)
	}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestLoad_reportsAllMistakesInOneRun(t *testing.T) {
	t.Parallel()
	got := report(`# office
[tunnel]
private_key_file = "missing.key" # not there
listen_prot = 51820
offload = "maybe"

[tun]
address = [
  "10.9.0.1/24",
  "10.9.0.300/24",      # no such address
]
mtu = "1400"

[[peer]]
name          = "berlin"
public_key    = "` + pubB + `"
endpoint      = "berlin.example.org"
allowed_ips   = ["10.20.0.0/16"]
keepalive     = 25
keepalive     = 26

[[peer]]
name = "paris"
public_key = """
short"""
"allowed_ips" = [ '10.20.0.0/16' ]
ethernet = true
colour = { red = 1 }
`)
	want := `office.toml:3:20: tunnel: private_key_file: open missing.key: file does not exist: make one with ` + "`tunctl genkey`" + `, mode 0600
office.toml:4:1: tunnel: unknown key "listen_prot": did you mean "listen_port"?
office.toml:5:11: tunnel: offload: want "auto" or "off", not "maybe"
office.toml:10:3: tun: address: "10.9.0.300/24" is not an address (want 10.20.0.0/16 or fd00::/64)
office.toml:12:7: tun: mtu: want a number, without quotes and without a unit: mtu = 1400
office.toml:17:17: peer "berlin": endpoint: missing port (want host:port)
office.toml:20:1: "keepalive" given twice: first at 19:1
office.toml:24:14: peer "paris": public_key: ` + keys.ErrFormat.Error() + `
office.toml:26:19: peer "paris": allowed_ips: 10.20.0.0/16 is also an allowed IP of peer "berlin", at 18:18; if one stands in for the other, give the preferred one a priority
office.toml:27:12: peer "paris": ethernet: there is no [tap] section
office.toml:28:1: peer "paris": unknown section "colour"`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// manyPeers is a file with n peers.
func manyPeers(n int) string {
	var b strings.Builder
	b.WriteString(tunSection)
	for i := range n {
		var k keys.PublicKey
		k[0], k[1], k[2] = 9, byte(i), byte(i>>8)
		fmt.Fprintf(&b, "[[peer]]\nname = \"p%d\"\npublic_key = %q\nendpoint = \"192.0.2.1:%d\"\nallowed_ips = [\"10.%d.%d.0/24\"]\n",
			i, k, i+1, i>>8, i&255)
	}
	return b.String()
}

// Ten times the peers take about ten times as long; comparing each with each would take a hundred
// times. A ratio of processor times holds on any machine and beside other programs. The test is not
// parallel, so that nothing else runs in the process.
func TestLoad_timeGrowsWithThePeersAndNotWithTheirSquare(t *testing.T) {
	skipUnderRaceDetector(t)
	quickest := func(n int) time.Duration {
		text, best := manyPeers(n), time.Hour
		for range 3 {
			start := processorTime(t)
			if c := mustLoad(t, text); len(c.Peers) != n || len(c.Warnings) != 0 {
				t.Fatalf("%d peers, %d warnings", len(c.Peers), len(c.Warnings))
			}
			best = min(best, processorTime(t)-start)
		}
		return best
	}
	few, many := quickest(1000), quickest(10_000)
	t.Logf("1,000 peers: %v, 10,000: %v", few, many)
	if many > 40*few {
		t.Errorf("1,000 peers took %v, 10,000 took %v", few, many)
	}
}

// skipUnderRaceDetector is for tests of what a large file costs, which do one thing after another
// and take half a minute each under the race detector.
func skipUnderRaceDetector(t *testing.T) {
	t.Helper()
	if testnet.RaceDetector {
		t.Skip("measures one goroutine: make test runs it")
	}
}

// processorTime returns what the process has used of the processors.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// Lines that are not TOML cost a run of the decoder each, and there is a bound to that.
func TestLoad_aFileFullOfFaultsIsNotReadForEver(t *testing.T) {
	t.Parallel()
	skipUnderRaceDetector(t)
	text := manyPeers(1000)
	for i := range 5000 {
		text += fmt.Sprintf("keepalive%d = 25s\n", i)
	}
	_, err := loadText(text)
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != maxSyntaxErrors+1 {
		t.Fatalf("%d errors: %.500v", len(errs), err)
	}
	if last := errs[len(errs)-1].Msg; !strings.Contains(last, "not read beyond") {
		t.Errorf("last: %s", last)
	}
}

func TestLoad_namesPeersByTheirKeys(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, peerSection+usable+secondPeer+"[[peer]]\nname = \"GatewayOfBerlin\"\npublic_key = \""+pubD+"\"\n")
	got := []string{c.Peers[0].Name, c.Peers[1].Name, c.Peers[2].Name}
	if want := []string{"GatewayO", "GatewayOf", "GatewayOfBerlin"}; !reflect.DeepEqual(got, want) {
		t.Errorf("names = %q, want %q", got, want)
	}
}

func TestLoad_refusesAProtocolThatCannotBeTransparent(t *testing.T) {
	t.Parallel()
	_, err := Parse("office.toml", []byte(tapSection+"transparent = [\"lldp\", \"pause\"]\n"))
	if want := `tap: transparent: want lldp, eapol, lacp, cdp, ptp, mvrp, not "pause"`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	if got := LinkMVRP.String(); got != "mvrp" {
		t.Errorf("MVRP is written %s", got)
	}
}

func TestLoad_learningOff(t *testing.T) {
	t.Parallel()
	const off = tapSection + "learning = false\nunknown_unicast_limit = 0\n"
	if c := mustLoad(t, off); c.Tap.Learning {
		t.Error("it is on")
	}
	_, err := Parse("office.toml", []byte(off+peerSection+"ethernet = true\nmax_macs = 7\n"))
	if want := "max_macs: needs learning in [tap]"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestWarning_placeAndWordsAreApart(t *testing.T) {
	t.Parallel()
	w := Warning{File: "office.toml", Line: 2, Col: 3, Msg: "odd"}
	if w.Place() != "office.toml:2:3" || w.String() != "office.toml:2:3: warning: odd" {
		t.Errorf("%q, %q", w.Place(), w.String())
	}
}
