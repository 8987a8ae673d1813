// Package spelling knows what people write in a configuration file when they mean something else:
// keys that are misspelt, that belong in another section or that other programs have, and values in
// the form of another type. It returns words for error messages. It reads no file, and it does not
// know which keys there are: a Set says so.
package spelling

import "strings"

// maxKey bounds the length, in bytes, of a key that is compared with others.
const maxKey = 32

// Set is what a file may say. It is not changed while it is in use.
type Set struct {
	Sections map[string][]string // keys of each section; under "" the names of the sections
	Kinds    map[string]Kind     // what a key takes, which is the same wherever it stands
}

// aliases are names that wg-quick(8) and others use for keys of tund, in the form that Fold makes.
var aliases = map[string]string{
	"interface":                   "tunnel",
	"persistentkeepalive":         "keepalive",
	"persistentkeepaliveinterval": "keepalive",
	"allowedip":                   "allowed_ips",
	"addresses":                   "address",
	"endpoints":                   "endpoint",
	"port":                        "listen_port",
	"firewallmark":                "fwmark",
	"psk":                         "preshared_key",
	"mac":                         "macs",
	"vlan":                        "vlans",
}

// absent are keys of other programs that tund has no counterpart of, in the form that Fold makes,
// each with what to do in their place.
var absent = map[string]string{
	"preup":      "tund runs no commands: use ExecStartPre= in a drop-in of tund@.service",
	"postup":     "tund runs no commands: use ExecStartPost= in a drop-in of tund@.service",
	"predown":    "tund runs no commands: use ExecStop= in a drop-in of tund@.service",
	"postdown":   "tund runs no commands: use ExecStopPost= in a drop-in of tund@.service",
	"saveconfig": "tund never writes to its configuration",
}

// Suggest returns the end of the report of an unknown key: the key that was probably meant, the
// section it belongs to, or what takes its place; "" when there is no good guess.
func (k *Set) Suggest(section, key string) string {
	if len(key) > maxKey {
		return ""
	}
	if meant := k.Respelt(section, key); meant != "" {
		return didYouMean(section, meant)
	}
	if name, homes := k.homes(section, key); name != "" {
		if name == key {
			return ": it belongs in " + strings.Join(homes, " or ")
		}
		return `: "` + name + `" belongs in ` + strings.Join(homes, " or ")
	}
	folded := Fold(key)
	if instead := absent[folded]; instead != "" {
		return ": " + instead
	}
	if meant := Nearest(key, k.Sections[section]); meant != "" {
		return didYouMean(section, meant)
	}
	return ""
}

// Respelt returns the key of a section that is spelt in another way, or known to others by another
// name; "" when there is none.
func (k *Set) Respelt(section, key string) string {
	folded := Fold(key)
	for _, known := range k.Sections[section] {
		if folded == Fold(known) || folded == Fold(known)+"s" && section == "" || aliases[folded] == known {
			return known
		}
	}
	return ""
}

// Nearest returns the one of the known names that was probably meant by another one: the first of
// those that differ least, in a third of its letters at most; "" when there is none.
func Nearest(name string, known []string) string {
	if len(name) > maxKey {
		return ""
	}
	folded := Fold(name)
	best, meant := 1+max(1, len(folded)/3), ""
	for _, k := range known {
		if len(k) > maxKey {
			continue
		}
		if d := distance(folded, Fold(k)); d < best {
			best, meant = d, k
		}
	}
	return meant
}

// Find returns a key, however it is spelt and in whichever section it stands, and what it takes;
// kind is 0 for an unknown one.
func (k *Set) Find(key string) (meant string, kind Kind) {
	for _, section := range k.Sections[""] {
		if meant := k.Respelt(section, key); meant != "" {
			return meant, k.Kinds[meant]
		}
	}
	return key, 0
}

// homes returns the sections that have a key which this one has not, and how it is spelt there.
func (k *Set) homes(section, key string) (name string, homes []string) {
	for _, other := range k.Sections[""] {
		if other == section {
			continue
		}
		if meant := k.Respelt(other, key); meant != "" {
			name, homes = meant, append(homes, Bracketed(other))
		}
	}
	return name, homes
}

// Bracketed writes the name of a section as it stands in the file.
func Bracketed(name string) string {
	if name == "peer" {
		return "[[peer]]"
	}
	return "[" + name + "]"
}

func didYouMean(section, key string) string {
	if section == "" {
		return ": did you mean " + Bracketed(key) + "?"
	}
	return `: did you mean "` + key + `"?`
}

// Fold removes what people vary in a name: case, hyphens and underscores.
func Fold(key string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' {
			return -1
		}
		return r
	}, strings.ToLower(key))
}

// distance is the least number of letters inserted, deleted, changed or swapped with their
// neighbour that makes b out of a (optimal string alignment).
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
