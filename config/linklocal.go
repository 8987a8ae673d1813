package config

import (
	"slices"
	"strconv"
	"strings"

	"tund/config/scalar"
)

// LinkProtocol is a protocol between neighbours on one link that [tap] may let pass.
type LinkProtocol int

// The protocols, in the order of linkProtocolNames.
const (
	LinkLLDP LinkProtocol = iota
	LinkEAPOL
	LinkLACP
	LinkCDP
	LinkPTP
	LinkMVRP
)

var linkProtocolNames = []string{"lldp", "eapol", "lacp", "cdp", "ptp", "mvrp"}

// String returns the protocol as the file writes it.
func (p LinkProtocol) String() string {
	if p >= 0 && int(p) < len(linkProtocolNames) {
		return linkProtocolNames[p]
	}
	return "link protocol " + strconv.Itoa(int(p))
}

// linkProtocols returns a list of such protocols, ascending and without repetitions.
func (s *section) linkProtocols(key string) []LinkProtocol {
	var list []LinkProtocol
	words, at := s.words(key)
	for i, word := range words {
		n := slices.Index(linkProtocolNames, word)
		if n < 0 {
			s.errorAt(at[i], key, "want %s, not %s", strings.Join(linkProtocolNames, ", "), scalar.Shown(word))
			continue
		}
		list = append(list, LinkProtocol(n))
	}
	slices.Sort(list)
	return slices.Compact(list)
}
