package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// openvpnDevice is the same in both namespaces.
const openvpnDevice = "ovpn0"

// tapMTU is the containers' MTU for contenders of layer 2 that do not choose one: with it nobody
// has to cut the outer datagram.
const tapMTU = 1400

// openvpn is OpenVPN 2.6 between two fixed peers, without the kernel's data channel, as a TUN or a
// TAP.
type openvpn struct {
	name    string
	tap     bool
	version string
}

func (o *openvpn) about() about {
	mtu := wireguardMTU
	if o.tap {
		mtu = tapMTU
	}
	return about{Name: o.name, Version: o.version, Cipher: "AES-256-GCM", MTU: mtu}
}

func (o *openvpn) shapes() []shape {
	if o.tap {
		return []shape{shapeBridged}
	}
	return []shape{shapeHosts, shapeGateways}
}

func (o *openvpn) prepare(ctx context.Context, _ *workshop) error {
	if _, err := exec.LookPath("openvpn"); err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	out, _ := run(ctx, "openvpn", "--version") // its exit status is 1
	f := strings.Fields(firstLine(out))
	if len(f) >= 2 {
		o.version = f[1] + " (Debian)"
	}
	return nil
}

func (o *openvpn) start(ctx context.Context, p *pair, _ demand) error {
	prints := map[*host]string{}
	for _, h := range []*host{p.a, p.b} {
		print, err := selfSigned(filepath.Join(p.dir, h.ns+".crt"), filepath.Join(p.dir, h.ns+".key"))
		if err != nil {
			return err
		}
		prints[h] = print
	}
	if err := o.startOne(ctx, p, p.a, p.b, "--tls-client", prints[p.b]); err != nil {
		return err
	}
	if err := o.startOne(ctx, p, p.b, p.a, "--tls-server", prints[p.a]); err != nil {
		return err
	}
	if o.tap {
		return joinBridges(ctx, p, tapMTU, func(*host) string { return openvpnDevice })
	}
	return p.addRoutes(ctx, func(*host) string { return openvpnDevice })
}

func (o *openvpn) startOne(ctx context.Context, p *pair, h, other *host, role, fingerprint string) error {
	argv := []string{"openvpn", "--dev", openvpnDevice, "--proto", "udp4", "--verb", "1", "--disable-dco",
		"--local", h.underlay.String(), "--remote", other.underlay.String(), "--port", fmt.Sprint(listenPort),
		role, "--cert", filepath.Join(p.dir, h.ns+".crt"), "--key", filepath.Join(p.dir, h.ns+".key"),
		"--peer-fingerprint", fingerprint, "--data-ciphers", "AES-256-GCM", "--tun-mtu"}
	if o.tap {
		argv = append(argv, fmt.Sprint(tapMTU), "--dev-type", "tap")
	} else {
		argv = append(argv, fmt.Sprint(wireguardMTU), "--dev-type", "tun", "--topology", "p2p",
			"--ifconfig", h.tunnel.String(), other.tunnel.String())
	}
	if role == "--tls-server" {
		argv = append(argv, "--dh", "none")
	}
	if err := p.daemon(h, o.name+"-"+h.ns, nil, argv...); err != nil {
		return err
	}
	return waitForDevice(ctx, p, h, openvpnDevice)
}

// waitForDevice waits until a daemon has made its device.
func waitForDevice(ctx context.Context, p *pair, h *host, device string) error {
	return waitFor(ctx, 10*time.Second, 20*time.Millisecond, "device "+device, p.daemons, func() bool {
		_, err := run(ctx, "ip", "-n", h.ns, "link", "show", "dev", device)
		return err == nil
	})
}

// joinBridges puts a contender's device into each gateway's bridge and gives the containers its
// MTU.
func joinBridges(ctx context.Context, p *pair, mtu int, device func(*host) string) error {
	for _, h := range []*host{p.a, p.b} {
		err := script(ctx, fmt.Sprintf("ip -n %s link set %s mtu %d master %s up", h.ns, device(h), mtu, bridgeDevice))
		if err != nil {
			return err
		}
	}
	return p.setEndMTU(ctx, mtu)
}

// selfSigned makes a certificate and its key for one measurement, and returns the fingerprint that
// the peer pins.
func selfSigned(certFile, keyFile string) (string, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return "", err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	var hex []string
	for _, b := range sum {
		hex = append(hex, fmt.Sprintf("%02X", b))
	}
	return strings.Join(hex, ":"), os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
}
