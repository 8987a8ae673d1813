package config

import (
	"errors"
	"net/netip"

	"tund/config/scalar"
	"tund/config/spelling"
	"tund/config/tomlscan"
	"tund/crypto/keys"
)

// Agent is [agent]: what a program beside tund may do at run time, over agent.sock. It bounds that
// program; the file itself is bounded by nothing.
type Agent struct {
	// User may use agent.sock, and nobody else but root and tund's own user.
	User         string
	Within       []netip.Prefix // allowed IPs lie in one of these; masked
	Peers        int            // the greatest number of peers
	DefaultRoute bool           // allowed IPs may be 0.0.0.0/0 and ::/0
	Ethernet     bool           // peers may carry frames of [tap]
}

// Defaults and bounds of [agent].
const (
	defaultAgentUser  = "tund-agent"
	defaultAgentPeers = 20_000
	maxAgentPeers     = 100_000
)

// agent checks [agent].
func (l *loader) agent(s *section) *Agent {
	a := &Agent{User: defaultAgentUser}
	if user, ok := s.text("user"); ok {
		a.User = user
		if user == "" {
			s.errorAt(s.where("user"), "user", "is empty: want the name of a user")
		}
	}
	words, at := s.words("within")
	for i, word := range words {
		p, why := scalar.Prefix(word)
		if why != "" {
			s.errorAt(at[i], "within", "%s %s", scalar.Shown(word), why)
			continue
		}
		if masked := p.Masked(); masked != p {
			s.warnAt(at[i], "within", "%s has host bits set: %s is used", p, masked)
			p = masked
		}
		a.Within = append(a.Within, p)
	}
	a.Peers = int(s.integer("peers", defaultAgentPeers, 1, maxAgentPeers))
	a.DefaultRoute = s.boolean("default_route", false)
	a.Ethernet = s.boolean("ethernet", false)
	if a.Ethernet && l.cfg.Tap == nil && l.known != nil {
		s.errorAt(s.where("ethernet"), "ethernet", "there is no [tap] section")
	}
	return a
}

// PeerReader checks single peers that are not in the file, each by itself: whether two of them, or
// one of them and one of the file, exclude each other is for the caller to see. It may be used by
// several goroutines.
type PeerReader struct {
	known  *spelling.Set
	cfg    Config
	ownKey keys.PublicKey
}

// NewPeerReader returns a reader for peers of an instance with this configuration.
func (c *Config) NewPeerReader() *PeerReader {
	r := &PeerReader{known: allKeys(), cfg: *c, ownKey: c.Tunnel.PrivateKey.Public()}
	r.cfg.Peers, r.cfg.Warnings = nil, nil
	return r
}

// ErrSecret is the error for a peer that brings a secret, which only the file may have.
var ErrSecret = errors.New("a preshared key is for the configuration file alone")

// Read returns the peer that values describe: keys of [[peer]], and what the file would say there
// (strings, int64, bool, []any). Without a name the peer has the empty one. Files are not read.
func (r *PeerReader) Read(values map[string]any) (Peer, error) {
	for _, key := range []string{"preshared_key", "preshared_key_file"} {
		if _, secret := values[key]; secret {
			return Peer{}, ErrSecret
		}
	}
	l := newLoader(r.cfg.Path, host{}, "")
	cfg := r.cfg
	l.known, l.cfg, l.ownKey = r.known, &cfg, r.ownKey
	p := l.peer(&section{l: l, name: "peer", values: values, at: &tomlscan.Node{}}, 1)
	if len(l.errs) > 0 {
		return Peer{}, unplaced(l.errs)
	}
	return p, nil
}
