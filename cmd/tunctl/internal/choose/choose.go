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
// over beginnings of them; a beginning must belong to one peer only. That there is none is a *None.
func Peer(instances []control.Instance, wanted string) ([]control.Instance, error) {
	exact := func(p *control.Peer) bool { return p.Name == wanted || p.PublicKey == wanted }
	prefix := func(p *control.Peer) bool {
		return strings.HasPrefix(p.Name, wanted) || strings.HasPrefix(p.PublicKey, wanted)
	}
	for _, match := range []func(*control.Peer) bool{exact, prefix} {
		var found []control.Instance
		keys := make(map[string]string)
		for n := range instances {
			for m := range instances[n].Peers {
				p := &instances[n].Peers[m]
				if match(p) {
					found = append(found, onlyPeer(instances[n], p))
					keys[p.PublicKey] = p.Name
				}
			}
		}
		switch {
		case len(keys) == 1:
			return found, nil
		case len(keys) > 1:
			return nil, exit.Errorf(exit.Failed, "%q fits %d peers: %s", wanted, len(keys), screen.Some(sortedValues(keys)))
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

func sortedValues(m map[string]string) []string {
	var list []string
	for _, v := range m {
		list = append(list, v)
	}
	slices.Sort(list)
	return list
}
