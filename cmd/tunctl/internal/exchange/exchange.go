// Package exchange has the verbs of tunctl that translate between configurations of tund and files
// of wg-quick(8): import, export, and peer invite, which makes the file for a new peer.
//
// The translation is that of internal/wgquick and the codes are those of internal/qrcode: the verbs
// read, ask, refuse and hand over. No instance is needed, except that peer invite has a running one
// read its configuration again.
//
// One verb runs at a time.
package exchange

import (
	"context"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/secretfile"
	"tund/internal/screen"
)

// Verbs makes the verbs out of what they have from the rest of tunctl.
type Verbs struct {
	Streams *secretfile.Streams
	Width   int // of the terminal, in columns; 0: standard output is not one
	// Style returns how output may look. Its error is that of the command line.
	Style func() (screen.Style, error)
	// Do wraps what a verb does with what every verb needs.
	Do func(func(*cobra.Command, []string) error) func(*cobra.Command, []string) error
	// CompletePeer offers the names of peers.
	CompletePeer cobra.CompletionFunc
	// ConfigFlag adds the flag by which ConfigPath finds the configuration.
	ConfigFlag func(*cobra.Command)
	// ConfigPath returns the configuration that the verb is about.
	ConfigPath func(context.Context) (string, error)
	// Replace puts text in the place of the configuration at path, whose text is old, and says what
	// became of it.
	Replace func(ctx context.Context, path string, old, text []byte) (said string, err error)
}
