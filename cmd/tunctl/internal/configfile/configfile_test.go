package configfile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tund/cmd/tunctl/internal/exit"
	"tund/cmd/tunctl/internal/exit/exittest"
	"tund/config"
	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/unixsock/unixsocktest"
)

// place is a host with a directory of configurations and one of running instances.
type place struct {
	Finder
	t *testing.T
}

func newPlace(t *testing.T) *place {
	t.Helper()
	dir := unixsocktest.Dir(t)
	p := &place{Finder{RunDir: filepath.Join(dir, "run"), ConfigDir: filepath.Join(dir, "etc")}, t}
	if err := os.Mkdir(p.ConfigDir, 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

// write puts a configuration with peers of these names into the directory.
func (p *place) write(name string, peers ...string) (path string, text []byte) {
	p.t.Helper()
	out := "[tunnel]\nprivate_key = \"" + newKey(p.t).Base64() + "\"\n[tun]\n"
	for _, peer := range peers {
		out += "[[peer]]\nname = \"" + peer + "\"\npublic_key = \"" + newKey(p.t).Public().String() + "\"\n"
	}
	path = filepath.Join(p.ConfigDir, name)
	if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path, []byte(out)
}

func newKey(t *testing.T) keys.PrivateKey {
	t.Helper()
	k, err := keys.GeneratePrivate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// instance is a running instance as far as this package talks to one.
type instance struct {
	control.Backend
	name, config string
	refuse       error // what a reload returns
	reloads      atomic.Int32
}

func (i *instance) Status() control.Instance {
	return control.Instance{Name: i.name, Config: i.config}
}

func (i *instance) Reload(time.Duration) error {
	i.reloads.Add(1)
	return i.refuse
}

// run starts an instance with the configuration at path.
func (p *place) run(name, path string, refuse error) *instance {
	p.t.Helper()
	i := &instance{name: name, config: path, refuse: refuse}
	s, err := control.Listen(control.Options{RunDir: p.RunDir, Instance: name})
	if err != nil {
		p.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(i) }()
	p.t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-served); err != nil {
			p.t.Error(err)
		}
	})
	return i
}

func TestPath_whichConfiguration(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := newPlace(t)
	find := func(file, instance, want string) {
		t.Helper()
		if got, err := p.Path(ctx, file, instance); err != nil || got != want {
			t.Errorf("Path(%q, %q) = %q, %v, want %q", file, instance, got, err, want)
		}
	}
	_, err := p.Path(ctx, "", "")
	exittest.Ends(t, err, exit.Misused, "no configuration in "+p.ConfigDir+": name its file")

	office, _ := p.write("office.toml")
	find("", "", office)
	find("other.toml", "", "other.toml")
	find("other.toml", "office", "other.toml")
	find("", "branch", filepath.Join(p.ConfigDir, "branch.toml"))

	p.write("branch.toml")
	_, err = p.Path(ctx, "", "")
	exittest.Ends(t, err, exit.Misused, "choose one with -i (branch, office)")

	p.run("lab", "/srv/lab.toml", nil)
	find("", "", "/srv/lab.toml") // the only one that runs
	find("", "lab", "/srv/lab.toml")
	p.run("wg0", "", nil)
	_, err = p.Path(ctx, "", "wg0")
	exittest.Ends(t, err, exit.Failed, "configured with wg(8)")
	_, err = p.Path(ctx, "", "")
	exittest.Ends(t, err, exit.Misused, "choose one with -i")
}

func TestReplace_ofAnInstanceThatDoesNotRun(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := newPlace(t)
	path, old := p.write("office.toml", "anna")
	next := append([]byte("# changed\n"), old...)

	said, err := p.Replace(ctx, path, old, next)
	if err != nil || said != "in force from the next start of the instance" {
		t.Errorf("said %q, %v", said, err)
	}
	has(t, path, next)

	_, err = p.Replace(ctx, path, old, old)
	exittest.Ends(t, err, exit.Failed, "changed by another program in the meantime")
	_, err = p.Replace(ctx, path, next, []byte("[tunnel]\n"))
	exittest.Ends(t, err, exit.Config, "was not changed, because the result would have errors")
	has(t, path, next)
}

func TestReplace_ofARunningInstance(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, test := range []struct {
		name   string
		refuse error
		kept   bool // the new text stays
		says   string
	}{
		{name: "takes it", kept: true},
		{name: "refuses it", refuse: &control.Error{Code: control.CodeConfig, Message: "office.toml:1:1: tunnel: no\n"},
			says: "office: reload refused, the old configuration stays in force:\noffice.toml:1:1: tunnel: no"},
		{name: "takes it in part", refuse: errors.New("the kernel refused a route"), kept: true, says: "is changed, but: office: reload: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			path, old := p.write("office.toml", "anna")
			p.run("branch", "/elsewhere.toml", nil)
			i := p.run("office", path, test.refuse)
			next := append([]byte("# changed\n"), old...)

			// A file is the same file under another name.
			link := filepath.Join(p.ConfigDir, "link.toml")
			if err := os.Symlink(path, link); err != nil {
				t.Fatal(err)
			}
			said, err := p.Replace(ctx, link, old, next)
			switch {
			case test.says == "":
				if err != nil || said != "in force now, and after every reload and restart" {
					t.Errorf("said %q, %v", said, err)
				}
			case err == nil || !strings.Contains(err.Error(), test.says):
				t.Errorf("ended with %v, want %q", err, test.says)
			}
			if i.reloads.Load() != 1 {
				t.Errorf("%d reloads", i.reloads.Load())
			}
			if test.kept {
				has(t, path, next)
			} else {
				has(t, path, old)
			}
		})
	}
}

func has(t *testing.T, path string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
		t.Errorf("%s has %q, %v, want %q", path, got, err, want)
	}
}

func TestLoad_codes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	path, _ := p.write("office.toml", "anna")
	if c, err := Load(path); err != nil || len(c.Peers) != 1 {
		t.Errorf("%v, %v", c, err)
	}
	bad := filepath.Join(p.ConfigDir, "bad.toml")
	if err := os.WriteFile(bad, []byte("[tunnel]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(bad)
	exittest.Ends(t, err, exit.Config, "the configuration has errors:\n"+bad+":1:1: ")
	_, err = Load(filepath.Join(p.ConfigDir, "none.toml"))
	exittest.Ends(t, err, exit.Config, "no such file")
	_, _, err = Read(bad)
	exittest.Ends(t, err, exit.Config, "the configuration has errors:")
	exittest.Ends(t, Failure(&os.PathError{Op: "open", Path: path, Err: os.ErrPermission}), exit.Permission, path)
}

func TestFindPeer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	path, _ := p.write("office.toml", "anna", "ann", "berta")
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for wanted, want := range map[string]string{
		"ann": "ann", "anna": "anna", "ber": "berta", c.Peers[0].PublicKey.String(): "anna", c.Peers[2].PublicKey.String()[:30]: "berta",
	} {
		if got, err := FindPeer(c, wanted); err != nil || got.Name != want {
			t.Errorf("FindPeer(%q) = %v, %v, want %s", wanted, got, err, want)
		}
	}
	_, err = FindPeer(c, "an")
	exittest.Ends(t, err, exit.Failed, `"an" fits 2 peers: ann, anna`)
	_, err = FindPeer(c, "carla")
	exittest.Ends(t, err, exit.Failed, `no peer "carla" (there is ann, anna, berta)`)
	_, err = FindPeer(&config.Config{Path: path}, "carla")
	exittest.Ends(t, err, exit.Failed, `no peer "carla": `+path+" has none")
}
