// Package etcd runs the members of a cluster of etcd as processes on loopback, for tests of what
// reads it. It starts and ends them; it is no client of etcd, and none is linked with it.
package etcd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tund/internal/testnet"
)

// Options is what members have in common.
type Options struct {
	Dir   string   // for their data and logs
	Flags []string // further flags of each
	// CA is a PEM file, and NAME.pem and NAME.key in the same directory are the certificate and key
	// of a member: nobody is let in without one that the CA has signed. "": everybody is.
	CA string
}

// Cluster is members, some of which run. It belongs to one goroutine.
type Cluster struct {
	o              Options
	program        string
	clients, peers []string    // host:port
	procs          []*exec.Cmd // nil: the member does not run
	data           int         // number of the set of data directories
}

// New returns a cluster of n members of which none runs yet. Those that run are killed when the
// test ends. The test is skipped, or fails, without etcd (testnet.Program).
func New(t *testing.T, n int, o Options) *Cluster {
	t.Helper()
	c := &Cluster{o: o, program: testnet.Program(t, "etcd"), procs: make([]*exec.Cmd, n)}
	for range n {
		c.clients, c.peers = append(c.clients, freeAddress(t)), append(c.peers, freeAddress(t))
	}
	t.Cleanup(c.KillAll)
	return c
}

// freeAddress returns an address on loopback at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Addresses returns host:port of each member, for clients.
func (c *Cluster) Addresses() []string { return c.clients }

// URLs returns the URL of each member, for clients.
func (c *Cluster) URLs() (urls []string) {
	for _, client := range c.clients {
		urls = append(urls, c.scheme()+client)
	}
	return urls
}

func (c *Cluster) scheme() string {
	if c.o.CA != "" {
		return "https://"
	}
	return "http://"
}

// Name returns the name of a member.
func Name(i int) string { return fmt.Sprint("member", i) }

// PeerURL returns the URL of a member for the others.
func (c *Cluster) PeerURL(i int) string { return c.scheme() + c.peers[i] }

// Initial returns the value of --initial-cluster.
func (c *Cluster) Initial() string {
	var all []string
	for i := range c.peers {
		all = append(all, Name(i)+"="+c.PeerURL(i))
	}
	return strings.Join(all, ",")
}

// DataDir returns where a member has its data.
func (c *Cluster) DataDir(i int) string {
	return filepath.Join(c.o.Dir, fmt.Sprintf("data%d-%d", c.data, i))
}

// Forget lets members that are started from now on begin without data.
func (c *Cluster) Forget() { c.data++ }

// Start starts a member that does not run.
func (c *Cluster) Start(t *testing.T, i int) {
	t.Helper()
	name, client := Name(i), c.scheme()+c.clients[i]
	args := []string{
		"--name", name, "--data-dir", c.DataDir(i), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", c.PeerURL(i), "--initial-advertise-peer-urls", c.PeerURL(i),
		"--initial-cluster", c.Initial(), "--initial-cluster-state", "new", "--unsafe-no-fsync", "--logger", "zap",
	}
	if ca := c.o.CA; ca != "" {
		own := filepath.Join(filepath.Dir(ca), name)
		args = append(args, "--client-cert-auth", "--trusted-ca-file", ca, "--cert-file", own+".pem", "--key-file", own+".key",
			"--peer-client-cert-auth", "--peer-trusted-ca-file", ca, "--peer-cert-file", own+".pem", "--peer-key-file", own+".key")
	}
	cmd := exec.Command(c.program, append(args, c.o.Flags...)...)
	log, err := os.OpenFile(filepath.Join(c.o.Dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.procs[i] = cmd
}

// StartAll starts all members, none of which runs.
func (c *Cluster) StartAll(t *testing.T) {
	t.Helper()
	for i := range c.procs {
		c.Start(t, i)
	}
}

// Process returns the process of a member; nil: it does not run.
func (c *Cluster) Process(i int) *os.Process {
	if c.procs[i] == nil {
		return nil
	}
	return c.procs[i].Process
}

// Kill kills a member, if it runs, also while it is stopped (SIGSTOP).
func (c *Cluster) Kill(i int) {
	if p := c.procs[i]; p != nil {
		_ = p.Process.Signal(syscall.SIGCONT)
		_ = p.Process.Kill()
		_ = p.Wait()
		c.procs[i] = nil
	}
}

// KillAll kills all members that run.
func (c *Cluster) KillAll() {
	for i := range c.procs {
		c.Kill(i)
	}
}
