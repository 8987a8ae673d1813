package filter

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

const (
	// MaxText bounds the text of an expression, in bytes: far more than people type.
	MaxText = 4096
	// maxDepth bounds nested parentheses and negations, so that the parser does not recurse without
	// end.
	maxDepth = 50
)

// Parse compiles an expression; an empty one takes everything. peer finds the key of a peer by its
// name or its public key in text form. An error says what is wrong and where.
func Parse(text string, peer func(name string) (Key, bool)) (*Filter, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("filter is %d bytes long (at most %d)", len(text), MaxText)
	}
	words, err := split(text)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		return nil, nil
	}
	p := &parser{words: words, peer: peer}
	match, err := p.any(0)
	if err != nil {
		return nil, err
	}
	if w := p.next(); w.text != "" || w.quoted {
		return nil, w.wrong("want \"and\" or \"or\" before it")
	}
	return &Filter{match}, nil
}

// word is one word of an expression.
type word struct {
	text   string
	quoted bool
	at     int // position, counted from 1
}

func (w word) wrong(format string, args ...any) error {
	what := "at its end"
	if w.text != "" || w.quoted {
		what = fmt.Sprintf("at %s (character %d)", strconv.QuoteToASCII(w.text), w.at)
	}
	return fmt.Errorf("filter, %s: %s", what, fmt.Sprintf(format, args...))
}

// split finds the words. Parentheses and exclamation marks are words of their own; quotes make one
// word of what they contain.
func split(text string) ([]word, error) {
	var words []word
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '(' || c == ')' || c == '!':
			words = append(words, word{text: text[i : i+1], at: i + 1})
			i++
		case c == '"' || c == '\'':
			end := strings.IndexByte(text[i+1:], c)
			if end < 0 {
				return nil, fmt.Errorf("filter: the quote at character %d is not closed", i+1)
			}
			words = append(words, word{text: text[i+1 : i+1+end], quoted: true, at: i + 1})
			i += end + 2
		default:
			end := strings.IndexAny(text[i:], " \t\n\r()!\"'")
			if end < 0 {
				end = len(text) - i
			}
			words = append(words, word{text: text[i : i+end], at: i + 1})
			i += end
		}
	}
	return words, nil
}

type parser struct {
	words []word
	peer  func(name string) (Key, bool)
}

// next takes the next word; its text is empty at the end.
func (p *parser) next() word {
	if len(p.words) == 0 {
		return word{}
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

// skip takes the next word if it is one of those given.
func (p *parser) skip(these ...string) bool {
	if len(p.words) == 0 || p.words[0].quoted {
		return false
	}
	for _, text := range these {
		if strings.EqualFold(p.words[0].text, text) {
			p.words = p.words[1:]
			return true
		}
	}
	return false
}

func (p *parser) any(depth int) (term, error) {
	left, err := p.all(depth)
	for err == nil && p.skip("or", "||") {
		var right term
		if right, err = p.all(depth); err == nil {
			left = or(left, right)
		}
	}
	return left, err
}

func (p *parser) all(depth int) (term, error) {
	left, err := p.one(depth)
	for err == nil && p.skip("and", "&&") {
		var right term
		if right, err = p.one(depth); err == nil {
			left = and(left, right)
		}
	}
	return left, err
}

func (p *parser) one(depth int) (term, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("filter is nested more than %d deep", maxDepth)
	}
	switch {
	case p.skip("not", "!"):
		match, err := p.one(depth + 1)
		if err != nil {
			return nil, err
		}
		return not(match), nil
	case p.skip("("):
		match, err := p.any(depth + 1)
		if err != nil {
			return nil, err
		}
		if w := p.next(); w.text != ")" || w.quoted {
			return nil, w.wrong("want a closing parenthesis")
		}
		return match, nil
	}
	return p.primitive()
}

// simple are the terms of one word.
var simple = map[string]term{
	"in":      func(v *View) verdict { return is(v.In) },
	"out":     func(v *View) verdict { return is(!v.In) },
	"dropped": func(v *View) verdict { return is(v.Dropped) },
	"ip":      version(4),
	"ip6":     version(6),
	"arp":     protocol(protoARP),
	"tcp":     protocol(protoTCP),
	"udp":     protocol(protoUDP),
	"sctp":    protocol(protoSCTP),
	"icmp":    inner(anyICMP),
	"icmp6":   protocol(protoICMP6),
}

func (p *parser) primitive() (term, error) {
	w := p.next()
	name := strings.ToLower(w.text)
	if match, ok := simple[name]; ok && !w.quoted {
		return match, nil
	}
	of := either
	switch name {
	case "src", "source":
		of = source
	case "dst", "destination":
		of = destination
	}
	if of != either {
		w = p.next()
		name = strings.ToLower(w.text)
	}
	switch {
	case w.quoted:
	case name == "host":
		return p.host(of)
	case name == "net":
		return p.net(of)
	case name == "port" || name == "portrange":
		return p.port(of)
	case of != either:
		return nil, w.wrong("want host, net or port after src or dst")
	case name == "peer":
		return p.ofPeer()
	case name == "proto":
		return p.proto()
	case name == "vlan":
		return p.vlan()
	}
	return nil, w.wrong("want peer NAME, host ADDRESS, net CIDR, port N, proto P, tcp, udp, icmp, icmp6, sctp, arp, " +
		"ip, ip6, vlan, in, out or dropped")
}

func (p *parser) ofPeer() (term, error) {
	w := p.next()
	if w.text == "" {
		return nil, w.wrong("want the name or public key of a peer")
	}
	key, ok := p.peer(w.text)
	if !ok {
		return nil, w.wrong("no peer has this name or public key")
	}
	return ofPeer(key), nil
}

func (p *parser) host(of side) (term, error) {
	w := p.next()
	addr, err := netip.ParseAddr(w.text)
	if err != nil {
		return nil, w.wrong("want an IP address")
	}
	addr = addr.Unmap().WithZone("")
	return within(netip.PrefixFrom(addr, addr.BitLen()), of), nil
}

func (p *parser) net(of side) (term, error) {
	w := p.next()
	net, err := netip.ParsePrefix(w.text)
	if err != nil {
		return nil, w.wrong("want a network such as 10.0.0.0/8 or 2001:db8::/32")
	}
	return within(net.Masked(), of), nil
}

func (p *parser) port(of side) (term, error) {
	w := p.next()
	first, last, isRange := strings.Cut(w.text, "-")
	if !isRange {
		last = first
	}
	low, err1 := strconv.ParseUint(first, 10, 16)
	high, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || low > high {
		return nil, w.wrong("want a port (0 to 65535), or two as N-M")
	}
	return portIn(uint16(low), uint16(high), of), nil
}

func (p *parser) proto() (term, error) {
	w := p.next()
	switch name := strings.ToLower(w.text); name {
	case "tcp", "udp", "icmp", "icmp6", "sctp", "arp":
		return simple[name], nil
	}
	number, err := strconv.ParseUint(w.text, 10, 8)
	if err != nil {
		return nil, w.wrong("want tcp, udp, icmp, icmp6, sctp, arp, or the number of an IP protocol")
	}
	return protocol(int16(number)), nil
}

// vlan takes a number if one follows.
func (p *parser) vlan() (term, error) {
	if len(p.words) > 0 {
		if id, err := strconv.ParseUint(p.words[0].text, 10, 16); err == nil {
			if w := p.next(); id > 4095 {
				return nil, w.wrong("want a VLAN (0 to 4095)")
			}
			return inVLAN(int(id)), nil
		}
	}
	return inVLAN(-1), nil
}
