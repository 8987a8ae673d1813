package config

import (
	"net/netip"
	"strings"
)

// compact moves what the peers refer to into a few blocks: their names, endpoints and allowed IPs
// lie between what reading the file has left, and would keep the memory around them in use. A name
// may also be a part of the text of the file, which it would keep as a whole.
func (c *Config) compact() {
	var size, endpoints, prefixes int
	for i := range c.Peers {
		p := &c.Peers[i]
		size += len(p.Name)
		for _, e := range p.Endpoints {
			size += len(e.Host)
		}
		endpoints += len(p.Endpoints)
		prefixes += len(p.AllowedIPs)
	}
	b := block{endpoints: make([]Endpoint, 0, endpoints), prefixes: make([]netip.Prefix, 0, prefixes)}
	var text strings.Builder
	text.Grow(size)
	for i := range c.Peers {
		p := &c.Peers[i]
		text.WriteString(p.Name)
		for _, e := range p.Endpoints {
			text.WriteString(e.Host)
		}
	}
	b.text = text.String()
	for i := range c.Peers {
		b.take(&c.Peers[i])
	}
}

// block is memory for what peers refer to. It has as much room as they need.
type block struct {
	text      string // the names and hosts, in the order in which take is called for them
	endpoints []Endpoint
	prefixes  []netip.Prefix
}

// take makes a peer refer to the block.
func (b *block) take(p *Peer) {
	word := func(s string) string {
		w := b.text[:len(s)]
		b.text = b.text[len(s):]
		return w
	}
	p.Name = word(p.Name)
	if n := len(b.endpoints); p.Endpoints != nil {
		for _, e := range p.Endpoints {
			b.endpoints = append(b.endpoints, Endpoint{word(e.Host), e.Port})
		}
		p.Endpoints = b.endpoints[n:len(b.endpoints):len(b.endpoints)]
	}
	if n := len(b.prefixes); p.AllowedIPs != nil {
		b.prefixes = append(b.prefixes, p.AllowedIPs...)
		p.AllowedIPs = b.prefixes[n:len(b.prefixes):len(b.prefixes)]
	}
}
