package sysctl

import (
	"slices"
	"strings"
)

// Set is a set of settings. It is comparable; the zero value is empty.
type Set string

// SetOf returns the set of the settings with these names.
func SetOf(names []string) Set {
	return Set(strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), "\n"))
}

// Names returns the members by name, ascending.
func (s Set) Names() []string {
	if s == "" {
		return nil
	}
	return strings.Split(string(s), "\n")
}

// List returns the members, ascending.
func (s Set) List() []Setting {
	var list []Setting
	for _, name := range s.Names() {
		list = append(list, Setting(name))
	}
	return list
}

// Has reports whether a setting is a member.
func (s Set) Has(one Setting) bool { return slices.Contains(s.Names(), string(one)) }

// With returns s and one setting more.
func (s Set) With(one Setting) Set { return SetOf(append(s.Names(), string(one))) }

// Without returns s less one setting.
func (s Set) Without(one Setting) Set {
	return SetOf(slices.DeleteFunc(s.Names(), func(name string) bool { return name == string(one) }))
}

// Union returns the members of either set.
func (s Set) Union(other Set) Set { return SetOf(append(s.Names(), other.Names()...)) }
