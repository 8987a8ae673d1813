package agentfile

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const good = `
network = "acme"
trust = ["PublicKeyOfTheSignerOfAcme00000000000000000="]
site = "GatewayOfBerlin7cJ2mTz9RkWb4uHsYp1NdQfLx3g8="
dir = "/srv/registry"
`

func TestParse_defaults(t *testing.T) {
	t.Parallel()
	f, err := Parse("/etc/tund/agent/office.toml", good)
	if err != nil {
		t.Fatal(err)
	}
	if f.Instance != "office" || f.Name != "office" || f.StateDir != "/var/lib/tund-agent/office" || f.Keepalive != 25 ||
		f.Every.Seconds() != 5 || f.Lifetime.Hours() != 720 || f.Trust.Threshold != 1 || f.Own.Capabilities != nil {
		t.Errorf("%+v", f)
	}
}

func TestParse_saysEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := Parse("office.toml", `
nettwork = "acme"
network = "a/b"
trust = ["x", "PublicKeyOfTheSignerOfAcme00000000000000000=", "PublicKeyOfTheSignerOfAcme00000000000000000="]
threshold = 4
site = "nobody"
keepalive = -1
interval = 0
[publish]
prefixes = ["here"]
days = 400
`)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"nettwork: unknown key", `network: network "a/b"`, `trust: "x" is not`, "is given twice", "threshold: 4 is out of range (1 to 3)",
		"site: want the public key", "keepalive: -1", "interval: 0", `publish.prefixes: "here"`, "publish.days: 400", "no registry: give dir"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not said: %s\n%v", want, err)
		}
	}
	for _, text := range []string{good + "bum = false\n", good + "[publish]\nreplicator = true\n", good + "[metrics]\nlisten = \"here\"\n",
		good + "ethernet = true\n[[publish.hosts]]\nmac = \"03:00:00:00:00:01\"\n", good + "[[publish.hosts]]\nmac = \"02:00:00:00:00:01\"\n",
		good + "ethernet = true\n[[publish.hosts]]\nmac = \"02:00:00:00:00:01\"\nvlan = 4095\n",
		good + "ethernet = true\n[[publish.hosts]]\nmac = \"00:00:5e:00:01:01\"\n",
		good + "ethernet = true\n[[publish.hosts]]\nmac = \"02:00:00:00:00:01\"\naddresses = [\"10.0.0.0/8\"]\n",
		good + "ethernet = true\n[[publish.hosts]]\nmac = \"02:00:00:00:00:01\"\n[[publish.hosts]]\nmac = \"02-00-00-00-00-01\"\n",
		good + "[publish]\nendpoints = [\"nowhere\"]\n", good + "[publish]\nprefixes = [\"10.0.0.1/8\"]\n", "network = 7", "[",
		good + "[etcd]\nendpoints = [\"https://a:1\"]\n", strings.Replace(good, "dir = \"/srv/registry\"", "[etcd]\nendpoints = [\"a:1\"]", 1),
		strings.Replace(good, "dir = \"/srv/registry\"", "[etcd]\nendpoints = [\"http://a:1\"]\nca = \"x\"", 1)} {
		if _, err := Parse("office.toml", text); err == nil {
			t.Errorf("accepted:\n%s", text)
		}
	}
}

func TestParse_frames(t *testing.T) {
	t.Parallel()
	f, err := Parse("office.toml", good+"ethernet = true\nbum = false\n[publish]\nreplicator = true\n[[publish.hosts]]\nmac = \"02-00-00-00-00-AA\"\n"+
		"vlan = 7\naddresses = [\"10.0.0.1\", \"fd00::1\"]\nrouter = true\n[metrics]\nlisten = \"127.0.0.1:9587\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if !f.Leaf || f.Metrics.Port() != 9587 || !slices.Equal(f.Own.Capabilities, []string{"ethernet", "replicator"}) || len(f.Hosts) != 1 ||
		f.Hosts[0].MAC != "02:00:00:00:00:aa" || f.Hosts[0].VLAN != 7 || len(f.Hosts[0].IPs) != 2 || !f.Hosts[0].Router {
		t.Errorf("%+v", f)
	}
}

// The reference has every key of the file, in its order, and its example can be loaded.
func TestDocs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/tund-agent.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## Configuration\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var documented, known []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented = append(documented, m[1])
	}
	var walk func(reflect.Type, string)
	walk = func(of reflect.Type, prefix string) {
		for i := range of.NumField() {
			f := of.Field(i)
			if name := prefix + f.Tag.Get("toml"); f.Type.Kind() == reflect.Struct {
				walk(f.Type, name+".")
			} else {
				known = append(known, name)
			}
		}
	}
	walk(reflect.TypeFor[raw](), "")
	if !slices.Equal(documented, known) {
		t.Errorf("documented %q\nknown      %q", documented, known)
	}
	example, _, _ := strings.Cut(strings.SplitN(section, "```toml\n", 2)[1], "```")
	example = strings.Replace(example, "PutThePublicKeyOfThisInstanceHere0000000000=", "GatewayOfBerlin7cJ2mTz9RkWb4uHsYp1NdQfLx3g8=", 1)
	if _, err := Parse("office.toml", example); err != nil {
		t.Errorf("the example: %v", err)
	}
}
