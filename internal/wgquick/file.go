// Package wgquick reads and writes the configuration files of wg-quick(8) and wg(8), and translates
// between them and the files of tund.
//
// Parse takes a file as people have it: any case of keys and sections, CRLF, a byte order mark,
// comments, lists over several lines. What tund has no counterpart for (hooks, SaveConfig,
// unknown keys) becomes a Note that says what to do instead; what cannot be read becomes a Fault.
// File.TOML writes a configuration of tund, FromConfig goes the other way, and ForPeer makes the
// file that the other end of a tunnel needs.
//
// The package is pure: text and values in, text and values out. It reads no file, resolves no name,
// and changes nothing. Functions may be called concurrently. A File and what Format and TOML return
// hold secrets in clear; Notes and Faults never do.
//
// Sources: wg(8) and src/config.c, wg-quick(8) and src/wg-quick/linux.bash of wireguard-tools
// 1.0.20210914.
package wgquick

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tund/config"
	"tund/crypto/keys"
)

// File is what one file says, as far as tund and WireGuard's tools have it in common.
type File struct {
	PrivateKey     keys.PrivateKey // zero: none in the file
	PrivateKeyFile string          // of a hook "wg set %i private-key FILE"; "": none
	ListenPort     uint16          // 0: chosen by the kernel
	FwMark         uint32          // 0: none
	Addresses      []netip.Prefix  // host bits are kept; no address is there twice
	DNS            []string        // servers and search domains, in their order
	MTU            int             // bytes; 0: not given
	TableOff       bool            // Table = off: no routes
	Table          uint32          // routing table; 0: auto
	Peers          []Peer
}

// Peer is one [Peer] section.
type Peer struct {
	Name         string // from a comment, made fit for tund; "": none
	PublicKey    keys.PublicKey
	PresharedKey keys.PresharedKey // zero: none
	Endpoint     config.Endpoint   // zero: none
	AllowedIPs   []netip.Prefix    // masked, in the order of the file, each once
	Keepalive    time.Duration     // whole seconds; 0: off
}

// Note is something in a file that does not come along, and what to do about it.
type Note struct {
	Line int    // from 1; 0: the file as a whole
	Key  string // as the file should write it; "": none
	Text string // one or more lines, without a secret
}

// String returns line: key: text.
func (n Note) String() string { return position(n.Line, n.Key) + n.Text }

// Fault is something in a file that cannot be read.
type Fault Note

// Error returns line: key: text.
func (f Fault) Error() string { return position(f.Line, f.Key) + f.Text }

func position(line int, key string) string {
	var b strings.Builder
	if line > 0 {
		b.WriteString(strconv.Itoa(line) + ": ")
	}
	if key != "" {
		b.WriteString(key + ": ")
	}
	return b.String()
}

// Format returns f as a file for wg-quick(8). Without its keys Address, DNS, MTU and Table it is
// one for wg(8), too.
func (f *File) Format() string {
	var b strings.Builder
	b.WriteString("[Interface]\n")
	put := func(key, value string) { b.WriteString(key + " = " + value + "\n") }
	if !f.PrivateKey.IsZero() {
		put("PrivateKey", f.PrivateKey.Base64())
	}
	if f.ListenPort != 0 {
		put("ListenPort", strconv.Itoa(int(f.ListenPort)))
	}
	if f.FwMark != 0 {
		put("FwMark", fmt.Sprintf("%#x", f.FwMark))
	}
	if len(f.Addresses) > 0 {
		put("Address", join(f.Addresses))
	}
	if len(f.DNS) > 0 {
		put("DNS", strings.Join(f.DNS, ", "))
	}
	if f.MTU != 0 {
		put("MTU", strconv.Itoa(f.MTU))
	}
	switch {
	case f.TableOff:
		put("Table", "off")
	case f.Table != 0:
		put("Table", strconv.FormatUint(uint64(f.Table), 10))
	}
	for i := range f.Peers {
		f.Peers[i].format(&b)
	}
	return b.String()
}

func (p *Peer) format(b *strings.Builder) {
	put := func(key, value string) { b.WriteString(key + " = " + value + "\n") }
	b.WriteString("\n[Peer]\n")
	if p.Name != "" {
		put("# "+nameKey, p.Name)
	}
	put("PublicKey", p.PublicKey.String())
	if !p.PresharedKey.IsZero() {
		put("PresharedKey", p.PresharedKey.Base64())
	}
	if p.Endpoint.Host != "" {
		put("Endpoint", p.Endpoint.String())
	}
	if len(p.AllowedIPs) > 0 {
		put("AllowedIPs", join(p.AllowedIPs))
	}
	if p.Keepalive != 0 {
		put("PersistentKeepalive", strconv.Itoa(int(p.Keepalive/time.Second)))
	}
}

func join(prefixes []netip.Prefix) string {
	words := make([]string, len(prefixes))
	for i, p := range prefixes {
		words[i] = p.String()
	}
	return strings.Join(words, ", ")
}
