// Package agentfile reads the TOML file of an agent into checked values. It reads that file and
// nothing else, and reports all mistakes at once.
//
// Source: /docs/tund-agent.md, the reference for users, checked against this package by a test.
package agentfile

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"tund/internal/names"
	"tund/internal/registry/agent"
	"tund/internal/registry/record"
	"tund/internal/registry/view"
	"tund/internal/rundir"
)

// File is what the file of an agent says, with every default filled in.
type File struct {
	Instance  string // of tund; default: base name of the file
	StateDir  string // of the agent; default: /var/lib/tund-agent/<instance>
	Trust     record.Trust
	Site      record.Site    // public key of the instance
	Name      string         // wanted by the site
	Keepalive int            // seconds, of every peer; 0: off
	Ethernet  bool           // carry frames with sites that do
	Leaf      bool           // broadcasts and the like are sent to replicators alone
	Metrics   netip.AddrPort // where metrics can be read; invalid: nowhere

	// The registry is a directory, or etcd.

	Dir   string        // "": etcd
	Every time.Duration // between two looks at the directory
	Etcd  Etcd

	Own      record.Record // what the site says of itself: endpoints, prefixes, VLANs, MTU
	Lifetime time.Duration // of its records
	Hosts    []agent.StaticHost
}

// Etcd is where a registry in etcd is reached.
type Etcd struct {
	Endpoints     []string // URLs of the members
	CA, Cert, Key string   // PEM files; "": none
}

// raw is the file as it is written.
type raw struct {
	Instance  string   `toml:"instance"`
	StateDir  string   `toml:"state_dir"`
	Network   string   `toml:"network"`
	Trust     []string `toml:"trust"`
	Threshold int      `toml:"threshold"`
	Site      string   `toml:"site"`
	Name      string   `toml:"name"`
	Keepalive int      `toml:"keepalive"`
	Ethernet  bool     `toml:"ethernet"`
	BUM       bool     `toml:"bum"`
	Dir       string   `toml:"dir"`
	Interval  int      `toml:"interval"`
	Etcd      struct {
		Endpoints []string `toml:"endpoints"`
		CA        string   `toml:"ca"`
		Cert      string   `toml:"cert"`
		Key       string   `toml:"key"`
	} `toml:"etcd"`
	Publish struct {
		Endpoints []string `toml:"endpoints"`
		Prefixes  []string `toml:"prefixes"`
		VLANs     []uint16 `toml:"vlans"`
		MTU       int      `toml:"mtu"`
		Days      int      `toml:"days"`
		// The site passes on what others may not flood.
		Replicator bool `toml:"replicator"`
		Hosts      []struct {
			MAC       string   `toml:"mac"`
			VLAN      int      `toml:"vlan"`
			Addresses []string `toml:"addresses"`
			Router    bool     `toml:"router"`
		} `toml:"hosts"`
	} `toml:"publish"`
	Metrics struct {
		Listen string `toml:"listen"`
	} `toml:"metrics"`
}

// maxSize bounds the file in bytes.
const maxSize = 1 << 20

// Load reads the file at path. An error that is about its content names all mistakes, one a line.
func Load(path string) (*File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxSize)
	}
	return Parse(path, string(data))
}

// Parse is Load of a text in place of what the file at path holds.
func Parse(path, text string) (*File, error) {
	r := raw{Threshold: 1, Keepalive: 25, Interval: 5, BUM: true}
	r.Publish.Days = 30
	meta, err := toml.Decode(text, &r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c := checker{path: path}
	for _, key := range meta.Undecoded() {
		c.fault("%s: unknown key", key)
	}
	f := c.file(&r)
	return f, errors.Join(c.faults...)
}

// checker collects mistakes.
type checker struct {
	path   string
	faults []error
}

func (c *checker) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf("%s: %s", c.path, fmt.Sprintf(format, args...)))
}

func (c *checker) within(key string, value, low, high int) {
	if value < low || value > high {
		c.fault("%s: %d is out of range (%d to %d)", key, value, low, high)
	}
}

func (c *checker) file(r *raw) *File {
	f := &File{Instance: r.Instance, StateDir: r.StateDir, Name: r.Name, Keepalive: r.Keepalive, Ethernet: r.Ethernet, Dir: r.Dir}
	if f.Instance == "" {
		f.Instance = strings.TrimSuffix(filepath.Base(c.path), ".toml")
	}
	if err := rundir.CheckName(f.Instance); err != nil {
		c.fault("instance: %v", err)
	}
	if f.Name == "" {
		f.Name = f.Instance
	}
	if f.StateDir == "" {
		f.StateDir = filepath.Join("/var/lib/tund-agent", f.Instance)
	}
	f.Etcd = Etcd{r.Etcd.Endpoints, r.Etcd.CA, r.Etcd.Cert, r.Etcd.Key}
	switch {
	case f.Dir == "" && len(f.Etcd.Endpoints) == 0:
		c.fault("no registry: give dir, or endpoints in [etcd]")
	case f.Dir != "" && len(f.Etcd.Endpoints) > 0:
		c.fault("two registries: give either dir or [etcd]")
	case (f.Etcd.Cert == "") != (f.Etcd.Key == ""):
		c.fault("etcd: cert and key need each other")
	}
	for _, text := range f.Etcd.Endpoints {
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			c.fault("etcd.endpoints: %.80q: want a URL like https://etcd1.example.org:2379", text)
		} else if u.Scheme == "http" && f.Etcd.Cert+f.Etcd.CA != "" {
			c.fault("etcd.endpoints: %.80q: certificates need https", text)
		}
	}
	c.within("keepalive", r.Keepalive, 0, 65535)
	c.within("interval", r.Interval, 1, 3600)
	f.Every = time.Duration(r.Interval) * time.Second
	c.trust(r, f)
	var err error
	if f.Site, err = record.ParseSite(r.Site); err != nil {
		c.fault("site: want the public key of the instance (tunctl status shows it)")
	}
	c.publish(r, f)
	c.ethernet(r, f)
	if text := r.Metrics.Listen; text != "" {
		if f.Metrics, err = netip.ParseAddrPort(text); err != nil || f.Metrics.Port() == 0 {
			c.fault("metrics.listen: %.80q: want an IP address and a port, like 127.0.0.1:9587", text)
		}
	}
	return f
}

// trust checks whom the agent believes.
func (c *checker) trust(r *raw, f *File) {
	f.Trust = record.Trust{Network: r.Network, Threshold: r.Threshold}
	if err := record.CheckNetwork(r.Network); err != nil {
		c.fault("network: %v", err)
	}
	if len(r.Trust) == 0 {
		c.fault("trust: missing: the public keys of the network's signers")
	}
	for _, text := range r.Trust {
		k, err := record.ParseKey(text)
		if err != nil {
			c.fault("trust: %.60q %v", text, err)
		}
		if slices.Contains(f.Trust.Signers, k) {
			c.fault("trust: %s is given twice", k)
		}
		f.Trust.Signers = append(f.Trust.Signers, k)
	}
	c.within("threshold", r.Threshold, 1, max(1, len(r.Trust)))
}

// publish checks what the site says of itself.
func (c *checker) publish(r *raw, f *File) {
	p := &r.Publish
	f.Own = record.Record{Endpoints: p.Endpoints, VLANs: p.VLANs, MTU: p.MTU}
	for _, text := range p.Prefixes {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			c.fault("publish.prefixes: %.60q: want a network like 10.30.0.0/16", text)
		}
		f.Own.Prefixes = append(f.Own.Prefixes, prefix)
	}
	if f.Ethernet {
		f.Own.Capabilities = []string{record.CapEthernet}
	}
	if p.Replicator {
		f.Own.Capabilities = append(f.Own.Capabilities, record.CapReplicator)
	}
	if err := f.Own.Check(); err != nil && len(c.faults) == 0 {
		c.fault("publish: %v", err)
	}
	c.within("publish.mtu", p.MTU, 0, 65535)
	c.within("publish.days", p.Days, 1, 365)
	f.Lifetime = time.Duration(p.Days) * 24 * time.Hour
}

// ethernet checks what concerns frames.
func (c *checker) ethernet(r *raw, f *File) {
	f.Leaf = !r.BUM
	if !f.Ethernet {
		if f.Leaf || r.Publish.Replicator || len(r.Publish.Hosts) > 0 {
			c.fault("bum = false, publish.replicator and publish.hosts need ethernet = true")
		}
		return
	}
	for i, h := range r.Publish.Hosts {
		where := fmt.Sprintf("publish.hosts %d", i+1)
		m, err := names.Station(h.MAC)
		if err != nil {
			c.fault("%s: mac %.40q %v", where, h.MAC, err)
		}
		if names.SharedStation(m) {
			c.fault("%s: mac %s is shared by routers, which say by their election where it is: leave it out", where, h.MAC)
		}
		c.within(where+": vlan", h.VLAN, 0, 4094)
		host := agent.StaticHost{HostID: view.HostID{VLAN: uint16(h.VLAN), MAC: net.HardwareAddr(m[:]).String()}, Router: h.Router}
		for _, text := range h.Addresses {
			ip, err := netip.ParseAddr(text)
			if err != nil || ip.Is4In6() || ip.Zone() != "" || ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() {
				c.fault("%s: addresses: %.60q: want the IP address of a host", where, text)
			}
			host.IPs = append(host.IPs, ip)
		}
		if len(host.IPs) > record.MaxStationIPs {
			c.fault("%s: more than %d addresses", where, record.MaxStationIPs)
		}
		if slices.ContainsFunc(f.Hosts, func(o agent.StaticHost) bool { return o.HostID == host.HostID }) {
			c.fault("%s: %s is there twice", where, host.MAC)
		}
		f.Hosts = append(f.Hosts, host)
	}
}
