package config

import (
	"slices"
	"strings"
)

// aliases are names that other programs use for what tund calls otherwise, in the form that fold makes.
var aliases = map[string]string{
	"interface":           "tunnel",
	"persistentkeepalive": "keepalive",
	"allowedip":           "allowed_ips",
	"mac":                 "macs",
	"vlan":                "vlans",
}

// keySet has the keys of each section, and under "" the names of the sections.
type keySet map[string][]string

// suggest returns what to add to the report of an unknown key: the key that was probably meant, or the section
// it belongs to; "" when there is no good guess.
func (k keySet) suggest(section, key string) string {
	if len(key) > maxShownKey {
		return ""
	}
	folded := fold(key)
	if meant := aliases[folded]; slices.Contains(k[section], meant) {
		return didYouMean(meant)
	}
	for _, other := range k[""] { // the same key, at home elsewhere
		if other != section && slices.Contains(k[other], key) {
			return " here: it belongs in " + bracketed(other)
		}
	}
	best, meant := 1+max(1, len(folded)/3), ""
	for _, known := range k[section] {
		if d := distance(folded, fold(known)); d < best {
			best, meant = d, known
		}
	}
	if meant == "" {
		return ""
	}
	return didYouMean(meant)
}

func didYouMean(key string) string { return `: did you mean "` + key + `"?` }

// fold removes what people vary in a name: case, hyphens and underscores.
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' {
			return -1
		}
		return r
	}, strings.ToLower(key))
}

// distance is the least number of letters inserted, deleted, changed or swapped with their neighbour that makes
// b out of a (optimal string alignment).
func distance(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := above[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(change, above[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
