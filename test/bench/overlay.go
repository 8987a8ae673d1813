package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// vxlan is Ethernet the usual way: the kernel's VXLAN inside a WireGuard tunnel.
type vxlan struct{ over *wireguard }

// vxlanMTU is what is left of the tunnel's after IPv4, UDP, VXLAN and Ethernet headers.
const vxlanMTU = wireguardMTU - 50

func (v *vxlan) about() about {
	a := v.over.about()
	a.Name, a.MTU = "vxlan-wireguard-go", vxlanMTU
	return a
}

func (v *vxlan) shapes() []shape { return []shape{shapeBridged} }

func (v *vxlan) prepare(ctx context.Context, shop *workshop) error { return v.over.prepare(ctx, shop) }

func (v *vxlan) start(ctx context.Context, p *pair, d demand) error {
	if err := v.over.start(ctx, p, d); err != nil {
		return err
	}
	for h, other := range map[*host]*host{p.a: p.b, p.b: p.a} {
		err := script(ctx, fmt.Sprintf("ip -n %s link add vx0 type vxlan id 7 local %s remote %s dstport 4789 dev %s",
			h.ns, h.tunnel, other.tunnel, p.deviceOf(h)))
		if err != nil {
			return err
		}
	}
	return joinBridges(ctx, p, vxlanMTU, func(*host) string { return "vx0" })
}

// tincDevice is the same in both namespaces.
const tincDevice = "tinc0"

// tinc is tinc 1.0 as a switch.
type tinc struct{ version string }

func (t *tinc) about() about {
	return about{Name: "tinc", Version: t.version, Cipher: "AES-256-CBC, SHA-256", MTU: tapMTU}
}

func (t *tinc) shapes() []shape { return []shape{shapeBridged} }

func (t *tinc) prepare(ctx context.Context, _ *workshop) error {
	if _, err := exec.LookPath("tincd"); err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	out, err := run(ctx, "tincd", "--version")
	if f := strings.Fields(firstLine(out)); len(f) >= 3 {
		t.version = f[2] + " (Debian)"
	}
	return err
}

func (t *tinc) start(ctx context.Context, p *pair, _ demand) error {
	dirs := map[*host]string{}
	for _, h := range []*host{p.a, p.b} {
		dirs[h] = filepath.Join(p.dir, "tinc-"+h.ns)
		if err := t.configure(ctx, p, h, dirs[h]); err != nil {
			return err
		}
	}
	for h, other := range map[*host]*host{p.a: p.b, p.b: p.a} {
		theirs := filepath.Join(dirs[other], "hosts", other.ns)
		text, err := os.ReadFile(theirs)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dirs[h], "hosts", other.ns), text, 0o600); err != nil {
			return err
		}
	}
	for _, h := range []*host{p.b, p.a} {
		err := p.daemon(h, "tinc-"+h.ns, nil, "tincd", "--no-detach", "--config="+dirs[h],
			"--pidfile="+filepath.Join(dirs[h], "pid"), "--logfile="+filepath.Join(dirs[h], "log"))
		if err != nil {
			return err
		}
		if err := waitForDevice(ctx, p, h, tincDevice); err != nil {
			return err
		}
	}
	return joinBridges(ctx, p, tapMTU, func(*host) string { return tincDevice })
}

// configure writes one side's files and makes its key.
func (t *tinc) configure(ctx context.Context, p *pair, h *host, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "hosts"), 0o700); err != nil {
		return err
	}
	conf := fmt.Sprintf("Name = %s\nMode = switch\nDeviceType = tap\nInterface = %s\nAddressFamily = ipv4\nBindToAddress = %s\n",
		h.ns, tincDevice, h.underlay)
	if h == p.a {
		conf += "ConnectTo = " + p.b.ns + "\n"
	}
	about := fmt.Sprintf("Address = %s\nPort = %d\nCipher = aes-256-cbc\nDigest = sha256\n", h.underlay, listenPort)
	if err := os.WriteFile(filepath.Join(dir, "tinc.conf"), []byte(conf), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts", h.ns), []byte(about), 0o600); err != nil {
		return err
	}
	// It asks where to put the keys; without input it takes its own proposals.
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err := run(limit, "tincd", "--config="+dir, "--generate-keys=2048")
	return err
}
