package follow

import (
	"errors"
	"slices"
	"strings"

	"tund/cmd/tunctl/internal/choose"
	"tund/internal/control"
	"tund/internal/sources"
)

// Concerns reports whether an event is one of those that were asked for.
type Concerns func(*Event) bool

// About returns which events concern wanted: a peer, by its name, its public key, or the beginning
// of either, or a device. That there is neither is an error, unless events about it may come all
// the same; then waits says why. past says that events are asked for which have happened already.
func About(instances []control.Instance, wanted string, past bool) (c Concerns, waits string, err error) {
	names := map[string]bool{wanted: true}
	found, err := choose.Peer(instances, wanted)
	var none *choose.None
	switch {
	case err == nil:
		for n := range found {
			p := &found[n].Peers[0]
			names[p.Name], names[p.PublicKey] = true, true
		}
	case !errors.As(err, &none):
		return nil, "", err // several begin like this
	case !hasDevice(instances, wanted):
		if waits = mayCome(instances, past); waits == "" {
			return nil, "", err
		}
	}
	return func(e *Event) bool {
		return names[e.Peer] || names[e.PublicKey] || names[e.Port] || e.Kind == control.LineGone
	}, waits, nil
}

// hasDevice reports whether an instance has a device of this name, which is a port of its switch.
func hasDevice(instances []control.Instance, name string) bool {
	return slices.ContainsFunc(instances, func(i control.Instance) bool {
		return slices.ContainsFunc(i.Devices, func(d control.Device) bool { return d.Name == name })
	})
}

// mayCome says why there may be events about a peer that no instance has; "" if nothing says so.
func mayCome(instances []control.Instance, past bool) string {
	if past {
		return "with --after, those of peers that are gone are shown as well"
	}
	var names []string
	for n := range instances {
		if slices.ContainsFunc(instances[n].Sources, func(s control.Source) bool { return s.Name == sources.Agent }) {
			names = append(names, instances[n].Name)
		}
	}
	if names == nil {
		return ""
	}
	return "the agent of " + strings.Join(names, ", ") + " may hand it in"
}
