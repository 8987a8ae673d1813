package exchange

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/configfile"
	"tund/cmd/tunctl/internal/exit"
	"tund/cmd/tunctl/internal/secretfile"
	"tund/config"
	"tund/crypto/keys"
	"tund/internal/qrcode"
	"tund/internal/wgquick"
)

// clientFlags are what the file of a peer needs and our configuration does not say.
type clientFlags struct {
	endpoint  string
	allowed   []string
	dns       []string
	keepalive uint16
	keyFile   string

	qr    bool
	png   string
	out   string
	force bool
}

// add defines the flags that all verbs have which make such a file.
func (f *clientFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.endpoint, "endpoint", "", "where the peer calls us: HOST or HOST:PORT")
	flags.StringSliceVar(&f.allowed, "allowed-ips", nil, "what the peer sends to us, as in 0.0.0.0/0,::/0 (default: networks of our addresses)")
	flags.StringSliceVar(&f.dns, "dns", nil, "servers and search domains for the peer")
	flags.Uint16Var(&f.keepalive, "keepalive", 25, "PersistentKeepalive of the peer in seconds, 0: off")
	flags.BoolVar(&f.qr, "qr", false, "show a QR code in the terminal instead of the text")
	flags.StringVar(&f.png, "png", "", "write a QR code as PNG to this file, with mode 0600")
	flags.StringVarP(&f.out, "output", "o", "", "write to this file, with mode 0600 (default: standard output)")
	flags.BoolVar(&f.force, "force", false, "replace files that are there")
}

// Export returns the verb export, which writes a configuration as a file for wg-quick.
func (v *Verbs) Export() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "export [PEER]",
		Short: "Turn a configuration into a file for wg-quick, or a QR code",
		Long: `Turn a configuration into a file for wg-quick(8), with its keys. With PEER, make the file that the other end needs
to reach us: its addresses are those of its allowed_ips, its peer is us. The private key of the other end is known to it
alone; give it with --private-key-file, or add it to the file.

export reads the configuration and its key files, so it is for whoever may read those.`,
		Example: `  sudo tunctl export -c /etc/tund/wg0.toml -o /etc/wireguard/wg0.conf
  sudo tunctl -i office export phone --private-key-file phone.key --endpoint vpn.example.org --qr`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: v.CompletePeer,
	}
	v.ConfigFlag(cmd)
	f.add(cmd)
	cmd.Flags().StringVar(&f.keyFile, "private-key-file", "", "private key of PEER (- for standard input)")
	cmd.RunE = v.Do(func(cmd *cobra.Command, args []string) error {
		path, err := v.ConfigPath(cmd.Context())
		if err != nil {
			return err
		}
		c, err := configfile.Load(path)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			return v.exportOwn(cmd, path, c, &f)
		}
		return v.exportPeer(path, c, args[0], &f)
	})
	return cmd
}

// exportOwn writes our side.
func (v *Verbs) exportOwn(cmd *cobra.Command, path string, c *config.Config, f *clientFlags) error {
	for _, name := range []string{"endpoint", "allowed-ips", "dns", "keepalive", "private-key-file"} {
		if cmd.Flags().Changed(name) {
			return exit.Usage("--%s is for the file of a peer: name the peer", name)
		}
	}
	file, notes, err := wgquick.FromConfig(c)
	if err != nil {
		return err
	}
	if err := v.deliver(file, f); err != nil {
		return err
	}
	v.printNotes(path, notes)
	return nil
}

// exportPeer writes the side of one peer.
func (v *Verbs) exportPeer(path string, c *config.Config, wanted string, f *clientFlags) error {
	p, err := configfile.FindPeer(c, wanted)
	if err != nil {
		return err
	}
	client, err := f.client(c)
	if err != nil {
		return err
	}
	if f.keyFile != "" {
		if client.PrivateKey, err = v.readPrivateKey(f.keyFile); err != nil {
			return err
		}
		defer client.PrivateKey.Zero()
	}
	var notes []wgquick.Note
	if client.PrivateKey.IsZero() {
		if f.qr || f.png != "" {
			return exit.Usage("a QR code without the private key of %s is of no use: give it with --private-key-file", p.Name)
		}
		notes = append(notes, wgquick.Note{Text: fmt.Sprintf("only peer %s knows its private key: add it to the file, as PrivateKey in [Interface]", p.Name)})
	}
	if client.Endpoint.Host == "" && len(p.Endpoints) == 0 {
		notes = append(notes, wgquick.Note{Text: "without --endpoint the file does not say where to call us: add it as Endpoint in [Peer]"})
	}
	file, err := wgquick.ForPeer(c, p, client)
	if err != nil {
		return err
	}
	if err := v.deliver(file, f); err != nil {
		return err
	}
	v.printNotes(path, notes)
	return nil
}

// client turns the flags into values.
func (f *clientFlags) client(c *config.Config) (wgquick.Client, error) {
	client := wgquick.Client{DNS: f.dns, Keepalive: time.Duration(f.keepalive) * time.Second}
	for _, word := range f.allowed {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return client, exit.Usage("--allowed-ips: %q is not a network (want 10.20.0.0/16 or fd00::/64)", word)
		}
		client.AllowedIPs = append(client.AllowedIPs, p.Masked())
	}
	for _, word := range f.dns {
		if strings.ContainsAny(word, " \t\r\n#,=") || word == "" {
			return client, exit.Usage("--dns: %q is neither an address nor a domain", word)
		}
	}
	var err error
	client.Endpoint, err = ownEndpoint(f.endpoint, c)
	return client, err
}

// ownEndpoint reads where we are reached; without a port, it is that of the configuration.
func ownEndpoint(text string, c *config.Config) (config.Endpoint, error) {
	if text == "" {
		return config.Endpoint{}, nil
	}
	e, err := config.ParseEndpoint(text)
	if err == nil {
		return e, nil
	}
	if c.Tunnel.ListenPort == 0 {
		return e, exit.Usage("--endpoint: %v, and the configuration has no listen_port to take it from", err)
	}
	host := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	if a, aErr := netip.ParseAddr(host); aErr == nil && a.Is6() {
		host = "[" + host + "]"
	}
	e, again := config.ParseEndpoint(host + ":" + strconv.Itoa(int(c.Tunnel.ListenPort)))
	if again != nil {
		return e, exit.Usage("--endpoint: %v", err)
	}
	return e, nil
}

// deliver writes a finished file: as text, as a QR code in the terminal, as a QR code in a PNG.
func (v *Verbs) deliver(file *wgquick.File, f *clientFlags) error {
	d, err := v.render(file, f)
	if err != nil {
		return err
	}
	return d.write(v, f)
}

// delivery is a file in all the forms that were asked for; nil: not in this one.
type delivery struct{ text, terminal, picture []byte }

// render makes the forms of a file. What can fail without anything having been written fails here.
func (v *Verbs) render(file *wgquick.File, f *clientFlags) (d delivery, err error) {
	for _, path := range []string{f.out, f.png} {
		if _, err := os.Lstat(path); path != "" && err == nil && !f.force {
			return d, secretfile.AlreadyThere(path)
		}
	}
	text := file.Format()
	if f.png != "" {
		if d.picture, err = qrcode.PNG(text); err != nil {
			return d, undrawable(err)
		}
	}
	if f.qr {
		s, err := v.Style()
		if err != nil {
			return d, err
		}
		if d.terminal, err = qrcode.Text(text, s.UTF8, v.Width); err != nil {
			return d, undrawable(err)
		}
	}
	if f.out != "" || !f.qr && f.png == "" {
		d.text = []byte(text)
	}
	return d, nil
}

// undrawable adds what to do instead to the error of a code that cannot be drawn.
func undrawable(err error) error {
	switch {
	case errors.Is(err, qrcode.ErrTooLong):
		return fmt.Errorf("%w: write a file with -o, or give fewer allowed IPs", err)
	case errors.Is(err, qrcode.ErrTooWide):
		return fmt.Errorf("%w: widen it, or write a picture with --png FILE", err)
	}
	return err
}

// write puts each form where it belongs.
func (d *delivery) write(v *Verbs, f *clientFlags) error {
	if d.picture != nil {
		if err := secretfile.Write(f.png, d.picture, f.force); err != nil {
			return err
		}
	}
	if d.terminal != nil {
		v.Streams.Warn()
		if _, err := v.Streams.Out.Write(d.terminal); err != nil {
			return err
		}
	}
	if d.text != nil {
		return v.Streams.Write(f.out, d.text, f.force)
	}
	return nil
}

// readPrivateKey reads a key from a file, or from standard input for "-".
func (v *Verbs) readPrivateKey(path string) (keys.PrivateKey, error) {
	data, err := v.Streams.Read(path, secretfile.MaxKey)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return keys.PrivateKey{}, fmt.Errorf("--private-key-file: %w", err)
	}
	if err != nil {
		return keys.PrivateKey{}, err
	}
	key, err := keys.ParsePrivate(strings.TrimSpace(string(data)))
	if err != nil {
		return key, fmt.Errorf("--private-key-file: %s is not a private key: %w", path, err)
	}
	return key, nil
}
