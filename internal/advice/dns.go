package advice

import (
	"strings"

	"tund/config"
	"tund/internal/desired"
	"tund/internal/hostcheck"
	"tund/internal/resolved"
	"tund/internal/statusview"
)

// askEvery is after how many checks systemd-resolved is told again what it does not know.
const askEvery = 6

// checkDNS notes why this host does not ask the DNS servers of the configuration.
func (a *Adviser) checkDNS(c *config.Config, host hostcheck.Host) {
	wanted := desired.DNS(c)
	if len(wanted.Servers) == 0 {
		a.withoutDNS = 0
		a.Problems.Solved(statusview.KindResolver, "")
		return
	}
	index := 0
	for i := range host.Links {
		if host.Links[i].Name == c.Tun.Device {
			index = host.Links[i].Index
		}
	}
	note := func(message, remedy string) { a.Problems.NoteRemedy(statusview.KindResolver, "", message, remedy) }
	switch {
	case !resolved.Runs():
		a.withoutDNS = 0
		note("names are not resolved by the servers of [tun] dns: systemd-resolved, which asks them, does not run on this host",
			"start it (apt install systemd-resolved; systemctl enable --now systemd-resolved), or remove dns and put the servers into /etc/resolv.conf: "+
				strings.Join(wanted.Words()[:len(wanted.Servers)], ", "))
	case !resolved.Knows(index, wanted.Servers):
		if a.withoutDNS++; a.withoutDNS == 1 {
			return // it is about to be told
		}
		if a.withoutDNS%askEvery == 2 {
			a.AskForDNS()
		}
		note("names are not resolved by the servers of [tun] dns: systemd-resolved does not know them", "tunctl -i "+c.Instance+
			" dns apply, as root; tund-dns@"+c.Instance+".path does so by itself, where systemd has started the instance")
	case !resolved.Asked():
		a.withoutDNS = 0
		note("the programs of this host do not ask systemd-resolved, and so not the servers of [tun] dns: /etc/resolv.conf has other servers",
			"ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf")
	default:
		a.withoutDNS = 0
		a.Problems.Solved(statusview.KindResolver, "")
	}
}
