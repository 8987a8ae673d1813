package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// errUnavailable marks a contender that cannot be had here; the run goes on without it and says
// why.
var errUnavailable = errors.New("unavailable")

// about describes a contender in the report.
type about struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Cipher  string `json:"cipher"`
	MTU     int    `json:"mtu"` // of the tunnel device; 0: see the results
	Skipped string `json:"skipped,omitempty"`
}

// demand is what a case asks of a contender beyond a tunnel.
type demand struct {
	morePeers []identity // configured at both gateways beside the real one, without endpoint
}

// contender is one program on the scales, or the bare link.
type contender interface {
	about() about
	// shapes says in which topologies it can stand.
	shapes() []shape
	// prepare finds or builds the program. An error wrapping errUnavailable leaves it out.
	prepare(ctx context.Context, w *workshop) error
	// start brings the tunnel up between p.a and p.b, or returns an error; p.close takes it down.
	start(ctx context.Context, p *pair, d demand) error
}

// manyPeers is what contenders offer that the cases handshakes, memory and peers10k can measure.
type manyPeers interface {
	contender
	// startResponder starts only the program of p.b, listening on listenPort, with these peers.
	startResponder(ctx context.Context, p *pair, peers []identity) (public key, err error)
}

// listenPort is every contender's port on the underlay.
const listenPort = 51820

// baseline is what ratios are taken against.
const baseline = "wireguard-go"

// defaultContenders run when CONTENDERS is not given. A contender stands only in the cases its
// shapes fit.
var defaultContenders = []string{"veth", "wireguard-go", "wireguard-go-null", "tailscale", "openvpn", "nebula", "tund",
	"openvpn-tap", "tinc", "vxlan-wireguard-go", "tund-tap"}

// newContender finds a contender by its name.
func newContender(name string) (contender, error) {
	if short, path, found := strings.Cut(name, "@"); found {
		if t, ok := newTund(short); ok {
			t.name, t.binary = name, path
			return t, nil
		}
	}
	switch name {
	case "veth":
		return &bareVeth{}, nil
	case "wireguard-go", "wireguard-go-null":
		return &wireguard{name: name, module: "golang.zx2c4.com/wireguard", version: "v0.0.0-20260522210424-ecfc5a8d5446"}, nil
	case "tailscale":
		return &wireguard{name: name, module: "github.com/tailscale/wireguard-go", version: "v0.0.0-20260821191448-23d18d66172c"}, nil
	case "wireguard-go-debian":
		return &wireguard{name: name, binary: "/usr/bin/wireguard-go", version: "0.0.20220316 (Debian)"}, nil
	case "vxlan-wireguard-go":
		w := &wireguard{name: "wireguard-go", module: "golang.zx2c4.com/wireguard", version: "v0.0.0-20260522210424-ecfc5a8d5446"}
		return &vxlan{over: w}, nil
	case "openvpn", "openvpn-tap":
		return &openvpn{name: name, tap: name == "openvpn-tap"}, nil
	case "nebula":
		return &nebula{version: "v1.12.0"}, nil
	case "tinc":
		return &tinc{}, nil
	}
	if t, ok := newTund(name); ok {
		return t, nil
	}
	return nil, fmt.Errorf("there is no contender %q; there are %s, wireguard-go-debian, %s, and tund@PATH",
		name, strings.Join(defaultContenders, " "), strings.Join(slices.Sorted(maps.Keys(tundForms)), ", "))
}

// entrant is a contender that the user entered, for all cases that it can stand in or for some.
type entrant struct {
	contender
	only []string // names of cases; none: all
}

// newEntrant reads NAME or NAME:CASE+CASE…. A contender whose figure matters in one case need not
// take its time in all.
func newEntrant(entry string) (entrant, error) {
	name, only, restricted := strings.Cut(entry, ":")
	c, err := newContender(name)
	if err != nil || !restricted {
		return entrant{contender: c}, err
	}
	e := entrant{contender: c, only: strings.Split(only, "+")}
	for _, name := range e.only {
		if !slices.Contains(caseNames(), name) {
			return entrant{}, fmt.Errorf("%s: there is no case %q", entry, name)
		}
	}
	return e, nil
}

// fits tells whether a contender can stand in a topology.
func fits(c contender, s shape) bool { return slices.Contains(c.shapes(), s) }

// workshop builds contenders that come as Go modules, once for all runs.
type workshop struct {
	top string // of the checkout
	bin string // dist/bench-bin, absolute
	say func(format string, args ...any)
}

// goInstall builds package pkg at version into the workshop and returns the program's path. What is
// there already is used again: a version never changes its contents.
func (w *workshop) goInstall(ctx context.Context, pkg, version string) (string, error) {
	dir := filepath.Join(w.bin, strings.ReplaceAll(pkg, "/", "_")+"@"+version)
	program := filepath.Join(dir, filepath.Base(pkg))
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	w.say("building %s@%s", pkg, version)
	_, err := run(ctx, "env", "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=-trimpath", "go", "install", pkg+"@"+version)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnavailable, err)
	}
	return program, nil
}

// bareVeth is the link itself: the ceiling, and the control of every round.
type bareVeth struct{}

func (*bareVeth) about() about {
	return about{Name: "veth", Version: "kernel", Cipher: "none", MTU: 1500}
}
func (*bareVeth) shapes() []shape                          { return []shape{shapeHosts, shapeGateways} }
func (*bareVeth) prepare(context.Context, *workshop) error { return nil }

func (*bareVeth) start(ctx context.Context, p *pair, _ demand) error {
	err := script(ctx,
		fmt.Sprintf("ip -n %s addr add %s/24 dev %s", p.a.ns, p.a.tunnel, underlayDevice),
		fmt.Sprintf("ip -n %s addr add %s/24 dev %s", p.b.ns, p.b.tunnel, underlayDevice))
	if err != nil || p.shape != shapeGateways {
		return err
	}
	return script(ctx,
		fmt.Sprintf("ip -n %s route add %s via %s", p.a.ns, p.b.lan, p.b.underlay),
		fmt.Sprintf("ip -n %s route add %s via %s", p.b.ns, p.a.lan, p.a.underlay))
}
