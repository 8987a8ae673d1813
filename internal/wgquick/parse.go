package wgquick

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"tund/crypto/keys"
)

// MaxSize is the greatest size of a file, in bytes. 10,000 peers are 2 MB.
const MaxSize = 64 << 20

// Keys of the two sections, as wg-quick(8) writes them.
var (
	interfaceKeys = []string{"PrivateKey", "ListenPort", "FwMark", "Address", "DNS", "MTU", "Table", "SaveConfig",
		"PreUp", "PostUp", "PreDown", "PostDown"}
	peerKeys = []string{"PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive"}
)

// section is a kind of section.
type section int

const (
	noSection section = iota
	interfaceSection
	peerSection
	unknownSection
)

// parser carries one file through.
type parser struct {
	file   File
	notes  []Note
	faults []Fault

	line    int // the current one, from 1
	section section
	// Since the last key or section: one of them may be the name of the peer to come.
	comments []string
	peer     *peerState
	peers    []*peerState
	seen     bool // an [Interface]
	device   string
	dnsLine  int // the first with DNS; 0: none
	mtuLine  int // the last with MTU
	hookLine int // the last with a hook that ends in a backslash; 0: none
}

// peerState is a peer while its section is read.
type peerState struct {
	Peer
	line      int // of its header
	keyLine   int // of its public key
	keys      int // read so far
	bad       bool
	nameRank  int                  // how good the source of the name is
	prefixPos map[netip.Prefix]int // line of each of AllowedIPs
}

// Parse reads a file of wg-quick(8) or wg(8). device is the name of the interface, which hooks
// write as %i: the base name of the file. The File is of use only where there are no faults. Notes
// and faults are in the order of the file.
func Parse(text, device string) (*File, []Note, []Fault) {
	p := &parser{device: device}
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") || strings.ContainsRune(text, 0) {
		p.faults = append(p.faults, Fault{Text: "is not UTF-8: save it as UTF-8 and try again"})
		return &p.file, nil, p.faults
	}
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		p.line++
		p.read(strings.TrimSpace(line))
	}
	p.end()
	slices.SortStableFunc(p.notes, func(a, b Note) int { return a.Line - b.Line })
	slices.SortStableFunc(p.faults, func(a, b Fault) int { return a.Line - b.Line })
	return &p.file, p.notes, p.faults
}

func (p *parser) note(key, format string, args ...any) {
	p.notes = append(p.notes, Note{p.line, key, fmt.Sprintf(format, args...)})
}

func (p *parser) fault(key, format string, args ...any) {
	p.faults = append(p.faults, Fault{p.line, key, fmt.Sprintf(format, args...)})
	if p.peer != nil {
		p.peer.bad = true
	}
}

// read takes one line, without spaces around it.
func (p *parser) read(line string) {
	code, comment, hasComment := strings.Cut(line, "#")
	if strings.HasPrefix(line, ";") { // not wg's, but other programs' sign of a comment
		code, comment, hasComment = "", line[1:], true
	}
	code = strings.TrimSpace(code)
	switch {
	case code == "":
		p.comment(comment, hasComment)
	case code[0] == '[':
		p.header(code, comment)
	default:
		p.assignment(line, code, comment)
	}
}

// comment keeps what may be the name of a peer. A line between comment and section says that they
// do not belong together, if it is empty.
func (p *parser) comment(text string, is bool) {
	if !is {
		p.comments = nil
		return
	}
	p.comments = append(p.comments, text)
	if p.section == peerSection && p.peer != nil && p.peer.keys == 0 {
		p.peer.offerName(text, nameInside)
	}
}

func (p *parser) header(code, comment string) {
	above := p.comments
	p.comments, p.peer = nil, nil
	switch name := strings.ToLower(strings.Join(strings.Fields(code), "")); name {
	case "[interface]":
		p.section, p.seen = interfaceSection, true
	case "[peer]":
		p.section = peerSection
		p.peer = &peerState{line: p.line, prefixPos: make(map[netip.Prefix]int)}
		p.peers = append(p.peers, p.peer)
		for _, text := range slices.Backward(above) { // the nearest that can be one
			p.peer.offerName(text, nameAbove)
		}
		p.peer.offerName(comment, nameBeside)
	default:
		p.section = unknownSection
		p.note("", "unknown section %s: left out, with everything in it", shown(code))
	}
}

// assignment reads key = value.
func (p *parser) assignment(line, code, comment string) {
	p.comments = nil
	if p.hookLine > 0 && p.hookLine == p.line-1 {
		p.fault("", "continues the command of the line above, which wg-quick does not support: write the command in one line")
		p.continues(line)
		return
	}
	name, value, ok := strings.Cut(code, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || name == "" {
		p.fault("", "want key = value")
		return
	}
	switch p.section {
	case interfaceSection:
		if key := canonical(name, interfaceKeys); isHook(key) {
			_, whole, _ := strings.Cut(line, "=") // a # is the shell's to understand
			p.continues(line)
			p.hook(key, strings.TrimSpace(whole))
		} else if value != "" || key == "" {
			p.interfaceKey(key, name, value)
		}
	case peerSection:
		key := canonical(name, peerKeys)
		if key == "PublicKey" {
			p.peer.offerName(comment, nameAtKey)
		}
		p.peer.keys++
		if value != "" || key == "" {
			p.peerKey(key, name, value)
		}
	case noSection:
		p.fault("", "%s stands before the first section: want [Interface] or [Peer] above it", shown(name))
	}
}

// continues notes whether a command ends in a backslash: with wg-quick, lines do not go on in the
// next one.
func (p *parser) continues(line string) {
	if strings.HasSuffix(line, `\`) {
		p.hookLine = p.line
	}
}

// canonical returns name as wg-quick(8) writes it, "" where it is not one of known.
func canonical(name string, known []string) string {
	for _, k := range known {
		if strings.EqualFold(k, strings.Join(strings.Fields(name), "")) {
			return k
		}
	}
	return ""
}

func (p *parser) interfaceKey(key, name, value string) {
	f := &p.file
	switch key {
	case "PrivateKey":
		k, err := keys.ParsePrivate(compact(value))
		if err == nil && k.IsZero() {
			err = errZero
		}
		p.check(key, err)
		f.PrivateKey = k
	case "ListenPort":
		f.ListenPort = uint16(p.number(key, value, 16))
	case "FwMark":
		f.FwMark = uint32(p.number(key, value, 32))
	case "MTU":
		f.MTU, p.mtuLine = int(p.number(key, value, 16)), p.line
	case "Table":
		p.table(value)
	case "Address":
		for _, word := range words(value) {
			a, why := prefix(word)
			if why != "" {
				p.fault(key, "%s %s", shown(word), why)
			} else if !slices.ContainsFunc(f.Addresses, func(b netip.Prefix) bool { return a.Addr() == b.Addr() }) {
				f.Addresses = append(f.Addresses, a)
			}
		}
	case "DNS":
		f.DNS = append(f.DNS, words(value)...)
		p.dnsLine = cmp.Or(p.dnsLine, p.line)
	case "SaveConfig":
		if strings.EqualFold(value, "true") {
			p.note(key, "tund never writes its file by itself: change it with `tunctl peer ... --save`, or by hand and `tunctl reload`")
		}
	default:
		p.unknown(name, interfaceKeys, peerKeys, "[Peer]")
	}
}

func (p *parser) peerKey(key, name, value string) {
	peer := p.peer
	switch key {
	case "PublicKey":
		k, err := keys.ParsePublic(compact(value))
		if err == nil && k.IsZero() {
			err = errZero
		}
		p.check(key, err)
		peer.PublicKey, peer.keyLine = k, p.line
	case "PresharedKey":
		k, err := keys.ParsePreshared(compact(value))
		p.check(key, err)
		peer.PresharedKey = k
	case "AllowedIPs":
		p.allowedIPs(value)
	case "Endpoint":
		e, why := endpoint(compact(value))
		if why != "" {
			p.fault(key, "%s", why)
		}
		peer.Endpoint = e
	case "PersistentKeepalive":
		peer.Keepalive = time.Duration(p.number(key, value, 16)) * time.Second
	default:
		p.unknown(name, peerKeys, interfaceKeys, "[Interface]")
	}
}

// allowedIPs adds to the peer's list. Newer wg has "+" in front of a prefix, to add it, and "-", to
// take it away.
func (p *parser) allowedIPs(value string) {
	for _, word := range words(value) {
		text, minus := strings.CutPrefix(word, "-")
		a, why := prefix(strings.TrimPrefix(text, "+"))
		if why != "" {
			p.fault("AllowedIPs", "%s %s", shown(word), why)
			continue
		}
		a = a.Masked()
		if minus {
			p.peer.AllowedIPs = slices.DeleteFunc(p.peer.AllowedIPs, func(b netip.Prefix) bool { return a == b })
		} else if !slices.Contains(p.peer.AllowedIPs, a) {
			p.peer.AllowedIPs = append(p.peer.AllowedIPs, a)
			p.peer.prefixPos[a] = p.line
		}
	}
}

// table reads Table: off, auto, a number, or one of the names that every host has
// (/etc/iproute2/rt_tables).
func (p *parser) table(value string) {
	p.file.TableOff, p.file.Table = false, 0
	switch strings.ToLower(value) {
	case "off":
		p.file.TableOff = true
	case "auto":
	case "main":
		p.file.Table = 254
	case "default":
		p.file.Table = 253
	default:
		n, err := strconv.ParseUint(value, 0, 32)
		switch {
		case err != nil:
			p.fault("Table", "%s is not a number: give the number that /etc/iproute2/rt_tables has for it", shown(value))
		case n == 255:
			p.fault("Table", "255 is the kernel's own table of local addresses")
		}
		p.file.Table = uint32(n)
	}
}

// number reads a number of at most so many bits, in any of the forms of wg(8), or "off", which is
// 0.
func (p *parser) number(key, value string, bits int) uint64 {
	if strings.EqualFold(value, "off") {
		return 0
	}
	text, base := strings.ToLower(compact(value)), 10
	if rest, hex := strings.CutPrefix(text, "0x"); hex {
		text, base = rest, 16
	}
	n, err := strconv.ParseUint(text, base, bits)
	if err != nil {
		p.fault(key, "%s is not a number from 0 to %d", shown(value), uint64(1)<<bits-1)
	}
	return n
}

func (p *parser) check(key string, err error) {
	if err != nil {
		p.fault(key, "%v", err)
	}
}

// words splits a list at commas and spaces, as wg-quick does.
func words(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// compact takes spaces out of a value, as wg does.
func compact(value string) string { return strings.Join(strings.Fields(value), "") }
