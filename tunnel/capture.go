package tunnel

import (
	"fmt"
	"slices"

	"tund/internal/capture/filter"
	"tund/internal/capture/stream"
	"tund/internal/drop"
	"tund/tunnel/capture"
	"tund/tunnel/offload"
)

// CaptureOptions says what to capture.
type CaptureOptions struct {
	Instance, Version string   // shown in the file
	Devices           []string // by name; none: all
	Filter            string   // see internal/capture/filter; "": everything
	SnapLength        int      // bytes of each packet, capture.MinSnap to capture.MaxSnap
	Outer             bool     // the datagrams of the underlay as well
	Secrets           bool     // and the keys of handshakes; requires Outer
	// Rekey makes new sessions with the peers that the filter may mean and that have one, as soon
	// as the rules of the protocol allow, so that Secrets has their keys.
	Rekey bool
}

// captureEnds is why captures end with the tunnel.
const captureEnds = "the instance is stopping"

// Capture begins to capture packets. The caller has to call Stop of the result, and meanwhile
// Stream, without which packets are lost. An error of the options says which is wrong.
func (t *Tunnel) Capture(o CaptureOptions) (*capture.Session, error) {
	f, err := filter.Parse(o.Filter, t.peerKey)
	if err != nil {
		return nil, err
	}
	if o.SnapLength < capture.MinSnap || o.SnapLength > capture.MaxSnap {
		return nil, fmt.Errorf("snap length %d is out of range (%d to %d)", o.SnapLength, capture.MinSnap, capture.MaxSnap)
	}
	if o.Secrets && !o.Outer {
		return nil, fmt.Errorf("keys are of use only with the datagrams of the underlay")
	}
	options := capture.Options{Filter: f, Secrets: o.Secrets, Clock: t.env.Clock, Start: stream.Start{
		Schema: stream.Schema, Instance: o.Instance, Version: o.Version, SnapLength: o.SnapLength, Filter: o.Filter,
		Reasons: append([]string{drop.None.String()}, drop.Names()...),
	}}
	if err := t.captureInterfaces(&options, o.Devices); err != nil {
		return nil, err
	}
	if o.Outer {
		options.Devices = append(options.Devices, capture.Underlay)
		options.Start.Interfaces = append(options.Start.Interfaces, stream.Interface{Name: "outer", Kind: stream.KindOuter})
	}
	s, err := t.env.Taps.Start(options)
	if err == nil && o.Rekey {
		t.renewSessions(f)
	}
	return s, err
}

// captureInterfaces chooses the devices by name; none means all.
func (t *Tunnel) captureInterfaces(o *capture.Options, names []string) error {
	for i, d := range t.devices {
		if len(names) > 0 && !slices.Contains(names, d.Name) {
			continue
		}
		kind := stream.KindTUN
		if d.Link == offload.Ethernet {
			kind = stream.KindTAP
		}
		o.Devices = append(o.Devices, i)
		o.Start.Interfaces = append(o.Start.Interfaces, stream.Interface{Name: d.Name, Kind: kind})
	}
	for _, name := range names {
		if !slices.ContainsFunc(o.Start.Interfaces, func(i stream.Interface) bool { return i.Name == name }) {
			return fmt.Errorf("no device of this instance is called %s", name)
		}
	}
	return nil
}

// peerKey returns the key of a peer by its name or its public key.
func (t *Tunnel) peerKey(text string) (filter.Key, bool) {
	if p := t.peerCalled(text); p != nil {
		return filter.Key(p.PublicKey()), true
	}
	return filter.Key{}, false
}

// renewSessions asks for new sessions with the peers that have one and that a filter may mean.
func (t *Tunnel) renewSessions(f *filter.Filter) {
	now := t.env.Clock.Now()
	for _, p := range t.peers.All() {
		if p.Current() == nil || !f.Match(&filter.View{Encrypted: true, HasPeer: true, Peer: filter.Key(p.PublicKey())}) {
			continue
		}
		t.env.WantHandshake(p, now)
	}
}
