package exchange

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/cmd/tunctl/internal/exit/exittest"
	"tund/cmd/tunctl/internal/secretfile"
	"tund/config"
	"tund/crypto/keys"
	"tund/internal/screen"
)

// desk is what the verbs have from the rest of tunctl.
type desk struct {
	t         *testing.T
	dir       string
	path      string // of the configuration
	in        string
	out, errs bytes.Buffer
	refuse    error     // what replacing the configuration returns
	broken    io.Writer // in place of out; nil: out
}

// newDesk returns a desk with a configuration of one peer, anna.
func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir()}
	d.path = filepath.Join(d.dir, "office.toml")
	d.write("office.toml", "# ours\n[tunnel]\nprivate_key = \""+newKey(t).Base64()+"\"\nlisten_port = 51820\n\n"+
		"[tun]\naddress = [\"10.9.0.1/24\", \"fd09::1/64\"]\n\n"+
		"[[peer]]\nname = \"anna\"\npublic_key = \""+newKey(t).Public().String()+"\"\nallowed_ips = [\"10.9.0.2/32\"]\n")
	return d
}

func newKey(t *testing.T) keys.PrivateKey {
	t.Helper()
	k, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (d *desk) write(name, text string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// run executes one verb with its arguments.
func (d *desk) run(verb func(*Verbs) *cobra.Command, args ...string) error {
	d.out.Reset()
	d.errs.Reset()
	v := &Verbs{
		Streams:      &secretfile.Streams{In: strings.NewReader(d.in), Out: cmp.Or(d.broken, io.Writer(&d.out)), Err: &d.errs},
		Style:        func() (screen.Style, error) { return screen.Style{UTF8: true}, nil },
		Do:           func(f func(*cobra.Command, []string) error) func(*cobra.Command, []string) error { return f },
		CompletePeer: cobra.NoFileCompletions,
		ConfigFlag:   func(*cobra.Command) {},
		ConfigPath:   func(context.Context) (string, error) { return d.path, nil },
		Replace: func(_ context.Context, path string, old, text []byte) (string, error) {
			if d.refuse != nil {
				return "", d.refuse
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, old) {
				d.t.Errorf("replaces %q, %v", old, err)
			}
			return "in force", os.WriteFile(path, text, 0o600)
		},
	}
	cmd := verb(v)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	return cmd.ExecuteContext(context.Background())
}

func TestImport_refusesAsAWhole(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	out := filepath.Join(d.dir, "new.toml")
	for text, says := range map[string]string{
		"[Interface]\nPrivateKey = nonsense\n[Peer]\nPublicKey = nonsense\n": ":2: ",
		"[Interface]\nPrivateKey = " + newKey(t).Base64() + "\nAddress = 10.9.0.1/24\n" +
			"[Peer]\nPublicKey = " + newKey(t).Public().String() + "\nAllowedIPs = 10.0.0.0/33\n": "10.0.0.0/33",
	} {
		path := d.write("wg0.conf", text)
		err := d.run((*Verbs).Import, path, "-o", out)
		exittest.Ends(t, err, exit.Config, says)
		if !strings.Contains(err.Error(), "nothing was imported") {
			t.Errorf("ended with %v", err)
		}
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the result is there: %v", err)
	}
}

func TestImport_takesTheNameOfTheOutput(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.in = "[Interface]\nPrivateKey = " + newKey(t).Base64() + "\nAddress = 10.9.0.1/24\nPostUp = logger %i\n"
	if err := d.run((*Verbs).Import, "-", "-o", filepath.Join(d.dir, "lab.toml")); err != nil {
		t.Fatal(err)
	}
	if got := d.errs.String(); !strings.HasPrefix(got, "standard input:4: PostUp") || !strings.Contains(got, "tund@lab") {
		t.Errorf("said %q", got)
	}
	if _, err := config.Load(filepath.Join(d.dir, "lab.toml")); err != nil {
		t.Error(err)
	}
	// No device can have this name, so the file would be refused when tund starts.
	long := filepath.Join(d.dir, "branch-office-berlin.toml")
	err := d.run((*Verbs).Import, "-", "-o", long)
	exittest.Ends(t, err, exit.Config, `"branch-office-berlin", is longer than 15 bytes`)
	if _, err := os.Stat(long); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the result is there: %v", err)
	}
}

func TestExport_flagsOfTheWrongSide(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for args, says := range map[string]string{
		"--endpoint vpn.example.org":                          "--endpoint is for the file of a peer: name the peer",
		"--dns 10.9.0.1":                                      "--dns is for the file of a peer",
		"anna --qr":                                           "without the private key of anna is of no use",
		"anna --allowed-ips nonsense":                         `--allowed-ips: "nonsense" is not a network`,
		"anna --dns a#b":                                      `--dns: "a#b" is neither an address nor a domain`,
		"anna --endpoint vpn.example.org:0 ":                  "--endpoint: ",
		"anna --endpoint http://vpn.example.org":              "--endpoint: ",
		"anna --private-key-file " + d.path + " --endpoint a": "",
	} {
		err := d.run((*Verbs).Export, strings.Fields(args)...)
		if says == "" {
			if err == nil || !strings.Contains(err.Error(), "is not a private key") {
				t.Errorf("%s: %v", args, err)
			}
			continue
		}
		exittest.Ends(t, err, exit.Misused, says)
	}
	if d.out.Len() > 0 {
		t.Errorf("wrote %q", &d.out)
	}
}

func TestExport_endpointWithoutAPort(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for given, want := range map[string]string{
		"vpn.example.org": "vpn.example.org:51820", "192.0.2.1": "192.0.2.1:51820", "2001:db8::1": "[2001:db8::1]:51820",
		"[2001:db8::1]": "[2001:db8::1]:51820", "vpn.example.org:7": "vpn.example.org:7",
	} {
		if err := d.run((*Verbs).Export, "anna", "--endpoint", given); err != nil {
			t.Errorf("%s: %v", given, err)
		}
		if !strings.Contains(d.out.String(), "Endpoint = "+want+"\n") {
			t.Errorf("%s: wrote\n%s", given, &d.out)
		}
		if !strings.Contains(d.errs.String(), "only peer anna knows its private key") {
			t.Errorf("%s: said %q", given, &d.errs)
		}
	}
}

func TestExport_saysBeforeItWritesWhatIsThere(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	there := d.write("anna.png", "")
	out := filepath.Join(d.dir, "anna.conf")
	err := d.run((*Verbs).Export, "--png", there, "-o", out)
	exittest.Ends(t, err, exit.Failed, there+" exists already")
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one of two files was written: %v", err)
	}
}

func TestInvite_givesFreeAddressesAndKeys(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	if err := d.run((*Verbs).Invite, "berta", "--endpoint", "vpn.example.org"); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(d.path)
	if err != nil {
		t.Fatal(err)
	}
	berta := c.Peers[1]
	if berta.Name != "berta" || berta.PresharedKey.IsZero() || len(berta.AllowedIPs) != 2 || berta.AllowedIPs[0].String() != "10.9.0.3/32" {
		t.Errorf("added %+v", berta)
	}
	for _, want := range []string{"Address = 10.9.0.3/32", "PresharedKey = " + berta.PresharedKey.Base64(), "Endpoint = vpn.example.org:51820"} {
		if !strings.Contains(d.out.String(), want) {
			t.Errorf("the file of the peer lacks %q:\n%s", want, &d.out)
		}
	}
	if !strings.Contains(d.errs.String(), `peer "berta" with 10.9.0.3/32`) {
		t.Errorf("said %q", &d.errs)
	}
	text, err := os.ReadFile(d.path)
	if err != nil || !strings.HasPrefix(string(text), "# ours\n") {
		t.Errorf("the comments are lost: %v\n%s", err, text)
	}
}

func TestInvite_refusedLeavesNothing(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	before, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	d.refuse = errors.New("the instance refuses it")
	if err := d.run((*Verbs).Invite, "berta", "--endpoint", "a:1"); !errors.Is(err, d.refuse) {
		t.Errorf("ended with %v", err)
	}
	exittest.Ends(t, d.run((*Verbs).Invite, "anna", "--endpoint", "a:1"), exit.Failed, `peer "anna" exists already`)
	exittest.Ends(t, d.run((*Verbs).Invite, "berta"), exit.Misused, "--endpoint: give the name or address")
	exittest.Ends(t, d.run((*Verbs).Invite, "berta", "--endpoint", "a:1", "--address", "nonsense"), exit.Misused, `"nonsense" is not an address`)
	entries, err := os.ReadDir(d.dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
	if after, err := os.ReadFile(d.path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("changed to %q, %v", after, err)
	}
	if d.out.Len() > 0 {
		t.Errorf("gave away a key that no configuration has: %q", &d.out)
	}
}

// closed is a pipe whose reader has gone.
type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// The key of an invited peer is in this one output: that nobody has read it is a failure, even
// where a reader that has gone is none.
func TestInvite_saysThatTheFileIsLost(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.broken = closed{}
	err := d.run((*Verbs).Invite, "berta", "--endpoint", "a:1")
	exittest.Ends(t, err, exit.Failed, `peer "berta" is there, but its file is lost`)
	if errors.Is(err, syscall.EPIPE) {
		t.Error("it counts as a reader that has seen enough")
	}
}
