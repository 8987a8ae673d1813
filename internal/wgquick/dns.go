package wgquick

import (
	"net/netip"
	"slices"
	"strings"

	"tund/config"
	"tund/internal/resolved"
)

// checkDNS keeps of DNS what [tun] dns takes, and notes the rest.
func (p *parser) checkDNS() {
	list := p.file.DNS
	p.file.DNS = nil
	p.line = p.dnsLine
	for _, word := range list {
		switch {
		case slices.Contains(p.file.DNS, word):
		case config.IsDNS(word):
			p.file.DNS = append(p.file.DNS, word)
		default:
			p.note("DNS", "%s is neither the address of a server nor a domain: left out", shown(word))
		}
	}
	if len(p.file.DNS) > 0 && !slices.ContainsFunc(p.file.DNS, isAddress) {
		p.note("DNS", "has domains, and no server to ask for them: left out")
		p.file.DNS = nil
	}
}

func isAddress(word string) bool {
	_, err := netip.ParseAddr(word)
	return err == nil
}

// dns returns what a configuration of tund says for the DNS servers and search domains of f: with
// wg-quick, the servers are asked for all names, whatever the domains.
func (f *File) dns() []string {
	if slices.IndexFunc(f.DNS, func(w string) bool { return !isAddress(w) }) < 0 {
		return f.DNS
	}
	return append(slices.Clone(f.DNS), resolved.Everything)
}

// dnsOf returns the DNS servers and search domains of a configuration for a file of wg-quick, and
// what is lost on the way; "" if nothing is.
func dnsOf(t *config.Tun) (list []string, lost string) {
	for _, s := range t.DNS {
		list = append(list, s.String())
	}
	for _, d := range t.DNSDomains {
		if !strings.HasPrefix(d, "~") {
			list = append(list, d)
		}
	}
	if len(t.DNSDomains) > 0 && !slices.Contains(t.DNSDomains, resolved.Everything) {
		lost = "with wg-quick, the servers are asked for all names"
	}
	return list, lost
}
