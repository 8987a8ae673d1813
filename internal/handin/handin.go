// Package handin reads what an agent hands in: from the words of the control API to candidates for
// internal/sources, which judges them. What cannot be read is noted as refused, and what the agent
// handed in before under the same key stays.
//
// It asks nobody and changes nothing. A Batch is one change, and belongs to one goroutine.
package handin

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/sources"
)

// The lists of a change, as rejections name them.
const (
	Peers     = "peers"
	Hosts     = "fdb"
	Neighbors = "neighbors"
)

// Batch is a change as far as it has been read (control.SourceChange).
type Batch struct {
	Peers sources.Change
	Hosts sources.HostChange

	reader *config.PeerReader
	limit  int // of peers
	now    time.Time

	peers, hosts, addrs int                // elements so far
	rejected            []control.Rejected // the first control.MaxRejected
	refused             int
}

// New returns a change that begins now, of at most limit peers, which reader reads.
func New(reader *config.PeerReader, limit int, now time.Time) *Batch {
	return &Batch{reader: reader, limit: limit, now: now}
}

// Reject notes that an element of a list is refused.
func (b *Batch) Reject(list string, r sources.Rejection) {
	b.refused++
	if len(b.rejected) < control.MaxRejected {
		b.rejected = append(b.rejected, control.Rejected{List: list, Index: r.Index, Code: string(r.Code), Message: r.Message})
	}
}

// Rejections returns the first control.MaxRejected of what was refused, peers first and in the
// order of each list, and the number of all.
func (b *Batch) Rejections() ([]control.Rejected, int) {
	slices.SortStableFunc(b.rejected, func(x, y control.Rejected) int {
		// Peers come first.
		return cmp.Or(-cmp.Compare(x.List, y.List), cmp.Compare(x.Index, y.Index))
	})
	return b.rejected, b.refused
}

// Peer takes the next peer (control.SourceChange).
func (b *Batch) Peer(values map[string]any) {
	i := b.peers
	b.peers++
	if len(b.Peers.Set) >= b.limit {
		b.Reject(Peers, sources.Rejection{Index: i, Code: sources.Limit, Message: fmt.Sprintf("more than %d peers in one request", b.limit)})
		b.keep(values)
		return
	}
	p, err := b.reader.Read(values)
	switch {
	case errors.Is(err, config.ErrSecret):
		b.Reject(Peers, sources.Rejection{Index: i, Code: sources.Secret, Message: err.Error()})
		b.keep(values)
	case err != nil:
		b.Reject(Peers, sources.Rejection{Index: i, Code: sources.Invalid, Message: err.Error()})
		b.keep(values)
	default:
		b.Peers.Set = append(b.Peers.Set, sources.Candidate{Index: i, Peer: &p})
	}
}

// keep leaves a refused peer as it was, if it says which one it is.
func (b *Batch) keep(values map[string]any) {
	text, _ := values["public_key"].(string)
	if key, err := keys.ParsePublic(text); err == nil {
		b.Peers.Keep = append(b.Peers.Keep, key)
	}
}

// Remove names a peer to remove (control.SourceChange).
func (b *Batch) Remove(publicKey string) {
	if key, err := keys.ParsePublic(publicKey); err == nil { // nobody has any other
		b.Peers.Remove = append(b.Peers.Remove, key)
	}
}
