package configfile

import (
	"slices"
	"strings"

	"tund/cmd/tunctl/internal/exit"
	"tund/config"
	"tund/config/spelling"
	"tund/internal/screen"
)

// FindPeer finds a peer by name, public key, or the beginning of either if no other begins like it.
func FindPeer(c *config.Config, wanted string) (*config.Peer, error) {
	for _, match := range []func(string) bool{
		func(s string) bool { return s == wanted },
		func(s string) bool { return strings.HasPrefix(s, wanted) },
	} {
		var found []*config.Peer
		for i := range c.Peers {
			if p := &c.Peers[i]; match(p.Name) || match(p.PublicKey.String()) {
				found = append(found, p)
			}
		}
		if len(found) == 1 {
			return found[0], nil
		}
		if len(found) > 1 {
			return nil, exit.Errorf(exit.Failed, "%q fits %d peers: %s", wanted, len(found), screen.Some(peerNames(found)))
		}
	}
	if len(c.Peers) == 0 {
		return nil, exit.Errorf(exit.Failed, "no peer %q: %s has none", wanted, c.Path)
	}
	all := make([]*config.Peer, len(c.Peers))
	for i := range c.Peers {
		all[i] = &c.Peers[i]
	}
	return nil, NoPeer(wanted, peerNames(all))
}

// NoPeer is the error that there is no peer called wanted, with the one that was probably meant, or
// those that there are.
func NoPeer(wanted string, names []string) error {
	if meant := spelling.Nearest(wanted, names); meant != "" {
		return exit.Errorf(exit.Failed, "no peer %q: did you mean %q?", wanted, meant)
	}
	return exit.Errorf(exit.Failed, "no peer %q (there is %s)", wanted, screen.Some(names))
}

func peerNames(peers []*config.Peer) []string {
	names := make([]string, len(peers))
	for i, p := range peers {
		names[i] = p.Name
	}
	slices.Sort(names)
	return names
}
