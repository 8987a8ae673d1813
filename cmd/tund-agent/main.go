// Command tund-agent keeps the peers of a running tund as the registry of a network says.
//
//	tund-agent -c /etc/tund/agent/office.toml   run
//	tund-agent request office                   what a signer needs to grant this site
//	tund-agent status office                    what a running agent knows
//	tund-agent leave office                     tell the other sites that this one leaves
//
// It runs beside tund, as a user of its own and without any capability, and speaks to it over
// agent.sock. It ends with 0 when it was asked to stop, 1 when something failed, 2 for wrong usage,
// 77 when it lacks a permission and 78 for a faulty file. docs/tund-agent.md describes it.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"tund/internal/buildinfo"
	"tund/internal/control"
	"tund/internal/heap"
	"tund/internal/output"
	"tund/internal/registry/agent"
	"tund/internal/registry/agentfile"
	"tund/internal/registry/dirstore"
	"tund/internal/registry/etcdstore"
	"tund/internal/registry/metrics"
	"tund/internal/registry/record"
	"tund/internal/registry/view"
	"tund/internal/rundir"
	"tund/internal/sdnotify"
)

// version is set by the Makefile.
var version = ""

// Exit codes.
const (
	exitFailure    = 1
	exitUsage      = 2
	exitPermission = 77
	exitConfig     = 78
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run executes one command line and returns the exit code. What could not be written to standard
// output is a failure.
func run(args []string, stdout, stderr io.Writer) int {
	out := output.New(stdout)
	code := execute(args, out, stderr)
	if err := out.Err(); err != nil && code == 0 {
		fmt.Fprintf(stderr, "tund-agent: %v\n", err)
		return exitFailure
	}
	return code
}

func execute(args []string, stdout, stderr io.Writer) int {
	c, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = io.WriteString(stdout, usage)
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "tund-agent: %v\n%s", err, usage)
		return exitUsage
	case c.showVersion:
		fmt.Fprintln(stdout, "tund-agent", buildinfo.Version(version))
		return 0
	}
	file, err := agentfile.Load(c.path)
	if err != nil {
		fmt.Fprintln(stderr, err)
		if errors.Is(err, fs.ErrPermission) {
			return exitPermission
		}
		return exitConfig
	}
	switch c.verb {
	case verbCheck:
		if err := checkFiles(file); err != nil {
			fmt.Fprintf(stderr, "%s: %v\n", c.path, err)
			if errors.Is(err, fs.ErrPermission) {
				return exitPermission
			}
			return exitConfig
		}
		fmt.Fprintf(stdout, "%s: ok\n", c.path)
	case verbRequest:
		err = printRequest(file, stdout)
	case verbStatus:
		err = printStatus(file, stdout)
	case verbLeave:
		err = leave(file, stdout)
	default:
		err = serve(file, logger(stderr, c.level))
	}
	if err != nil {
		fmt.Fprintln(stderr, "tund-agent:", err)
		if errors.Is(err, fs.ErrPermission) {
			return exitPermission
		}
		return exitFailure
	}
	return 0
}

// logger writes lines for people, with the time unless systemd adds it.
func logger(w io.Writer, level zapcore.Level) *zap.Logger {
	c := zap.NewDevelopmentEncoderConfig()
	c.EncodeTime, c.EncodeLevel = zapcore.TimeEncoderOfLayout("15:04:05.000"), zapcore.CapitalLevelEncoder
	if os.Getenv("JOURNAL_STREAM") != "" {
		c.TimeKey = ""
	}
	c.CallerKey, c.ConsoleSeparator = "", " "
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(c), zapcore.AddSync(w), level))
}

// keyName is the name of the agent's key in its state directory.
const keyName = "agent.key"

// loadKey returns the agent's own key, which it makes when there is none.
func loadKey(dir string) (ed25519.PrivateKey, error) {
	if err := makeStateDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, keyName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeKey(dir, path); err == nil {
			text, err = os.ReadFile(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the agent's key: %w", err)
	}
	seed, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s is not a key: restore it, or remove it and ask for a new grant", path)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// makeStateDir makes the directory of the agent. Whoever makes its parent, as root does with
// --request before the service has run, lets the user of the service pass, whatever the umask is.
func makeStateDir(dir string) error {
	parent := filepath.Dir(dir)
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(os.MkdirAll(parent, 0o755), os.Chmod(parent, 0o755)); err != nil {
			return err
		}
	}
	return os.MkdirAll(dir, 0o700)
}

// makeKey makes the key at path, unless another process does so at the same moment: then its key
// stays.
func makeKey(dir, path string) error {
	f, err := os.CreateTemp(dir, ".key-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // it never fails
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(seed) + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// printRequest prints what a signer needs.
func printRequest(f *agentfile.File, w io.Writer) error {
	key, err := loadKey(f.StateDir)
	if err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{
		"network": f.Trust.Network, "site": f.Site, "agent": record.Key(key.Public().(ed25519.PublicKey)), "name": f.Name,
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}

// printStatus prints what a running agent has left for us. It is an error, nevertheless, if that
// agent no longer runs.
func printStatus(f *agentfile.File, w io.Writer) error {
	text, err := agent.Files(f.StateDir).Open(agent.StatusName)
	if err == nil && text == nil {
		err = errors.New("the agent has not run yet")
	}
	if err != nil {
		return err
	}
	defer text.Close()
	if _, err := io.Copy(w, text); err != nil {
		return err
	}
	lock, err := tryClaim(f.StateDir)
	if errors.Is(err, errClaimed) {
		return nil
	}
	if err == nil {
		err = errors.Join(errors.New("the agent does not run: this is what it knew when it stopped"), lock.Close())
	}
	return err
}

// openStore returns the store of the registry, and what to call it.
func openStore(f *agentfile.File) (agent.Store, string, error) {
	if f.Dir != "" {
		return agent.Directory{Store: dirstore.New(f.Dir, f.Trust.Network), Every: f.Every}, f.Dir, nil
	}
	s, err := etcdstore.Open(etcdstore.Options{
		Endpoints: f.Etcd.Endpoints, CA: f.Etcd.CA, Cert: f.Etcd.Cert, Key: f.Etcd.Key, Network: f.Trust.Network,
		Hosts: f.Ethernet, VLANs: f.Own.VLANs,
	})
	return s, strings.Join(f.Etcd.Endpoints, " "), err
}

// checkFiles checks the files that the configuration names, as a start would. It connects to
// nothing.
func checkFiles(f *agentfile.File) error {
	if f.Dir != "" {
		return nil
	}
	s, _, err := openStore(f)
	if err != nil {
		return err
	}
	if c, ok := s.(io.Closer); ok {
		_ = c.Close()
	}
	return nil
}

// options returns what the agent of a file is made of, but for the daemon, and what to call the
// store.
func options(f *agentfile.File, log *zap.Logger) (o agent.Options, where string, err error) {
	key, err := loadKey(f.StateDir)
	if err != nil {
		return o, "", err
	}
	store, where, err := openStore(f)
	return agent.Options{
		View: view.Options{
			Trust: f.Trust, Self: f.Site, Keepalive: f.Keepalive, Ethernet: f.Ethernet, VLANs: f.Own.VLANs, Leaf: f.Leaf, Leases: f.Dir == "",
			Replicator: slices.Contains(f.Own.Capabilities, record.CapReplicator),
		},
		Store: store, Disk: agent.Files(f.StateDir), Log: log, Key: key, Own: f.Own, Lifetime: f.Lifetime, Static: f.Hosts,
	}, where, err
}

// serve runs the agent until it is asked to stop.
func serve(f *agentfile.File, log *zap.Logger) error {
	heap.Begin()
	lock, err := claim(f.StateDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := agent.Files(f.StateDir).Clean(); err != nil {
		log.Warn("cannot remove what an earlier run has left in the directory of the state", zap.Error(err))
	}
	o, where, err := options(f, log)
	if err != nil {
		return err
	}
	o.Daemon = control.NewAgentClient(rundir.Path(), f.Instance)
	var memory heap.Trimmer
	o.Worked = memory.Worked
	a, err := agent.New(o)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if f.Metrics.IsValid() {
		served, err := metrics.Serve(ctx, f.Metrics, a.Status)
		if err != nil {
			log.Warn("no metrics until a restart", zap.Error(err))
		} else {
			defer func() { <-served }()
		}
	}
	notify, err := sdnotify.FromEnvironment()
	if err == nil {
		err = notify.Ready("following " + where)
	}
	if err != nil {
		log.Warn("cannot notify systemd", zap.Error(err))
	}
	log.Info("ready", zap.String("instance", f.Instance), zap.String("network", f.Trust.Network), zap.String("registry", where))
	a.Run(ctx)
	log.Info("stopped")
	return nil
}
