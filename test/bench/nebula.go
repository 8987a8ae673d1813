package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// nebulaDevice is the same in both namespaces.
const nebulaDevice = "neb0"

// nebula is the mesh VPN with its newest offloads switched on.
type nebula struct {
	version      string
	binary, cert string
}

func (n *nebula) about() about {
	return about{Name: "nebula", Version: n.version, Cipher: "AES-256-GCM", MTU: wireguardMTU}
}

func (n *nebula) shapes() []shape { return []shape{shapeHosts, shapeGateways} }

// prepare builds it, or takes the programs nebula and nebula-cert from the directory NEBULA, by
// default dist/bench-bin/nebula: the way in for a version that the module proxy does not serve or
// this Go does not build.
func (n *nebula) prepare(ctx context.Context, shop *workshop) error {
	dir := os.Getenv("NEBULA")
	if dir == "" {
		dir = filepath.Join(shop.bin, "nebula")
	}
	if out, err := run(ctx, filepath.Join(dir, "nebula"), "-version"); err == nil {
		n.binary, n.cert, n.version = filepath.Join(dir, "nebula"), filepath.Join(dir, "nebula-cert"), "built by hand: "+firstLine(out)
		return nil
	}
	var err error
	if n.binary, err = shop.goInstall(ctx, "github.com/slackhq/nebula/cmd/nebula", n.version); err != nil {
		return err
	}
	n.cert, err = shop.goInstall(ctx, "github.com/slackhq/nebula/cmd/nebula-cert", n.version)
	return err
}

func (n *nebula) start(ctx context.Context, p *pair, _ demand) error {
	ca := filepath.Join(p.dir, "ca")
	if _, err := run(ctx, n.cert, "ca", "-name", "bench", "-out-crt", ca+".crt", "-out-key", ca+".key"); err != nil {
		return err
	}
	for h, other := range map[*host]*host{p.a: p.b, p.b: p.a} {
		own := filepath.Join(p.dir, h.ns)
		_, err := run(ctx, n.cert, "sign", "-name", h.ns, "-networks", h.tunnel.String()+"/24", "-unsafe-networks", h.lan.String(),
			"-ca-crt", ca+".crt", "-ca-key", ca+".key", "-out-crt", own+".crt", "-out-key", own+".key")
		if err != nil {
			return err
		}
		if err := os.WriteFile(own+".yml", []byte(nebulaConfig(ca, own, other)), 0o600); err != nil {
			return err
		}
		if err := p.daemon(h, "nebula-"+h.ns, nil, n.binary, "-config", own+".yml"); err != nil {
			return err
		}
		if err := waitForDevice(ctx, p, h, nebulaDevice); err != nil {
			return err
		}
	}
	return nil
}

func nebulaConfig(ca, own string, other *host) string {
	return fmt.Sprintf(`pki: {ca: %q, cert: %q, key: %q}
static_host_map: {%q: ["%s:%d"]}
lighthouse: {am_lighthouse: false, hosts: []}
listen: {host: 0.0.0.0, port: %d, udp_offloads: true}
punchy: {punch: false}
cipher: aes
tun:
  dev: %s
  mtu: %d
  use_offloads: true
  unsafe_routes: [{route: %s, via: %s}]
logging: {level: warning, format: text}
firewall:
  outbound: [{port: any, proto: any, host: any, local_cidr: 0.0.0.0/0}]
  inbound: [{port: any, proto: any, host: any, local_cidr: 0.0.0.0/0}]
`, ca+".crt", own+".crt", own+".key", other.tunnel.String(), other.underlay, listenPort, listenPort,
		nebulaDevice, wireguardMTU, other.lan, other.tunnel)
}
