// Package resolved tells systemd-resolved which DNS servers belong to the TUN device, and finds out
// whether it knows them. resolved forgets what it was told about a device when the device goes, so
// nothing has to be taken back after a crash.
//
// A running instance cannot do that by itself: the service has no right to change the settings of
// resolved, can reach no D-Bus and can start no program. It writes what is wanted into a file of
// its run directory (Announce). systemd notices that (tund-dns@.path) and has `tunctl dns apply`,
// as root, ask the instance and call resolvectl(1).
//
// The package keeps no state. What resolvectl is to be told (Commands) depends on its arguments
// only.
//
// Sources: systemd-resolved.service(8), resolvectl(1), resolved.conf(5) on Domains=.
package resolved

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"tund/internal/rundir"
)

// Everything is the domain of all names (resolved.conf(5)).
const Everything = "~."

const (
	// runDir is where resolved has its socket and its files.
	runDir = "/run/systemd/resolve"
	// dialTimeout is how long resolved may take to accept a connection.
	dialTimeout = time.Second
)

// Wanted is what one device is to have.
type Wanted struct {
	Servers []netip.Addr // none: the settings of the device are taken back
	Domains []string     // search domains; with a tilde, for routing only
}

// Plan returns what a device is to have: the given servers and domains, and Everything if there are
// no domains or the tunnel carries the default route.
func Plan(servers []netip.Addr, domains []string, fullTunnel bool) Wanted {
	w := Wanted{Servers: servers, Domains: slices.Clone(domains)}
	if len(servers) > 0 && (len(domains) == 0 || fullTunnel) && !slices.Contains(domains, Everything) {
		w.Domains = append(w.Domains, Everything)
	}
	return w
}

// Words returns the servers and the domains as resolvectl takes them, in one list.
func (w Wanted) Words() []string {
	words := make([]string, 0, len(w.Servers)+len(w.Domains))
	for _, s := range w.Servers {
		words = append(words, s.String())
	}
	return append(words, w.Domains...)
}

// Parse is the inverse of Words. A word that is no address is a domain.
func Parse(words []string) (w Wanted) {
	for _, word := range words {
		if addr, err := netip.ParseAddr(word); err == nil {
			w.Servers = append(w.Servers, addr)
		} else {
			w.Domains = append(w.Domains, word)
		}
	}
	return w
}

// Commands returns the arguments of the calls of resolvectl(1) that give a device what is wanted.
func Commands(device string, w Wanted) [][]string {
	if len(w.Servers) == 0 {
		return [][]string{{"revert", device}}
	}
	n := len(w.Servers)
	words := w.Words()
	all := "no"
	if slices.Contains(w.Domains, Everything) {
		all = "yes"
	}
	return [][]string{
		append([]string{"dns", device}, words[:n]...),
		append([]string{"domain", device}, words[n:]...),
		{"default-route", device, all},
	}
}

// Announce writes what is wanted into the run directory of an instance, where systemd notices it.
func Announce(instanceDir string, w Wanted) error {
	text := strings.Join(w.Words(), "\n") + "\n"
	if err := os.WriteFile(filepath.Join(instanceDir, rundir.DNSFile), []byte(text), 0o640); err != nil {
		return fmt.Errorf("ask for DNS servers: %w", err)
	}
	return nil
}

// Remove removes what Announce has written.
func Remove(instanceDir string) error {
	err := os.Remove(filepath.Join(instanceDir, rundir.DNSFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Runs reports whether resolved runs.
func Runs() bool {
	conn, err := net.DialTimeout("unix", filepath.Join(runDir, "io.systemd.Resolve"), dialTimeout)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// Knows reports whether resolved has settings for the link with an index, and asks all of the
// servers, for this or for another link. resolved keeps the settings of links in a directory that
// only its own user and root may search; for others, the servers that it asks are all that can be
// seen.
func Knows(index int, servers []netip.Addr) bool {
	return knows(runDir, index, servers)
}

func knows(dir string, index int, wanted []netip.Addr) bool {
	_, err := os.Stat(filepath.Join(dir, "netif", strconv.Itoa(index)))
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return false
	}
	text, err := os.ReadFile(filepath.Join(dir, "resolv.conf"))
	if err != nil {
		return false
	}
	asked := servers(string(text))
	return !slices.ContainsFunc(wanted, func(s netip.Addr) bool {
		return !slices.ContainsFunc(asked, func(a netip.Addr) bool { return a.WithZone("") == s })
	})
}

// Others returns the servers that resolved knows besides those given, if stub is an address at
// which it answers programs of this host. Without resolved there are none.
func Others(stub netip.Addr, besides []netip.Addr) []netip.Addr {
	if !slices.Contains(stubs, stub.String()) {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(runDir, "resolv.conf"))
	if err != nil {
		return nil
	}
	return others(string(text), besides)
}

func others(resolvConf string, besides []netip.Addr) (list []netip.Addr) {
	for _, s := range servers(resolvConf) {
		if !slices.Contains(besides, s.WithZone("")) && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// servers returns the servers in the text of a resolv.conf(5).
func servers(text string) (list []netip.Addr) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "nameserver" {
			if addr, err := netip.ParseAddr(f[1]); err == nil {
				list = append(list, addr)
			}
		}
	}
	return list
}

// stubs are the addresses at which resolved answers programs of this host.
var stubs = []string{"127.0.0.53", "127.0.0.54"}

// Asked reports whether programs of this host ask resolved for names.
func Asked() bool {
	hosts, _ := os.ReadFile("/etc/nsswitch.conf") // without it, DNS is asked
	conf, err := os.ReadFile("/etc/resolv.conf")
	real, _ := filepath.EvalSymlinks("/etc/resolv.conf")
	return asked(string(hosts), string(conf), err == nil && strings.HasPrefix(real, runDir+"/"))
}

func asked(nsswitch, resolvConf string, linked bool) bool {
	for line := range strings.Lines(nsswitch) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == "hosts:" && slices.Contains(f, "resolve") {
			return true
		}
	}
	return linked || slices.ContainsFunc(servers(resolvConf), func(s netip.Addr) bool {
		return slices.Contains(stubs, s.String())
	})
}
