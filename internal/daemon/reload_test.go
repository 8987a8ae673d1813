package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tund/config"
	"tund/internal/desired"
)

// Keys that belong to nobody.
const (
	ownKey    = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8="
	otherKey  = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHk8="
	berlinKey = "GatewayOfBerlin7cJ2mTz9RkWb4uHsYp1NdQfLx3g8="
	parisKey  = "GatewayOfParis7cJ2mTz9RkWb4uHsYp1NdQfLx3gA4="
	sharedKey = "SecretOfBerlin7cJ2mTz9RkWb4uHsYp1NdQfLx3Ag8="
)

// keyChange holds two values of a key, each of which is valid in a file.
type keyChange struct{ old, new string }

// reloadChanges has an entry for each key of docs/config.md.
var reloadChanges = map[string]map[string]keyChange{
	"tunnel": {
		"private_key":      {`"` + ownKey + `"`, `"` + otherKey + `"`},
		"private_key_file": {`"own.key"`, `"other.key"`},
		"credential":       {`"own.key"`, `"other.key"`},
		"listen_port":      {"1", "2"},
		"fwmark":           {"1", "2"},
		"offload":          {`"auto"`, `"off"`},
		"udp_offload":      {`"auto"`, `"off"`},
		"bind_device":      {`"eth0"`, `"eth1"`},
		"dscp":             {`"none"`, `"copy"`},
		"lanes":            {"1", "2"},
		"cipher":           {`"auto"`, `"chacha20poly1305"`},
		"inner_checksum":   {`"trust"`, `"verify"`},

		"previous_private_key_file": {`"own.key"`, `"other.key"`},
	},
	"tun": {
		"dns":            {`[]`, `["10.9.0.53"]`},
		"device":         {`"a"`, `"b"`},
		"address":        {`["10.9.0.1/24"]`, `["10.9.0.2/24"]`},
		"mtu":            {"1300", "1400"},
		"routes":         {`"auto"`, `"off"`},
		"table":          {"0", "7"},
		"metric":         {"0", "7"},
		"local_networks": {`"private"`, `"all"`},
		"routing":        {`"allowed_ips"`, `"system"`},
		"forward":        {"false", "true"},
		"masquerade":     {"false", "true"},
		"guard":          {`"crash"`, `"off"`},
	},
	"tap": {
		"device":                {`"t"`, `"u"`},
		"bridge":                {`"br0"`, `"br1"`},
		"address":               {`[]`, `["10.8.0.1/24"]`},
		"mtu":                   {"1400", "1500"},
		"ageing":                {"300", "60"},
		"max_macs":              {"100", "200"},
		"max_macs_per_peer":     {"10", "20"},
		"broadcast_limit":       {"1", "2"},
		"multicast_limit":       {"1", "2"},
		"unknown_unicast_limit": {"1", "2"},
		"double_tags":           {"false", "true"},
		"hub":                   {"false", "true"},
		"bpdu":                  {`"drop"`, `"guard"`},
		"mss_clamp":             {"true", "false"},
		"fragment":              {"true", "false"},
		"neighbor_suppression":  {"true", "false"},
		"unsuppressed_vlans":    {`[]`, `[7]`},
		"snooping":              {"true", "false"},
		"querier":               {"false", "true"},
		"bridge_vlans":          {`[7]`, `[8]`},
		"bridge_pvid":           {"7", "8"},
		"learning":              {"true", "false"},
		"transparent":           {`[]`, `["lldp"]`},
	},
	"agent": {
		"user":          {`"a"`, `"b"`},
		"within":        {`["10.0.0.0/8"]`, `["fd00::/8"]`},
		"peers":         {"1", "2"},
		"default_route": {"false", "true"},
		"ethernet":      {"false", "true"},
	},
	"metrics": {
		"listen": {`"127.0.0.1:9586"`, `"unix:/run/m.sock"`},
	},
	"peer": {
		"name":               {`"x"`, `"y"`},
		"public_key":         {`"` + berlinKey + `"`, `"` + parisKey + `"`},
		"preshared_key":      {`"` + sharedKey + `"`, `"` + parisKey + `"`},
		"preshared_key_file": {`"berlin.psk"`, `"paris.psk"`},
		"endpoint":           {`"192.0.2.1:1"`, `["192.0.2.1:1", "192.0.2.2:1"]`},
		"allowed_ips":        {`["10.1.0.0/16"]`, `["10.2.0.0/16"]`},
		"priority":           {"0", "10"},
		"keepalive":          {"0", "25"},
		"extensions":         {`"auto"`, `"on"`},
		"liveness":           {"0", "1"},
		"post_quantum":       {`"prefer"`, `"require"`},
		"ethernet":           {"false", "true"},
		"macs":               {`[]`, `["02:00:00:00:00:01"]`},
		"max_macs":           {"0", "7"},
		"vlans":              {`[]`, `[7]`},
		"pvid":               {"0", "7"},
		"trust":              {`[]`, `["ra"]`},
		"isolated":           {"false", "true"},
		"bum":                {"true", "false"},

		"neighbor_suppression": {"true", "false"},

		"broadcast_limit":       {"0", "7"},
		"multicast_limit":       {"0", "7"},
		"unknown_unicast_limit": {"0", "7"},
	},
}

// configWith loads a configuration in which one key of a section has the given value.
func configWith(t *testing.T, dir, section, key, value string) *config.Config {
	t.Helper()
	set := map[string]map[string]string{
		"tunnel": {"private_key": `"` + ownKey + `"`, "listen_port": "1"}, "tun": {}, "tap": {"device": `"t"`}, "agent": {}, "metrics": {},
		"peer": {"public_key": `"` + berlinKey + `"`, "ethernet": "true", "allowed_ips": `["10.1.0.0/16"]`},
	}
	if strings.Contains(key, "key_file") && key != "previous_private_key_file" || key == "credential" {
		delete(set[section], "private_key")
	}
	set[section][key] = value
	if strings.HasPrefix(key, "bridge_") {
		set["tap"]["bridge"] = `"br0"`
	}
	if key == "ethernet" {
		set["peer"]["allowed_ips"] = `[]`
	}
	if key == "extensions" { // ethernet = true implies "on"
		delete(set["peer"], "ethernet")
	}
	if key == "local_networks" { // means something in a full tunnel
		set["peer"]["allowed_ips"] = `["0.0.0.0/0", "::/0"]`
	}
	var b strings.Builder
	for _, name := range []string{"tunnel", "tun", "tap", "agent", "metrics", "peer"} {
		b.WriteString(map[bool]string{true: "[[peer]]\n", false: "[" + name + "]\n"}[name == "peer"])
		for k, v := range set[name] {
			b.WriteString(k + " = " + v + "\n")
		}
	}
	path := filepath.Join(dir, "office.toml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatalf("%v\nof:\n%s", err, b.String())
	}
	return c
}

// handedOver is everything that a reload derives from a configuration.
func handedOver(c *config.Config) string {
	peers := desired.Peers(c, func(p config.Peer) []netip.AddrPort {
		var all []netip.AddrPort
		for _, e := range p.Endpoints {
			a, _ := e.AddrPort()
			all = append(all, a)
		}
		return all
	})
	text := fmt.Sprint(c.Tunnel.ListenPort, c.Tunnel.Cipher, c.Tunnel.DSCP, peers.PrivateKey.Base64(), peers.PreviousKey.Base64(), c.Tun != nil && c.Tun.SystemRouting)
	for _, p := range peers.Peers {
		text += fmt.Sprintf(" %+v %s %s %v %+v %d %v %d", p.PublicKey, *p.Name, p.PresharedKey.Base64(), *p.Keepalive, *p.Ethernet, *p.Extensions, *p.Liveness, *p.PostQuantum)
		text += fmt.Sprint(p.Endpoints, p.AllowedIPs, p.SharedIPs, *p.Priority)
	}
	if c.Tap != nil {
		text += fmt.Sprintf("%+v", desired.PortVLANs(c))
	}
	text += fmt.Sprintf("%+v", desired.DNS(c))
	return text + fmt.Sprintf("%+v %+v", desired.State(c, nil, desired.TunMTU(c, 1500), desired.TapMTU(c)), desired.Ethernet(c.Tap)) + fmt.Sprintf("%v %+v", c.Metrics, *c.Agent)
}

// TestReload_doesWhatTheDocumentationSays checks the reload column of docs/config.md: a change of a
// key that says no is refused, and a change of any other key reaches the tunnel or the kernel.
func TestReload_doesWhatTheDocumentationSays(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for name, key := range map[string]string{"own.key": ownKey, "other.key": otherKey, "berlin.psk": sharedKey, "paris.psk": parisKey} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	section, rows := "", 0
	for line := range strings.Lines(string(text)) {
		if m := regexp.MustCompile(`^## \[+(\w+)\]`).FindStringSubmatch(line); m != nil {
			section = m[1]
		}
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if section == "" || len(cells) != 5 || !strings.HasPrefix(cells[0], "`") {
			continue
		}
		rows++
		key, reload := strings.Trim(cells[0], "`"), cells[3]
		change, known := reloadChanges[section][key]
		if !known {
			t.Errorf("[%s] %s: say here how it may change", section, key)
			continue
		}
		old, next := configWith(t, dir, section, key, change.old), configWith(t, dir, section, key, change.new)
		err := desired.NeedsRestart(old, next)
		if refused := err != nil; refused != (reload == "no") {
			t.Errorf("[%s] %s: reload is %q in docs/config.md, but NeedsRestart says %v", section, key, reload, err)
		}
		if reload == "yes" && handedOver(old) == handedOver(next) {
			t.Errorf("[%s] %s: a reload does not hand the change over", section, key)
		}
		if err := desired.NeedsRestart(next, next); err != nil {
			t.Errorf("[%s] %s: no change, but %v", section, key, err)
		}
	}
	if rows < 40 {
		t.Errorf("only %d keys found", rows)
	}
}

func TestNeedsRestart_namesEverythingAtOnce(t *testing.T) {
	t.Parallel()
	old := &config.Config{Path: "office.toml", Tun: &config.Tun{Device: "a"}}
	next := &config.Config{Path: "office.toml", Tap: &config.Tap{}, Tunnel: config.Tunnel{Lanes: 64, Offload: true}}
	err := desired.NeedsRestart(old, next)
	want := `office.toml: [tun] changed: restart the instance to apply it
office.toml: [tap] changed: restart the instance to apply it
office.toml: tunnel.offload changed: restart the instance to apply it
office.toml: tunnel.lanes changed: restart the instance to apply it`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}
