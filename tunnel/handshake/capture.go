package handshake

import (
	"tund/crypto/keys"
	"tund/crypto/noise"
	"tund/internal/boottime"
	"tund/internal/capture/stream"
	"tund/tunnel/peer"
)

// reveal hands the keys of a handshake with p, made as id, to those who capture datagrams in order
// to decrypt them. While nobody does, it does nothing. The handshake lock of p is held.
func (w *Worker) reveal(p *peer.Peer, id *noise.Identity, of interface{ Ephemeral() keys.PrivateKey }, now boottime.Time) {
	captures := w.env.Taps.Load()
	if captures == nil || !captures.Secrets() {
		return
	}
	secret := stream.Secret{
		Remote: p.PublicKey(), Ephemeral: of.Ephemeral(), Preshared: p.Handshake.PresharedKey(),
	}
	ids := w.identities.Load()
	for _, one := range []*identity{ids.current, ids.previous} {
		if one != nil && one.noise == id {
			secret.Static = one.private
		}
	}
	captures.Secret(now, &secret, p)
	secret = stream.Secret{}
}
