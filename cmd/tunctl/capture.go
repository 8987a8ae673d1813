package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/capture"
	"tund/internal/capture/filter"
	"tund/internal/control"
)

// capturing is how tunctl capture was called.
type capturing struct {
	write    string
	devices  []string
	snap     int
	count    int64
	maxSize  string
	duration time.Duration
	outer    bool
	keys     bool
	keylog   string
	rekey    bool
}

// wholePackets is the snap length that cuts nothing, in bytes.
const wholePackets = 65535

func (a *app) captureCommand() *cobra.Command {
	var c capturing
	cmd := &cobra.Command{
		Use:   "capture -w FILE [FILTER]",
		Short: "Copy packets inside the tunnel to a file or to Wireshark",
		Long: `Copy packets inside the tunnel, as they are before encryption and after decryption, to a pcapng file
or, with -w -, to a pipe. The comment of each packet names the peer, and why tund has dropped it if it has.
A filter says which packets: peer NAME, host ADDRESS, net CIDR, port N, proto P, in, out, dropped; joined by
and, or, not and parentheses. Only root may capture. The tunnel never waits for a capture: packets that it
does not take in time are missing in the file, and counted.`,
		Example: `  sudo tunctl capture -w office.pcapng                          until Ctrl-C
  sudo tunctl capture -w - | wireshark -k -i -                  watch
  sudo tunctl capture -w f -c 1000 -s 128 peer berlin and port 443
  sudo tunctl capture -w f --duration 1m dropped                what tund drops
  sudo tunctl capture -w f --outer --keys --rekey               with the datagrams, and their keys`,
		SuggestFor: []string{"dump", "tcpdump", "pcap", "sniff", "record"},
		RunE:       a.do(func(cmd *cobra.Command, args []string) error { return a.capture(cmd.Context(), c, args) }),
	}
	f := cmd.Flags()
	f.StringVarP(&c.write, "write", "w", "", "file to write, or - for a pipe (required)")
	f.StringSliceVarP(&c.devices, "device", "d", nil, "only these devices, separated by commas")
	f.IntVarP(&c.snap, "snap-length", "s", wholePackets, "bytes to copy of each packet")
	f.Int64VarP(&c.count, "count", "c", 0, "end after so many packets (0: never)")
	f.StringVar(&c.maxSize, "max-size", "", "end before the file is larger, as in 500M or 2G")
	f.DurationVar(&c.duration, "duration", 0, "end after this time, as in 30s or 5m (0: never)")
	f.BoolVar(&c.outer, "outer", false, "the datagrams that carry the tunnel as well")
	f.BoolVar(&c.keys, "keys", false, "put the keys of sessions into the file, so that Wireshark decrypts the datagrams (with --outer)")
	f.StringVar(&c.keylog, "keylog", "", "write the keys to this file instead, for Wireshark's wg.keylog_file (with --outer)")
	f.BoolVar(&c.rekey, "rekey", false, "make new sessions at the start, whose keys are known then (with --keys or --keylog)")
	return cmd
}

// check reports what is wrong with the flags and the filter, and returns the limits. Which peers
// there are is for the instance to know.
func (c *capturing) check(terminal bool, words []string) (l capture.Limits, err error) {
	if _, err := filter.Parse(strings.Join(words, " "), func(string) (filter.Key, bool) { return filter.Key{}, true }); err != nil {
		return l, exit.Usage("%v", err)
	}
	secrets := c.keys || c.keylog != ""
	switch {
	case c.write == "":
		return l, exit.Usage("where to? Give -w FILE, or for a pipe: tunctl capture -w - | wireshark -k -i -")
	case c.write == "-" && terminal:
		return l, exit.Usage("-w - is for a pipe, and this is a terminal: tunctl capture -w - | wireshark -k -i -")
	case c.count < 0:
		return l, exit.Usage("-c %d is less than 0", c.count)
	case c.duration < 0:
		return l, exit.Usage("--duration %v is less than 0", c.duration)
	case c.snap < 1:
		return l, exit.Usage("-s %d is less than 1", c.snap)
	case secrets && !c.outer:
		return l, exit.Usage("--keys and --keylog want --outer: keys decrypt datagrams")
	case c.rekey && !secrets:
		return l, exit.Usage("--rekey wants --keys or --keylog")
	case c.keys && c.keylog != "":
		return l, exit.Usage("--keys and --keylog: choose one of them")
	}
	l.Packets = c.count
	if c.maxSize != "" {
		if l.Bytes, err = capture.ParseSize(c.maxSize); err != nil {
			return l, exit.Usage("--max-size: %v", err)
		}
	}
	return l, nil
}

// capture copies packets of one instance until a limit is reached or somebody ends it.
func (a *app) capture(ctx context.Context, c capturing, words []string) error {
	limits, err := c.check(a.env.width > 0, words)
	if err != nil {
		return err
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	in, err := client.Capture(ctx, control.CaptureRequest{
		Devices: c.devices, Filter: strings.Join(words, " "), SnapLength: c.snap, Outer: c.outer,
		Secrets: c.keys || c.keylog != "", Rekey: c.rekey,
	})
	if err != nil {
		return err
	}
	defer in.Close()
	if c.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.duration)
		defer cancel()
	}
	defer context.AfterFunc(ctx, func() { _ = in.Close() })()
	return a.saveCapture(ctx, c, in, limits)
}

// saveCapture writes what comes from the daemon.
func (a *app) saveCapture(ctx context.Context, c capturing, in io.Reader, limits capture.Limits) error {
	to := capture.Output{Packets: a.env.stdout}
	if c.write != "-" {
		file, err := capture.Create(c.write)
		if err != nil {
			return err
		}
		defer file.Close()
		to.Packets = file
	}
	if c.keylog != "" {
		file, err := capture.Create(c.keylog)
		if err != nil {
			return err
		}
		defer file.Close()
		to.Keys = file
	}
	capture.Yield()
	done, err := capture.Save(in, to, limits, func() bool { return ctx.Err() != nil })
	if errors.Is(err, syscall.EPIPE) {
		return err // whoever watched has seen enough
	}
	least := ""
	if done.Behind {
		least = "at least "
	}
	fmt.Fprintf(a.env.stderr, "%d packets captured, %s%d lost because they were not taken in time\n", done.Packets, least, done.Lost)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return exit.Errorf(exit.Unreachable, "the instance ended the capture without a word (was it killed?): the file has what came before")
	}
	if err == nil && done.Ended != "" {
		err = fmt.Errorf("the capture ended early: %s", done.Ended)
	}
	return err
}
