package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// wireguardMTU is what the wireguard contenders give their device on a 1500-byte underlay.
const wireguardMTU = 1420

// wireguard is wireguard-go or one of its forks: a TUN device, configured with wg(8) through its
// UAPI socket.
type wireguard struct {
	name    string
	module  string // empty: binary is given
	version string
	binary  string
	mtu     int // 0: wireguardMTU
}

func (w *wireguard) about() about {
	return about{Name: w.name, Version: w.version, Cipher: "ChaCha20-Poly1305", MTU: wireguardMTU}
}

func (w *wireguard) shapes() []shape { return []shape{shapeHosts, shapeGateways} }

func (w *wireguard) prepare(ctx context.Context, shop *workshop) error {
	if w.module == "" {
		if _, err := os.Stat(w.binary); err != nil {
			return fmt.Errorf("%w: %w", errUnavailable, err)
		}
		return nil
	}
	var err error
	w.binary, err = shop.goInstall(ctx, w.module, w.version)
	return err
}

func (w *wireguard) start(ctx context.Context, p *pair, d demand) error {
	a, err := newIdentity(p.a.tunnel)
	if err != nil {
		return err
	}
	b, err := newIdentity(p.b.tunnel)
	if err != nil {
		return err
	}
	if err := w.startOne(ctx, p, p.a, wgConfig(a, p.b, b.public, d.morePeers)); err != nil {
		return err
	}
	if err := w.startOne(ctx, p, p.b, wgConfig(b, p.a, a.public, d.morePeers)); err != nil {
		return err
	}
	return p.addRoutes(ctx, p.deviceOf)
}

func (w *wireguard) startResponder(ctx context.Context, p *pair, peers []identity) (key, error) {
	b, err := newIdentity(p.b.tunnel)
	if err != nil {
		return key{}, err
	}
	return b.public, w.startOne(ctx, p, p.b, wgConfig(b, nil, key{}, peers))
}

func (w *wireguard) startSites(ctx context.Context, p *pair, hub identity, sites []identity) error {
	if err := w.startOne(ctx, p, p.a, wgConfig(hub, nil, key{}, sites)); err != nil {
		return err
	}
	for i, h := range p.sites {
		if err := w.startOne(ctx, p, h, wgConfig(sites[i], p.hubOf(h), hub.public, nil)); err != nil {
			return err
		}
	}
	return nil
}

// startOne runs the program in one gateway and gives it config, an address and a device that is up.
func (w *wireguard) startOne(ctx context.Context, p *pair, h *host, config string) error {
	dev := p.deviceOf(h)
	path := filepath.Join(p.dir, dev+".conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	if err := p.daemon(h, w.name+"-"+dev, []string{"LOG_LEVEL=error"}, w.binary, "-f", dev); err != nil {
		return err
	}
	socket := "/var/run/wireguard/" + dev + ".sock"
	err := waitFor(ctx, 10*time.Second, 10*time.Millisecond, "control socket "+socket, p.daemons, func() bool {
		// Not only there: wg(8) deletes one that does not answer, as it is between bind and listen.
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	if _, err := run(ctx, append(inside(h.ns), "wg", "setconf", dev, path)...); err != nil {
		return err
	}
	mtu := wireguardMTU
	if w.mtu != 0 {
		mtu = w.mtu
	}
	return script(ctx,
		fmt.Sprintf("ip -n %s addr add %s/24 dev %s", h.ns, h.tunnel, dev),
		fmt.Sprintf("ip -n %s link set %s mtu %d up", h.ns, dev, mtu))
}

// wgConfig is a wg(8) configuration: our identity, the gateway on the other side (nil for none),
// and more peers.
func wgConfig(own identity, other *host, otherKey key, more []identity) string {
	var s strings.Builder
	fmt.Fprintf(&s, "[Interface]\nPrivateKey = %s\nListenPort = %d\n", own.private, listenPort)
	if other != nil {
		fmt.Fprintf(&s, "[Peer]\nPublicKey = %s\nEndpoint = %s:%d\nAllowedIPs = %s/32, %s\n",
			otherKey, other.underlay, listenPort, other.tunnel, other.lan)
	}
	for _, m := range more {
		fmt.Fprintf(&s, "[Peer]\nPublicKey = %s\nAllowedIPs = %s/32\n", m.public, m.inner)
	}
	return s.String()
}
