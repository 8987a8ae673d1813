package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tund/cmd/tunctl/internal/exit"
	"tund/config"
	"tund/internal/control"
	"tund/internal/names"
	"tund/internal/resolved"
)

// resolvectl is the program that changes what systemd-resolved knows of a link.
const resolvectl = "resolvectl"

func (a *app) dnsCommand() *cobra.Command {
	show := a.do(func(cmd *cobra.Command, _ []string) error { return a.showDNS(cmd.Context()) })
	dns := &cobra.Command{
		Use:   "dns",
		Short: "Show which DNS servers the instances want this host to ask",
		Long: `Show which DNS servers the instances want this host to ask ([tun] dns), in the words of resolvectl(1): servers, and
domains.`,
		Args: onlyVerbs, RunE: show,
	}
	apply := &cobra.Command{
		Use:   "apply",
		Short: "Have systemd-resolved ask the DNS servers of an instance",
		Long: `Have systemd-resolved ask the DNS servers of an instance, or stop asking them if it has none: by resolvectl(1), as root.
tund-dns@.service does this by itself when an instance is started by systemd or its configuration changes.`,
		Args: noArgs,
		RunE: a.do(func(cmd *cobra.Command, _ []string) error { return a.applyDNS(cmd.Context()) }),
	}
	dns.AddCommand(apply)
	return dns
}

// wantedDNS is what an instance wants of systemd-resolved.
type wantedDNS struct {
	instance string
	device   string // the TUN device; "": there is none
	resolved.Wanted
}

// dnsOf asks an instance.
func dnsOf(ctx context.Context, c *control.Client) (w wantedDNS, err error) {
	s, err := c.Status(ctx)
	if err != nil {
		return w, err
	}
	w.instance = c.Instance()
	for _, i := range s.Instances { // there is one
		for _, d := range i.Devices {
			if d.Kind == "tun" {
				w.device, w.Wanted = d.Name, resolved.Parse(d.DNS)
			}
		}
	}
	return w, nil
}

// showDNS prints what each instance wants.
func (a *app) showDNS(ctx context.Context) error {
	clients, err := a.clients()
	if err != nil {
		return err
	}
	answers, failures := gather(ctx, clients, dnsOf)
	for _, w := range answers {
		if err := a.printDNS(w); err != nil {
			return err
		}
	}
	return a.report(failures)
}

func (a *app) printDNS(w wantedDNS) error {
	text := "no DNS servers"
	if len(w.Servers) > 0 {
		text = w.device + ": " + strings.Join(w.Words(), " ")
	}
	_, err := fmt.Fprintf(a.env.stdout, "%s: %s\n", w.instance, text)
	return err
}

// applyDNS tells systemd-resolved what an instance wants.
func (a *app) applyDNS(ctx context.Context) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	asked, cancel := context.WithTimeout(ctx, control.AnswerTimeout)
	defer cancel()
	w, err := dnsOf(asked, c)
	switch {
	case err != nil:
		return err
	case w.device == "":
		return exit.Errorf(exit.Failed, "%s: has no [tun] device", w.instance)
	}
	err = checkDNS(w.device, w.Wanted)
	if err == nil {
		err = isTUN(a.env.sysNet, w.device)
	}
	if err != nil {
		return exit.Errorf(exit.Failed, "%s: dns apply: %v", w.instance, err)
	}
	for _, args := range resolved.Commands(w.device, w.Wanted) {
		if err := a.env.run(ctx, resolvectl, args...); err != nil {
			return exit.Errorf(exit.Failed, "%s: dns apply: %v", w.instance, err)
		}
	}
	return a.printDNS(w)
}

// checkDNS returns why resolvectl is not to be told this. It is started as root, and what an
// instance answers comes from a process without such rights: nothing of it may be taken for an
// option, or for the number of another link.
func checkDNS(device string, w resolved.Wanted) error {
	if err := names.Device(device); err != nil {
		return fmt.Errorf("the name of the device %w", err)
	}
	if _, err := strconv.Atoi(device); err == nil || strings.HasPrefix(device, "-") {
		return fmt.Errorf("resolvectl would not take %q for the name of a device", device)
	}
	for _, word := range w.Words() {
		if !config.IsDNS(word) {
			return fmt.Errorf("%.40q is neither the address of a server nor a domain", word)
		}
	}
	return nil
}

// isTUN returns why a device of this host, in the directory of sysfs, is not one that an instance
// could have made: otherwise an instance that was taken over could name an uplink, and the host
// would ask servers of its choice for everything. The flags are those of TUNSETIFF
// (linux/if_tun.h).
func isTUN(sysNet, device string) error {
	text, err := os.ReadFile(filepath.Join(sysNet, device, "tun_flags"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("this host has no TUN device %s (see: ip -d link show %s)", device, device)
	}
	if err != nil {
		return fmt.Errorf("check whether %s is a TUN device: %w", device, err)
	}
	flags, err := strconv.ParseUint(strings.TrimSpace(string(text)), 0, 32)
	if err != nil {
		return fmt.Errorf("check whether %s is a TUN device: %w", device, err)
	}
	if flags&unix.IFF_TUN == 0 {
		return fmt.Errorf("%s is a TAP device, and DNS servers belong to the TUN device", device)
	}
	return nil
}

// runProgram runs a program and returns what it said when it failed.
func runProgram(ctx context.Context, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, control.AnswerTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%s is not installed (Debian: systemd-resolved)", name)
	case err != nil:
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
