package statusview

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tund/config"
	"tund/crypto/keys"
	"tund/internal/sources"
	"tund/tunnel"
)

// maxNamed bounds how many differences one warning names; the others are counted.
const maxNamed = 8

// RunTime is what WireGuard's tools or tunctl changed while the instance ran. The next reload
// reverts it, but for peers that were added: these stay until the file has them, or until the end.
type RunTime struct {
	Since    time.Time      // of the first change; zero: nothing was changed
	File     *config.Config // what the configuration file says
	FwMark   *uint32        // as set at run time; nil: it was not
	FileMark uint32         // mark of the configuration in File
}

// differences describes how the running instance differs from its file, in one text for what the
// next reload reverts and one for what stays. Endpoints do not count, because they follow the
// peers, and neither do peers of the agent.
func (r *RunTime) differences(s *tunnel.Status, of map[keys.PublicKey]Source) (texts []string) {
	if r.Since.IsZero() {
		return nil
	}
	var all []string
	if s.PrivateKey != r.File.Tunnel.PrivateKey {
		all = append(all, "private key")
	}
	if want := r.File.Tunnel.ListenPort; want != 0 && s.ListenPort != want {
		all = append(all, fmt.Sprintf("listen port %d", s.ListenPort))
	}
	if r.FwMark != nil && *r.FwMark != r.FileMark {
		all = append(all, fmt.Sprintf("fwmark %#x", *r.FwMark))
	}
	all = append(all, peerDifferences(r.File, s.Peers)...)
	if len(all) > 0 {
		texts = append(texts, "changed at run time, and gone with the next reload: "+named(all))
	}
	var added []string
	for i := range s.Peers {
		if p := &s.Peers[i]; of[p.PublicKey].Name == sources.Runtime {
			name := p.Name
			if name == "" {
				name = p.PublicKey.Short()
			}
			added = append(added, "peer "+name)
		}
	}
	if len(added) > 0 {
		texts = append(texts, "added at run time, and gone with the next restart: "+named(added))
	}
	return texts
}

// named lists the first of all.
func named(all []string) string {
	if n := len(all) - maxNamed; n > 0 {
		all = append(all[:maxNamed], fmt.Sprintf("%d more", n))
	}
	return strings.Join(all, ", ")
}

// peerDifferences lists how the peers differ from those of the file.
func peerDifferences(c *config.Config, running []tunnel.PeerStatus) []string {
	var all []string
	byKey := make(map[keys.PublicKey]*tunnel.PeerStatus, len(running))
	for i := range running {
		byKey[running[i].PublicKey] = &running[i]
	}
	for i := range c.Peers {
		want := &c.Peers[i]
		is := byKey[want.PublicKey]
		if is == nil {
			all = append(all, "peer "+want.Name+" removed")
			continue
		}
		var what []string
		if is.PresharedKey != want.PresharedKey {
			what = append(what, "preshared key")
		}
		if is.Keepalive != want.Keepalive {
			what = append(what, "keepalive")
		}
		if !samePrefixes(is.AllowedIPs, want.AllowedIPs) {
			what = append(what, "allowed IPs")
		}
		if len(what) > 0 {
			all = append(all, "peer "+want.Name+" ("+strings.Join(what, ", ")+")")
		}
	}
	return all
}

// samePrefixes compares prefixes regardless of order.
func samePrefixes(a, b []netip.Prefix) bool {
	if len(a) != len(b) {
		return false
	}
	sorted := func(p []netip.Prefix) []netip.Prefix {
		p = slices.Clone(p)
		slices.SortFunc(p, func(x, y netip.Prefix) int {
			return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Bits(), y.Bits()))
		})
		return p
	}
	return slices.Equal(sorted(a), sorted(b))
}
