package sources

import (
	"slices"

	"tund/crypto/keys"
)

// maxFormer bounds the peers that are remembered after the agent has removed them: as many sites as
// are revoked at one time, and some.
const maxFormer = 1024

// former is a peer that the agent has removed.
type former struct {
	key  keys.PublicKey
	name string
}

// noteRemoved remembers which peers the agent has removed in a change, of those in order. Those
// that it has named and that were refused are not among them.
func (a *Peers) noteRemoved(order []keys.PublicKey, named map[keys.PublicKey]bool, before map[keys.PublicKey]*entry) {
	for _, key := range order {
		if was := before[key]; was != nil && !named[key] {
			a.former = slices.DeleteFunc(a.former, func(f former) bool { return f.key == key })
			a.former = append(a.former, former{key, was.peer.Name})
		}
	}
	a.former = slices.Delete(a.former, 0, max(0, len(a.former)-maxFormer))
}

// Removed returns the names of the peers that the agent has removed and not handed in again, by
// key: the last maxFormer of them, in this run. The map is the caller's.
func (a *Peers) Removed() map[keys.PublicKey]string {
	names := make(map[keys.PublicKey]string, len(a.former))
	for _, f := range a.former {
		if a.byKey[f.key] == nil {
			names[f.key] = f.name
		}
	}
	return names
}
