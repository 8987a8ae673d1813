package wgquick

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// TOML returns f as a configuration of tund, without what Parse has noted. Where f has neither a
// private key nor the file of one, the text names keyFile as that.
func (f *File) TOML(keyFile string) string {
	var t text
	t.open("[tunnel]")
	switch {
	case !f.PrivateKey.IsZero():
		t.put("private_key", Quote(f.PrivateKey.Base64()))
	case f.PrivateKeyFile != "":
		t.put("private_key_file", Quote(f.PrivateKeyFile))
	default:
		t.put("private_key_file", Quote(keyFile))
	}
	if f.ListenPort != 0 {
		t.put("listen_port", strconv.Itoa(int(f.ListenPort)))
	}
	if f.FwMark != 0 {
		t.put("fwmark", fmt.Sprintf("%#x", f.FwMark))
	}
	t.open("[tun]")
	if len(f.Addresses) > 0 {
		t.put("address", QuoteList(texts(f.Addresses)))
	}
	if f.MTU != 0 {
		t.put("mtu", strconv.Itoa(f.MTU))
	}
	if len(f.DNS) > 0 {
		t.put("dns", QuoteList(f.dns()))
	}
	if f.TableOff {
		t.put("routes", `"off"`)
	}
	if f.Table != 0 {
		t.put("table", strconv.FormatUint(uint64(f.Table), 10))
	}
	for i := range f.Peers {
		f.Peers[i].toml(&t)
	}
	return t.String()
}

// TOML returns p as a [[peer]] of a configuration of tund. A presharedKeyFile that is not "" stands
// in place of the preshared key.
func (p *Peer) TOML(presharedKeyFile string) string {
	var t text
	t.pskFile = presharedKeyFile
	p.toml(&t)
	return t.String()
}

func (p *Peer) toml(t *text) {
	t.open("[[peer]]")
	if p.Name != "" {
		t.put("name", Quote(p.Name))
	}
	t.put("public_key", Quote(p.PublicKey.String()))
	if t.pskFile != "" {
		t.put("preshared_key_file", Quote(t.pskFile))
	} else if !p.PresharedKey.IsZero() {
		t.put("preshared_key", Quote(p.PresharedKey.Base64()))
	}
	if p.Endpoint.Host != "" {
		t.put("endpoint", Quote(p.Endpoint.String()))
	}
	t.put("allowed_ips", QuoteList(texts(p.AllowedIPs)))
	if p.Keepalive != 0 {
		t.put("keepalive", strconv.Itoa(int(p.Keepalive/time.Second)))
	}
}

func texts(prefixes []netip.Prefix) []string {
	list := make([]string, len(prefixes))
	for i, p := range prefixes {
		list[i] = p.String()
	}
	return list
}

// text is a TOML document under construction, its equals signs below each other within a section.
type text struct {
	b       strings.Builder
	header  string
	keys    []string
	values  []string
	pskFile string
}

func (t *text) open(header string) {
	t.flush()
	t.header = header
}

func (t *text) put(key, value string) {
	t.keys, t.values = append(t.keys, key), append(t.values, value)
}

func (t *text) flush() {
	if t.header == "" {
		return
	}
	if t.b.Len() > 0 {
		t.b.WriteByte('\n')
	}
	t.b.WriteString(t.header + "\n")
	width := 0
	for _, key := range t.keys {
		width = max(width, len(key))
	}
	for i, key := range t.keys {
		fmt.Fprintf(&t.b, "%-*s = %s\n", width, key, t.values[i])
	}
	t.keys, t.values, t.header = nil, nil, ""
}

// String ends the document.
func (t *text) String() string {
	t.flush()
	return t.b.String()
}

// Quote returns a basic string of TOML 1.0.
func Quote(value string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range value {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// lineWidth is where a list goes over to one line for each of its elements.
const lineWidth = 100

// QuoteList returns an array of strings of TOML 1.0.
func QuoteList(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = Quote(v)
	}
	if line := "[" + strings.Join(quoted, ", ") + "]"; len(line) <= lineWidth-len("allowed_ips = ") {
		return line
	}
	return "[\n    " + strings.Join(quoted, ",\n    ") + ",\n]"
}
