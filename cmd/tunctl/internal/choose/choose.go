// Package choose finds the peers that a user of tunctl means: in what instances say of themselves,
// by name, public key, or the beginning of either.
//
// It asks nobody. Its functions may be called from several goroutines; instances that are given
// stay as they are.
package choose

import (
	"slices"
	"strings"

	"tund/cmd/tunctl/internal/configfile"
	"tund/cmd/tunctl/internal/exit"
	"tund/internal/control"
	"tund/internal/screen"
)

// Peer reduces instances to the ones that have the peer, and these to it. Exact names and keys win
// over beginnings of them; what fits several peers is refused. That there is none is a *None.
func Peer(instances []control.Instance, wanted string) ([]control.Instance, error) {
	exact := func(p *control.Peer) bool { return p.Name == wanted || p.PublicKey == wanted }
	prefix := func(p *control.Peer) bool {
		return strings.HasPrefix(p.Name, wanted) || strings.HasPrefix(p.PublicKey, wanted)
	}
	for _, match := range []func(*control.Peer) bool{exact, prefix} {
		var found []control.Instance
		fits := make(map[string]owned) // by public key
		for n := range instances {
			for m := range instances[n].Peers {
				p := &instances[n].Peers[m]
				if match(p) {
					found = append(found, onlyPeer(instances[n], p))
					fits[p.PublicKey] = owned{instances[n].Name, p.Name}
				}
			}
		}
		switch {
		case len(fits) == 1:
			return found, nil
		case len(fits) > 1:
			return nil, exit.Errorf(exit.Failed, "%q fits %d peers: %s", wanted, len(fits), listed(fits))
		}
	}
	var names []string
	for n := range instances {
		for _, p := range instances[n].Peers {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return nil, &None{exit.Errorf(exit.Failed, "no peer %q: no peers are configured", wanted)}
	}
	slices.Sort(names)
	return nil, &None{configfile.NoPeer(wanted, slices.Compact(names))}
}

// None is the error that no peer is called so, as opposed to several.
type None struct{ error }

// Unwrap returns what the user reads.
func (e *None) Unwrap() error { return e.error }

// onlyPeer returns the instance with one peer, and the FDB entries behind it.
func onlyPeer(i control.Instance, p *control.Peer) control.Instance {
	i.Peers = []control.Peer{*p}
	fdb := []control.FDBEntry{}
	for _, e := range i.FDB {
		if e.Port == p.Name {
			fdb = append(fdb, e)
		}
	}
	i.FDB = fdb
	return i
}

// owned is a peer, and the instance that has it.
type owned struct{ instance, peer string }

// listed names peers, with their instances where these differ: then -i chooses among them.
func listed(peers map[string]owned) string {
	var names, qualified []string
	instances := make(map[string]bool)
	for _, p := range peers {
		names, qualified = append(names, p.peer), append(qualified, p.peer+" of "+p.instance)
		instances[p.instance] = true
	}
	if len(instances) > 1 {
		slices.Sort(qualified)
		return screen.Some(qualified) + " (choose an instance with -i)"
	}
	slices.Sort(names)
	return screen.Some(names)
}
