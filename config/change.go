package config

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"tund/config/tomlscan"
	"tund/crypto/keys"
)

// WithPeer returns c with one peer more, or with the peer of that public key changed when key is
// not zero: values are keys of [[peer]] and what the file would say there (strings, int64, bool,
// []any), checked as the file is; what is not among them stays, and a nil takes a key away. c and
// its slices are not changed. The Config has no warnings.
func (c *Config) WithPeer(key keys.PublicKey, values map[string]any) (*Config, error) {
	l := newLoader(c.Path, host{readFile: readFile}, "")
	l.known = allKeys()
	l.ownKey = c.Tunnel.PrivateKey.Public()
	next := *c
	next.Warnings = nil
	l.cfg = &next
	l.cfg.Peers = slices.Clone(c.Peers)
	at := len(c.Peers)
	all := make(map[string]any)
	for i := range c.Peers {
		if p := &c.Peers[i]; !key.IsZero() && p.PublicKey == key {
			at, all = i, p.values()
		} else {
			l.takePeer(p)
		}
	}
	if at == len(c.Peers) && !key.IsZero() {
		return nil, errors.New("no such peer")
	}
	for k, v := range values {
		all[k] = v
		if v == nil {
			delete(all, k)
		}
	}
	if all["ethernet"] == false {
		for _, k := range ethernetKeys { // they went with it, unless they were asked for
			if values[k] == nil {
				delete(all, k)
			}
		}
	}
	p := l.peer(&section{l: l, name: "peer", values: all, at: &tomlscan.Node{}}, at+1)
	if len(l.errs) > 0 {
		return nil, unplaced(l.errs)
	}
	next.Peers = slices.Concat(l.cfg.Peers[:at], []Peer{p}, l.cfg.Peers[min(at+1, len(c.Peers)):])
	l.nameOthers()
	l.checkEndpoints()
	if len(l.errs) > 0 {
		return nil, unplaced(l.errs)
	}
	return &next, nil
}

// WithAdded returns c with one peer more. c and its slices are not changed.
func (c *Config) WithAdded(p *Peer) (*Config, error) { return c.WithPeer(keys.PublicKey{}, p.values()) }

// WithoutPeer returns c without the peer of that public key. c and its slices are not changed.
func (c *Config) WithoutPeer(key keys.PublicKey) *Config {
	next := *c
	next.Warnings = nil
	next.Peers = slices.DeleteFunc(slices.Clone(c.Peers), func(p Peer) bool { return p.PublicKey == key })
	return &next
}

// takePeer notes what no other peer may have any more.
func (l *loader) takePeer(p *Peer) {
	here := place{peer: &section{l: l, label: "peer " + strconv.Quote(p.Name), at: &tomlscan.Node{}, priority: p.Priority}}
	l.keys[p.PublicKey], l.names[p.Name] = here, here
	for _, a := range p.AllowedIPs {
		if _, taken := l.allowedIPs[a]; taken {
			l.shared[a] = append(l.shared[a], here)
		} else {
			l.allowedIPs[a] = here
		}
	}
	for _, m := range p.MACs {
		l.macs[m] = here
	}
}

// values is what a file would say of p.
func (p *Peer) values() map[string]any {
	v := map[string]any{
		"public_key": p.PublicKey.String(), "endpoint": texts(p.Endpoints), "allowed_ips": texts(p.AllowedIPs),
		"keepalive": int64(p.Keepalive / time.Second), "ethernet": p.Ethernet, "priority": int64(p.Priority),
		"extensions": p.Extensions.String(), "liveness": int64(p.Liveness / time.Second),
		"post_quantum": p.PostQuantum.String(),
	}
	// A name that is the beginning of the key, and as long as nameOthers makes them, is none that a
	// file need give: the peer gets it again. A shorter one was given by the file.
	if len(p.Name) < len(p.PublicKey.Short()) || !strings.HasPrefix(p.PublicKey.String(), p.Name) {
		v["name"] = p.Name
	}
	if !p.PresharedKey.IsZero() {
		v["preshared_key"] = p.PresharedKey.Base64()
	}
	if !p.Ethernet {
		return v
	}
	v["isolated"], v["bum"], v["neighbor_suppression"] = p.Isolated, !p.NoBUM, !p.NoSuppression
	v["broadcast_limit"], v["multicast_limit"] = int64(p.BroadcastLimit), int64(p.MulticastLimit)
	v["unknown_unicast_limit"] = int64(p.UnknownUnicastLimit)
	var vlans, trust []any
	for _, id := range p.VLANs {
		vlans = append(vlans, int64(id))
	}
	if p.TrustDHCP {
		trust = append(trust, "dhcp")
	}
	if p.TrustRA {
		trust = append(trust, "ra")
	}
	v["macs"], v["max_macs"], v["vlans"], v["pvid"], v["trust"] = texts(p.MACs), int64(p.MaxMACs), vlans, int64(p.PVID), trust
	return v
}

func texts[T interface{ String() string }](list []T) []any {
	out := make([]any, len(list))
	for i, x := range list {
		out[i] = x.String()
	}
	return out
}

// unplaced joins what is wrong with values that stand in no file.
func unplaced(faults Errors) error {
	var lines []string
	for _, f := range faults.sorted() {
		lines = append(lines, strings.NewReplacer(", at 1:1", "", " at 1:1", "").Replace(f.Msg))
	}
	return errors.New(strings.Join(lines, "\n"))
}

// PeerKeys returns the public keys of the peers of c.
func (c *Config) PeerKeys() map[keys.PublicKey]bool {
	known := make(map[keys.PublicKey]bool, len(c.Peers))
	for i := range c.Peers {
		known[c.Peers[i].PublicKey] = true
	}
	return known
}
