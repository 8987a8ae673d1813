package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	api "tund/internal/control"
)

// tund is this project's daemon, layer 3 or, with tap, layer 2.
type tund struct {
	name    string // as the user wrote it
	binary  string // empty: bin/tund of the checkout
	version string
	form    tundForm
	seen    string // the cipher that two of them have chosen; "" before they were asked
}

// tundForm is what a contender configures beyond the defaults.
type tundForm struct {
	tap    bool
	cipher string // in use, for the report
	tunnel string // more lines of [tunnel]
	peer   string // more lines of [[peer]]
	env    string // more of the environment
	// build makes a program of its own; nil: bin/tund.
	build func(context.Context, *workshop) (string, error)
}

// tundForms are the contenders made of this project's daemon. Two of them agree on data sessions,
// in the cipher that is faster here, except for tund-wire, which speaks plain WireGuard.
var tundForms = map[string]tundForm{
	"tund":        {cipher: "the faster of AES-256-GCM and ChaCha20-Poly1305"},
	"tund-tap":    {cipher: "the faster of AES-256-GCM and ChaCha20-Poly1305", tap: true},
	"tund-wire":   {cipher: "ChaCha20-Poly1305", peer: "extensions = \"off\"\n"},
	"tund-aes":    {cipher: "AES-256-GCM", tunnel: "cipher = \"aes256gcm\"\n"},
	"tund-chacha": {cipher: "ChaCha20-Poly1305", tunnel: "cipher = \"chacha20poly1305\"\n"},
	"tund-avx2": {
		cipher: "the faster of AES-256-GCM (VAES on 256 bits) and ChaCha20-Poly1305 (x/crypto)",
		env:    "GODEBUG=cpu.avx512f=off",
	},
	"tund-avx2-wire": {
		cipher: "ChaCha20-Poly1305 (x/crypto)", peer: "extensions = \"off\"\n", env: "GODEBUG=cpu.avx512f=off",
	},
	"tund-1lane":  {cipher: "the faster of AES-256-GCM and ChaCha20-Poly1305", tunnel: "lanes = 1\n"},
	"tund-4lanes": {cipher: "the faster of AES-256-GCM and ChaCha20-Poly1305", tunnel: "lanes = 4\n"},
	"tund-null":   {cipher: "none: messages are copied", build: nullCipher},
}

func newTund(name string) (*tund, bool) {
	form, ok := tundForms[name]
	return &tund{name: name, form: form}, ok
}

func (t *tund) about() about {
	mtu := wireguardMTU
	if t.form.tap {
		mtu = 0 // tund chooses; the case reads it from the device
	}
	cipher := t.form.cipher
	if t.seen != "" {
		cipher = t.seen
	}
	return about{Name: t.name, Version: t.version, Cipher: cipher, MTU: mtu}
}

// noteCipher asks a gateway of a pair which cipher carries its packets. If it does not say, the
// report has what was configured.
func (t *tund) noteCipher(ctx context.Context, p *pair) {
	if t.form.build != nil {
		return // it says what it was asked to use, not what it does
	}
	s, err := api.NewClient(filepath.Join(p.dir, "run"), p.deviceOf(p.a)).Status(ctx)
	if err == nil && len(s.Instances) > 0 && len(s.Instances[0].Peers) > 0 {
		t.seen = s.Instances[0].Peers[0].Suite
	}
}

func (t *tund) shapes() []shape {
	if t.form.tap {
		return []shape{shapeBridged}
	}
	return []shape{shapeHosts, shapeGateways}
}

func (t *tund) prepare(ctx context.Context, shop *workshop) error {
	switch {
	case t.binary != "":
	case t.form.build != nil:
		program, err := t.form.build(ctx, shop)
		if err != nil {
			return err
		}
		t.binary = program
	default:
		t.binary = filepath.Join(shop.top, "bin", "tund")
	}
	path, err := filepath.Abs(t.binary)
	if err != nil {
		return err
	}
	t.binary = path
	out, err := run(ctx, t.binary, "--version")
	if err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	t.version = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(string(out)), "tund "))
	return nil
}

func (t *tund) start(ctx context.Context, p *pair, d demand) error {
	a, err := newIdentity(p.a.tunnel)
	if err != nil {
		return err
	}
	b, err := newIdentity(p.b.tunnel)
	if err != nil {
		return err
	}
	if err := t.startOne(ctx, p, p.a, a, p.b, b.public, d.morePeers); err != nil {
		return err
	}
	if err := t.startOne(ctx, p, p.b, b, p.a, a.public, d.morePeers); err != nil {
		return err
	}
	if !t.form.tap {
		return nil
	}
	mtu, err := deviceMTU(ctx, p.a.ns, p.deviceOf(p.a))
	if err != nil {
		return err
	}
	return p.setEndMTU(ctx, mtu)
}

func (t *tund) startResponder(ctx context.Context, p *pair, peers []identity) (key, error) {
	b, err := newIdentity(p.b.tunnel)
	if err != nil {
		return key{}, err
	}
	return b.public, t.startOne(ctx, p, p.b, b, nil, key{}, peers)
}

func (t *tund) startSites(ctx context.Context, p *pair, hub identity, sites []identity) error {
	if err := t.startOne(ctx, p, p.a, hub, nil, key{}, sites); err != nil {
		return err
	}
	for i, h := range p.sites {
		if err := t.startOne(ctx, p, h, sites[i], p.hubOf(h), hub.public, nil); err != nil {
			return err
		}
	}
	return nil
}

func (t *tund) startOne(ctx context.Context, p *pair, h *host, own identity, other *host, otherKey key, more []identity) error {
	dev := p.deviceOf(h)
	path := filepath.Join(p.dir, dev+".toml")
	if err := os.WriteFile(path, []byte(t.config(dev, h, own, other, otherKey, more)), 0o600); err != nil {
		return err
	}
	env := []string{"TUND_RUN_DIR=" + filepath.Join(p.dir, "run"), "TUND_STATE_DIR=" + filepath.Join(p.dir, "state")}
	if t.form.env != "" {
		env = append(env, t.form.env)
	}
	if err := p.daemon(h, "tund-"+dev, env, t.binary, "-c", path, "--log-level", "warn"); err != nil {
		return err
	}
	return waitFor(ctx, 30*time.Second, 10*time.Millisecond, "device "+dev, p.daemons, func() bool {
		_, err := run(ctx, "ip", "-n", h.ns, "link", "show", "dev", dev, "up")
		return err == nil
	})
}

// config is a tund configuration. other is the gateway on the far side, nil for none.
func (t *tund) config(dev string, h *host, own identity, other *host, otherKey key, more []identity) string {
	var s strings.Builder
	fmt.Fprintf(&s, "[tunnel]\nprivate_key = %q\nlisten_port = %d\n%s", own.private, listenPort, t.form.tunnel)
	if t.form.tap {
		fmt.Fprintf(&s, "[tap]\ndevice = %q\nbridge = %q\n", dev, bridgeDevice)
	} else {
		fmt.Fprintf(&s, "[tun]\ndevice = %q\naddress = [\"%s/24\"]\nmtu = %d\n", dev, h.tunnel, wireguardMTU)
	}
	if other != nil {
		fmt.Fprintf(&s, "[[peer]]\nname = \"other\"\npublic_key = %q\nendpoint = \"%s:%d\"\n", otherKey, other.underlay, listenPort)
		s.WriteString(t.form.peer)
		if t.form.tap {
			s.WriteString("ethernet = true\n")
		} else {
			fmt.Fprintf(&s, "allowed_ips = [\"%s/32\", \"%s\"]\n", other.tunnel, other.lan)
		}
	}
	for _, m := range more {
		fmt.Fprintf(&s, "[[peer]]\npublic_key = %q\nallowed_ips = [\"%s/32\"]\n", m.public, m.inner)
	}
	return s.String()
}
