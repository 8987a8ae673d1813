package exchange

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/config"
	"tund/internal/screen"
	"tund/internal/wgquick"
)

// Import returns the verb import, which turns a file for wg-quick into a configuration.
func (v *Verbs) Import() *cobra.Command {
	var out string
	var force bool
	cmd := &cobra.Command{
		Use:   "import FILE.conf",
		Short: "Turn a file of wg-quick into a configuration",
		Long: `Turn a file of wg-quick(8) or wg(8) into a configuration of tund, with all of its peers, keys included. What
tund has no counterpart for (hooks, SaveConfig, unknown keys) is reported on standard error, with what to do
about it. The file is not changed, and nothing is started. FILE may be - for standard input.`,
		Example: `  sudo tunctl import /etc/wireguard/wg0.conf -o /etc/tund/wg0.toml
  sudo wg showconf wg0 | tunctl import -`,
		Args: cobra.ExactArgs(1),
		RunE: v.Do(func(_ *cobra.Command, args []string) error { return v.importFile(args[0], out, force) }),
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write to this file, with mode 0600 (default: standard output)")
	cmd.Flags().BoolVar(&force, "force", false, "replace the file of --output if it is there")
	return cmd
}

// importFile translates one file. Notes go to standard error, so that the configuration can be
// piped on.
func (v *Verbs) importFile(path, out string, force bool) error {
	data, err := v.Streams.Read(path, wgquick.MaxSize)
	if errors.Is(err, fs.ErrNotExist) { // as `tund --check` and `tunctl check` have it
		return exit.Errorf(exit.Config, "%v", err)
	}
	if err != nil {
		return err
	}
	name, device := "standard input", "wg0"
	if path != "-" {
		name, device = path, strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	if out != "" {
		device = strings.TrimSuffix(filepath.Base(out), ".toml")
	}
	file, notes, faults := wgquick.Parse(string(data), device)
	if len(faults) > 0 {
		lines := make([]string, len(faults))
		for i, f := range faults {
			lines[i] = name + ":" + f.Error()
			if f.Line == 0 {
				lines[i] = name + ": " + f.Error()
			}
		}
		return exit.Errorf(exit.Config, "the file has errors; nothing was imported:\n%s", strings.Join(lines, "\n"))
	}
	text := file.TOML(device + ".key")
	if file.PrivateKeyFile == "" && !file.PrivateKey.IsZero() {
		more, err := checkImported(text, out)
		if err != nil {
			return exit.Errorf(exit.Config, "%s: not a valid configuration for tund; nothing was imported:\n%v", name, err)
		}
		notes = append(notes, more...)
	}
	if err := v.Streams.Write(out, []byte(text), force); err != nil {
		return err
	}
	v.printNotes(name, notes)
	if out != "" {
		_, err = fmt.Fprintf(v.Streams.Out, "%s: %s\n", out, screen.Plural(len(file.Peers), "peer"))
	}
	return err
}

// checkImported reads a new configuration as tund will, from the file that it is for: its name is
// that of the instance, and of the device. Places in it are of no use to whoever has not seen it
// yet.
func checkImported(text, out string) ([]wgquick.Note, error) {
	path := "imported.toml"
	if out != "" {
		path = filepath.Base(out)
	}
	c, err := config.Parse(path, []byte(text))
	if faults, ok := err.(config.Errors); ok {
		lines := make([]string, len(faults))
		for i, f := range faults {
			lines[i] = f.Msg
		}
		return nil, fmt.Errorf("%s", strings.Join(lines, "\n"))
	}
	if err != nil {
		return nil, err
	}
	var notes []wgquick.Note
	for _, w := range c.Warnings {
		notes = append(notes, wgquick.Note{Text: w.Msg})
	}
	return notes, nil
}

// printNotes writes what did not come along to standard error.
func (v *Verbs) printNotes(name string, notes []wgquick.Note) {
	s := screen.Style{UTF8: true}
	for _, n := range notes {
		for i, line := range strings.Split(n.String(), "\n") {
			if i == 0 {
				line = name + ":" + line
				if n.Line == 0 {
					line = name + ": " + n.String()
					line, _, _ = strings.Cut(line, "\n")
				}
			}
			fmt.Fprintln(v.Streams.Err, s.Clean(line))
		}
	}
}
