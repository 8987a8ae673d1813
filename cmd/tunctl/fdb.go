package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/control"
)

func (a *app) fdbCommand() *cobra.Command {
	show := a.do(func(cmd *cobra.Command, args []string) error { return a.showFDB(cmd.Context(), args) })
	fdb := &cobra.Command{
		Use:   "fdb",
		Short: "Show or change which MAC addresses are behind which port",
		Long:  "Show or change the forwarding database of [tap]: which MAC addresses are behind which port, a peer or the TAP device.",
		Args:  onlyVerbs,
		RunE:  show,

		SuggestFor: []string{"mac", "macs", "bridge", "switch"},
	}
	showFDB := &cobra.Command{
		Use:   "show [MAC | IP | PORT]",
		Short: "Show the forwarding database (the default), or what concerns one address or port",
		Long: `Show the forwarding database of [tap], or only what concerns a MAC address, an IP address, or a port: a peer, the
TAP device, or the port of the bridge that has a local address.`,
		Example: `  tunctl fdb show 10.7.0.12
  tunctl -i office fdb show berlin`,
		Args: cobra.MaximumNArgs(1), RunE: show,
		SuggestFor: []string{"list", "dump", "find"},
	}
	for _, cmd := range []*cobra.Command{fdb, showFDB} {
		cmd.Flags().BoolVar(&a.json, "json", false, "one JSON document, schema "+control.FDBSchema)
	}
	fdb.AddCommand(showFDB, a.flushCommand(), a.pinCommand())
	return fdb
}

// fdbMatch returns which entries belong to a MAC, an IP address or a port; all without one.
func fdbMatch(args []string) func(e *control.FDBEntry) bool {
	if len(args) == 0 {
		return func(*control.FDBEntry) bool { return true }
	}
	word := args[0]
	if mac, err := control.CanonicalMAC(word); err == nil {
		return func(e *control.FDBEntry) bool { return e.MAC == mac }
	}
	if ip, err := netip.ParseAddr(word); err == nil {
		text := ip.Unmap().String()
		return func(e *control.FDBEntry) bool { return slices.Contains(e.IPs, text) }
	}
	return func(e *control.FDBEntry) bool { return e.Port == word || e.BridgePort == word }
}

// showFDB shows the tables of all instances, or the entries that match the argument.
func (a *app) showFDB(ctx context.Context, args []string) error {
	s, err := a.newPage()
	if err != nil {
		return err
	}
	document := control.FDBTable{Schema: control.FDBSchema, Instances: []control.FDBInstance{}}
	clients, err := a.clients()
	if err != nil {
		if a.json {
			_ = a.printJSON(document)
		}
		return err
	}
	answers, failures := gather(ctx, clients, func(ctx context.Context, c *control.Client) (control.FDBTable, error) {
		return c.FDB(ctx)
	})
	for _, answer := range answers {
		document.Instances = append(document.Instances, answer.Instances...)
	}
	match, found := fdbMatch(args), false
	for n := range document.Instances {
		table := &document.Instances[n]
		table.FDB = slices.DeleteFunc(table.FDB, func(e control.FDBEntry) bool { return !match(&e) })
		if len(args) > 0 {
			table.Blocked = slices.DeleteFunc(table.Blocked, func(p control.BlockedPort) bool { return p.Port != args[0] })
		}
		found = found || len(table.FDB)+len(table.Blocked) > 0
	}
	if len(args) > 0 && !found && len(document.Instances) > 0 {
		failures = append(failures, fmt.Errorf("fdb: nothing is known about %s: it is not a port with hosts behind it, and no host with this address has been seen", args[0]))
	}
	switch {
	case a.json:
		err = a.printJSON(document)
	case len(args) == 0 || found:
		s.FDB(document.Instances)
		err = a.show(s)
	}
	if err != nil {
		return err
	}
	return a.report(failures)
}

func (a *app) flushCommand() *cobra.Command {
	var filter control.FDBFilter
	var vlan int
	cmd := &cobra.Command{
		Use:   "flush",
		Short: "Forget learned addresses, all or those that the flags select",
		Long: `Forget learned addresses: all of them, or those that the flags select. They are learned again from the next
frames. With --static, remove pinned entries instead.`,
		Example: `  tunctl -i office fdb flush --port berlin
  tunctl -i office fdb flush --static --mac 02:00:00:00:00:01`,
		Args: noArgs,
	}
	cmd.Flags().StringVar(&filter.MAC, "mac", "", "only this MAC address")
	cmd.Flags().StringVar(&filter.Port, "port", "", "only behind this peer, or the TAP device")
	cmd.Flags().IntVar(&vlan, "vlan", 0, "only in this VLAN (0: untagged)")
	cmd.Flags().BoolVar(&filter.Static, "static", false, "pinned entries instead of learned ones")
	cmd.RunE = a.do(func(cmd *cobra.Command, _ []string) error {
		if err := control.CheckVLAN(vlan); err != nil {
			return exit.Usage("--vlan: %v", err)
		}
		if cmd.Flags().Changed("vlan") {
			filter.VLAN = &vlan
		}
		if filter.MAC != "" {
			if _, err := control.CanonicalMAC(filter.MAC); err != nil {
				return exit.Usage("--mac: %v", err)
			}
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), control.AnswerTimeout)
		defer cancel()
		n, err := c.FlushFDB(ctx, filter)
		if err != nil {
			return fmt.Errorf("%s: flush: %w", c.Instance(), err)
		}
		word := "entries"
		if n == 1 {
			word = "entry"
		}
		_, err = fmt.Fprintf(a.env.stdout, "%s: flushed %d %s\n", c.Instance(), n, word)
		return err
	})
	return cmd
}

func (a *app) pinCommand() *cobra.Command {
	var pin control.FDBPin
	cmd := &cobra.Command{
		Use:     "pin MAC PORT",
		Short:   "Pin an address to a port, whatever is learned later",
		Long:    "Pin an address to a port (a peer, or the TAP device), whatever is learned later, until the instance ends.",
		Example: "  tunctl -i office fdb pin 02:00:00:00:00:01 berlin --vlan 20",
		Args:    cobra.ExactArgs(2),
	}
	cmd.Flags().IntVar(&pin.VLAN, "vlan", 0, "in this VLAN (0: untagged)")
	cmd.RunE = a.do(func(cmd *cobra.Command, args []string) error {
		mac, err := control.CanonicalMAC(args[0])
		if err != nil {
			return exit.Usage("%v", err)
		}
		if err := control.CheckVLAN(pin.VLAN); err != nil {
			return exit.Usage("--vlan: %v", err)
		}
		pin.MAC, pin.Port = mac, args[1]
		c, err := a.client()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), control.AnswerTimeout)
		defer cancel()
		if err := c.PinFDB(ctx, pin); err != nil {
			return fmt.Errorf("%s: pin %s: %w", c.Instance(), mac, err)
		}
		_, err = fmt.Fprintf(a.env.stdout, "%s: pinned %s to %s\n", c.Instance(), mac, pin.Port)
		return err
	})
	return cmd
}
