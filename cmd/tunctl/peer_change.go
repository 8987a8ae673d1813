package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/choose"
	"tund/cmd/tunctl/internal/configfile"
	"tund/cmd/tunctl/internal/exit"
	"tund/cmd/tunctl/internal/secretfile"
	"tund/config"
	"tund/crypto/keys"
	"tund/internal/control"
	"tund/internal/tomledit"
)

// peerFlags are the flags for a peer that are no peerKeys, and whether to write the change to the
// configuration.
type peerFlags struct {
	name, publicKey, pskFile string
	save                     bool
}

func (a *app) saveFlags(cmd *cobra.Command, f *peerFlags) {
	a.configFlag(cmd)
	cmd.Flags().BoolVar(&f.save, "save", false, "write the change to the configuration, where it survives reloads and restarts")
}

func (f *peerFlags) add(cmd *cobra.Command) {
	addPeerKeys(cmd)
	cmd.Flags().StringVar(&f.pskFile, "preshared-key-file", "", `file with the preshared key; "" for none`)
}

func (a *app) peerAddCommand() *cobra.Command {
	var f peerFlags
	cmd := &cobra.Command{
		Use:   "add NAME --public-key KEY",
		Short: "Add a peer",
		Long: `Add a peer, with its routes. Without --save it stays until the instance is restarted; with --save it is written to the
end of the configuration, which a running instance reads again. See also: peer invite.`,
		Example:    "  sudo tunctl -i office peer add berlin --public-key … --endpoint berlin.example.org:51820 --allowed-ips 10.20.0.0/16 --save",
		SuggestFor: []string{"new", "create"},
		Args:       cobra.ExactArgs(1),
	}
	f.add(cmd)
	a.saveFlags(cmd, &f)
	cmd.Flags().StringVar(&f.publicKey, "public-key", "", "public key of the peer")
	cmd.RunE = a.do(func(cmd *cobra.Command, args []string) error {
		if f.publicKey == "" {
			return exit.Usage("--public-key: give the one that `tunctl pubkey` prints at the peer")
		}
		f.name = args[0]
		return a.changePeer(cmd, "add", "", &f)
	})
	return cmd
}

func (a *app) peerSetCommand() *cobra.Command {
	var f peerFlags
	cmd := &cobra.Command{
		Use:   "set PEER",
		Short: "Change a peer",
		Long: `Change the settings of a peer that flags are given for, and its routes. A list replaces the old one. Without --save, a
change of a peer of the configuration lasts until the next reload; with --save it is written to the configuration.`,
		Example:           "  sudo tunctl -i office peer set berlin --keepalive 25 --allowed-ips 10.20.0.0/16,10.21.0.0/16",
		SuggestFor:        []string{"edit", "change", "modify", "update"},
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completePeer,
	}
	f.add(cmd)
	a.saveFlags(cmd, &f)
	cmd.Flags().StringVar(&f.name, "name", "", "new name of the peer")
	cmd.RunE = a.do(func(cmd *cobra.Command, args []string) error { return a.changePeer(cmd, "set", args[0], &f) })
	return cmd
}

func (a *app) peerRemoveCommand() *cobra.Command {
	var f peerFlags
	cmd := &cobra.Command{
		Use:   "remove PEER",
		Short: "Remove a peer",
		Long: `Remove a peer, with its routes. Without --save, a peer of the configuration comes back with the next reload; with --save
it is removed from the configuration, with the comments right above it. A file with its preshared key stays.`,
		SuggestFor:        []string{"rm", "del", "delete"},
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completePeer,
	}
	a.saveFlags(cmd, &f)
	cmd.RunE = a.do(func(cmd *cobra.Command, args []string) error { return a.changePeer(cmd, "remove", args[0], &f) })
	return cmd
}

// setting is a key of [[peer]] and its new value, which is nil where the key is to go.
type setting struct {
	key   string
	value any
}

// settings are those of the flags that were given, in the order of a file.
func (f *peerFlags) settings(cmd *cobra.Command) ([]setting, error) {
	var list []setting
	given := cmd.Flags().Changed
	if f.name != "" {
		list = append(list, setting{"name", f.name})
	}
	if f.publicKey != "" {
		list = append(list, setting{"public_key", f.publicKey})
	}
	if given("preshared-key-file") && f.pskFile == "" {
		list = append(list, setting{"preshared_key_file", nil}, setting{"preshared_key", nil})
	} else if f.pskFile != "" {
		path, err := filepath.Abs(f.pskFile)
		if err != nil {
			return nil, err
		}
		list = append(list, setting{"preshared_key", nil}, setting{"preshared_key_file", path})
	}
	more, err := givenPeerKeys(cmd)
	if err != nil {
		return nil, err
	}
	if list = append(list, more...); len(list) == 0 && cmd.Name() == "set" {
		return nil, exit.Usage("nothing to change: see tunctl peer set --help")
	}
	return list, nil
}

// changePeer makes a change at the running instance, or in its configuration.
func (a *app) changePeer(cmd *cobra.Command, op, wanted string, f *peerFlags) error {
	list, err := f.settings(cmd)
	if err != nil {
		return err
	}
	if f.save {
		return a.savePeer(cmd.Context(), op, wanted, list)
	}
	if a.config != "" {
		return exit.Usage("--config is for --save: without it a running instance is changed, and no file")
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	change := control.PeerChange{Op: op, Values: make(map[string]any)}
	name := f.name
	if op != "add" {
		if change.Peer, name, err = runningPeer(cmd.Context(), c, wanted); err != nil {
			return err
		}
	}
	for _, s := range list {
		// The daemon need not be able to read it.
		if s.key == "preshared_key_file" && s.value != nil {
			if s, err = pskOf(s.value.(string)); err != nil {
				return err
			}
		} else if s.key == "preshared_key_file" || s.key == "preshared_key" && f.pskFile != "" {
			continue
		}
		change.Values[s.key] = s.value
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), control.ReloadTimeout)
	defer cancel()
	if err := c.ChangePeer(ctx, change); err != nil {
		return fmt.Errorf("%s: peer %s: %w", c.Instance(), op, err)
	}
	_, err = fmt.Fprintf(a.env.stdout, "%s: peer %s %s, in force now; a reload or restart returns to the configuration (--save writes it there)\n",
		c.Instance(), name, done[op])
	return err
}

// done is what became of a peer.
var done = map[string]string{"add": "added", "set": "changed", "remove": "removed"}

// runningPeer finds a peer of a running instance by name, public key, or the beginning of either.
func runningPeer(ctx context.Context, c *control.Client, wanted string) (key, name string, err error) {
	ctx, cancel := context.WithTimeout(ctx, control.AnswerTimeout)
	defer cancel()
	s, err := c.Status(ctx)
	if err != nil {
		return "", "", err
	}
	found, err := choose.Peer(s.Instances, wanted)
	if err != nil {
		return "", "", err
	}
	p := found[0].Peers[0]
	return p.PublicKey, p.Name, nil
}

// pskOf reads a preshared key.
func pskOf(path string) (setting, error) {
	data, err := secretfile.Read(path, secretfile.MaxKey)
	if err != nil {
		return setting{}, err
	}
	k, err := keys.ParsePreshared(strings.TrimSpace(string(data)))
	if err != nil {
		return setting{}, fmt.Errorf("--preshared-key-file: %s: %w", path, err)
	}
	return setting{"preshared_key", k.Base64()}, nil
}

// savePeer makes a change in the configuration.
func (a *app) savePeer(ctx context.Context, op, wanted string, list []setting) error {
	path, err := a.configPath(ctx)
	if err != nil {
		return err
	}
	old, c, err := configfile.Read(path)
	if err != nil {
		return err
	}
	var text []byte
	var name string
	if op == "add" {
		name, _ = list[0].value.(string)
		text = tomledit.Append(old, peerSection(list))
	} else {
		p, err := configfile.FindPeer(c, wanted)
		if err != nil {
			return err
		}
		name = p.Name
		number := slices.IndexFunc(c.Peers, func(q config.Peer) bool { return q.PublicKey == p.PublicKey })
		if text, err = editPeer(old, op, number, withoutFrames(list)); errors.Is(err, tomledit.ErrNoTable) {
			return exit.Errorf(exit.Failed, "%s: peer %s has no [[peer]] section of its own: change it by hand", path, name)
		} else if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	said, err := a.finder().Replace(ctx, path, old, text)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.env.stdout, "%s: peer %s %s, %s\n", path, name, done[op], said)
	return err
}

// peerSection is a new [[peer]].
func peerSection(list []setting) string {
	width := 0
	for _, s := range list {
		width = max(width, len(s.key))
	}
	var b strings.Builder
	b.WriteString("[[peer]]\n")
	for _, s := range list {
		if s.value != nil {
			fmt.Fprintf(&b, "%-*s = %s\n", width, s.key, tomlValue(s.value))
		}
	}
	return b.String()
}

// editPeer changes or removes the peer of that number (from 0) in a configuration.
func editPeer(doc []byte, op string, number int, list []setting) ([]byte, error) {
	if op == "remove" {
		return tomledit.Remove(doc, "peer", number)
	}
	var err error
	for _, s := range list {
		if s.value == nil {
			doc, err = tomledit.Delete(doc, "peer", number, s.key)
		} else {
			doc, err = tomledit.Set(doc, "peer", number, s.key, tomlValue(s.value))
		}
		if err != nil {
			return nil, err
		}
	}
	return doc, nil
}
