package exchange

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/configfile"
	"tund/cmd/tunctl/internal/exit"
	"tund/cmd/tunctl/internal/secretfile"
	"tund/config"
	"tund/crypto/keys"
	"tund/internal/tomledit"
	"tund/internal/wgquick"
)

// Invite returns the verb invite, which adds a peer and makes the file that the peer needs.
func (v *Verbs) Invite() *cobra.Command {
	var f clientFlags
	var addresses []string
	var psk bool
	cmd := &cobra.Command{
		Use:   "invite NAME",
		Short: "Add a peer and make the file, or QR code, that it needs",
		Long: `Add a peer and make the file that it needs: keys for it, a preshared key, and the next free address of each network
in [tun] address. The peer is added to the end of the configuration, whose comments stay, and a running instance reads
it again. The file of the peer is for wg-quick(8) and the WireGuard apps; its private key is shown this once and kept
nowhere.`,
		Example: `  sudo tunctl -i office peer invite phone --endpoint vpn.example.org --qr
  sudo tunctl -i office peer invite laptop --endpoint vpn.example.org --allowed-ips 0.0.0.0/0,::/0 --dns 10.9.0.1 -o laptop.conf`,
		Args: cobra.ExactArgs(1),
	}
	v.ConfigFlag(cmd)
	f.add(cmd)
	cmd.Flags().StringSliceVar(&addresses, "address", nil, "addresses for the peer (default: the next free ones)")
	cmd.Flags().BoolVar(&psk, "preshared-key", true, "a preshared key besides, in the file NAME.psk beside the configuration")
	cmd.RunE = v.Do(func(cmd *cobra.Command, args []string) error {
		if f.endpoint == "" {
			return exit.Usage("--endpoint: give the name or address, and port, at which the peer reaches us")
		}
		path, err := v.ConfigPath(cmd.Context())
		if err != nil {
			return err
		}
		i := invitation{verbs: v, path: path, name: args[0], flags: &f}
		if err := i.prepare(addresses, psk); err != nil {
			return err
		}
		return i.carryOut(cmd.Context())
	})
	return cmd
}

// invitation is a peer on its way into a configuration.
type invitation struct {
	verbs      *Verbs
	path, name string
	flags      *clientFlags

	old, text []byte // of the configuration
	pskPath   string // "": no preshared key
	psk       keys.PresharedKey
	addresses []netip.Prefix
	delivery  delivery
}

// prepare makes everything and writes nothing.
func (i *invitation) prepare(addresses []string, psk bool) error {
	old, c, err := configfile.Read(i.path)
	if err != nil {
		return err
	}
	i.old = old
	if slices.ContainsFunc(c.Peers, func(p config.Peer) bool { return p.Name == i.name }) {
		return exit.Errorf(exit.Failed, "peer %q exists already: choose another name, or remove it first", i.name)
	}
	client, err := i.flags.client(c)
	if err != nil {
		return err
	}
	if i.addresses, err = inviteAddresses(c, addresses); err != nil {
		return err
	}
	if client.PrivateKey, err = keys.GeneratePrivate(); err != nil {
		return err
	}
	defer client.PrivateKey.Zero()
	peer := wgquick.Peer{Name: i.name, PublicKey: client.PrivateKey.Public(), AllowedIPs: i.addresses}
	file := ""
	if psk {
		if i.psk, err = keys.GeneratePreshared(); err != nil {
			return err
		}
		file = i.name + ".psk"
		i.pskPath = filepath.Join(filepath.Dir(i.path), file)
	}
	i.text = tomledit.Append(i.old, peer.TOML(file))
	return i.render(c, peer, client)
}

// render makes the peer's file out of the configuration as it will be.
func (i *invitation) render(c *config.Config, peer wgquick.Peer, client wgquick.Client) error {
	// The file of the preshared key does not exist yet.
	with := tomledit.Append(i.old, peer.TOML(""))
	next, err := config.Parse(i.path, with)
	if err != nil {
		return configfile.Refused(c.Path, err)
	}
	invited := next.Peers[len(next.Peers)-1]
	invited.PresharedKey = i.psk
	file, err := wgquick.ForPeer(next, &invited, client)
	if err != nil {
		return err
	}
	i.delivery, err = i.verbs.render(file, i.flags)
	return err
}

// carryOut adds the peer and hands over its file. When the configuration cannot be changed, nothing
// is left behind.
func (i *invitation) carryOut(ctx context.Context) error {
	if i.pskPath != "" {
		if err := secretfile.Write(i.pskPath, []byte(i.psk.Base64()+"\n"), false); err != nil {
			return err
		}
	}
	said, err := i.verbs.Replace(ctx, i.path, i.old, i.text)
	if err != nil {
		if i.pskPath != "" {
			err = errors.Join(err, os.Remove(i.pskPath))
		}
		return err
	}
	fmt.Fprintf(i.verbs.Streams.Err, "tunctl: peer %q with %s added to %s: %s\n", i.name, prefixes(i.addresses), i.path, said)
	if err := i.delivery.write(i.verbs, i.flags); err != nil {
		// Whoever has closed the pipe does not have the file either, so this is a failure, too.
		return exit.Errorf(exit.Failed, "%s: peer %q is there, but its file is lost (remove the peer and invite it again): %v", i.path, i.name, err)
	}
	return nil
}

// inviteAddresses reads the addresses given for a peer, or finds free ones.
func inviteAddresses(c *config.Config, given []string) ([]netip.Prefix, error) {
	if len(given) == 0 {
		return wgquick.NextAddresses(c)
	}
	var list []netip.Prefix
	for _, word := range given {
		address, _, _ := strings.Cut(word, "/")
		addr, err := netip.ParseAddr(address)
		if err != nil || addr.Zone() != "" {
			return nil, exit.Usage("--address: %q is not an address (want 10.9.0.17 or fd09::17)", word)
		}
		list = append(list, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
	}
	return list, nil
}

func prefixes(list []netip.Prefix) string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = p.String()
	}
	return strings.Join(words, ", ")
}
