package linkbench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tund/crypto/keys"
)

// versionOf asks a tund for its version; "" if it does not answer.
func versionOf(ctx context.Context, path string) string {
	if path == "" {
		return ""
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(string(out)), "tund "))
}

const (
	// tundPort is the UDP port of both ends.
	tundPort = 51820
	// startLimit bounds how long a tund may take until its device has its address, and stopLimit
	// how long it may take to stop.
	startLimit = 10 * time.Second
	stopLimit  = 5 * time.Second
	startPause = 10 * time.Millisecond
)

// tundEnd is one of two tunds.
type tundEnd struct {
	s        *space
	name     string
	key      keys.PrivateKey
	underlay netip.Prefix
	at       netip.Prefix
}

// tunds builds two hosts with a tund each, whose devices have the addresses of the flow.
func tunds(tap bool) func(context.Context, *stage) error {
	return func(ctx context.Context, st *stage) error {
		if st.tund == "" {
			return errors.New("no program tund was found beside tunctl or in the PATH (name one with --tund)")
		}
		a, b, err := st.hosts(true)
		if err != nil {
			return err
		}
		ends := [2]tundEnd{{s: a, name: "left", underlay: leftWire, at: left}, {s: b, name: "right", underlay: rightWire, at: right}}
		for n := range ends {
			if ends[n].key, err = keys.GeneratePrivate(); err != nil {
				return fmt.Errorf("make a key: %w", err)
			}
		}
		for n := range ends {
			if err := st.startTund(ctx, ends[n], ends[1-n], tap); err != nil {
				return err
			}
		}
		st.flow(a, above, b, right.Addr())
		return nil
	}
}

// configuration of one end. Everything is left at its default but the device's name, which the
// stage has to know.
func (e tundEnd) configuration(other tundEnd, tap bool) string {
	section, carries := "tun", fmt.Sprintf("allowed_ips = [\"%v/32\"]", other.at.Addr())
	if tap {
		section, carries = "tap", "ethernet = true"
	}
	return fmt.Sprintf(`[tunnel]
private_key = "%s"
listen_port = %d
[%s]
device = "%s"
address = ["%v"]
[[peer]]
name = "%s"
public_key = "%v"
endpoint = "%v:%d"
%s
`, e.key.Base64(), tundPort, section, above, e.at, other.name, other.key.Public(), other.underlay.Addr(), tundPort, carries)
}

// startTund starts one end and waits for its device.
func (st *stage) startTund(ctx context.Context, e, other tundEnd, tap bool) error {
	dir := filepath.Join(st.dir, e.name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("start tund: %w", err)
	}
	st.later(func() { _ = os.RemoveAll(dir) }) // what is left is removed with the directory above
	config, journal := filepath.Join(dir, "bench.toml"), filepath.Join(dir, "log")
	if err := os.WriteFile(config, []byte(e.configuration(other, tap)), 0o600); err != nil {
		return fmt.Errorf("start tund: %w", err)
	}
	output, err := os.Create(journal)
	if err != nil {
		return fmt.Errorf("start tund: %w", err)
	}
	defer func() { _ = output.Close() }()
	cmd := exec.Command(st.tund, "-c", config, "--log-level", "warn")
	cmd.Env = append(os.Environ(), "TUND_RUN_DIR="+filepath.Join(dir, "run"), "TUND_STATE_DIR="+filepath.Join(dir, "state"))
	cmd.Stdout, cmd.Stderr = output, output
	// It ends with the thread that starts it, and thus with us, however we end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := e.s.do(cmd.Start); err != nil {
		return fmt.Errorf("start tund: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is in its log
	}()
	st.later(func() { stop(cmd.Process, ended) })
	tick := time.NewTicker(startPause)
	defer tick.Stop()
	limit := time.After(startLimit)
	for !e.s.has(above, e.at.Addr()) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return fmt.Errorf("tund has ended: %s", lastLine(journal))
		case <-limit:
			return fmt.Errorf("tund did not create the device %s within %v: %s", above, startLimit, lastLine(journal))
		case <-tick.C:
		}
	}
	return nil
}

// stop ends a process, at first politely.
func stop(p *os.Process, ended <-chan struct{}) {
	_ = p.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-ended:
	case <-time.After(stopLimit):
		_ = p.Kill()
		<-ended
	}
}

// has reports whether a device is up and has an address.
func (s *space) has(device string, at netip.Addr) bool {
	l, err := s.links.LinkByName(device)
	if err != nil || l.Attrs().Flags&net.FlagUp == 0 {
		return false
	}
	list, err := s.links.AddrList(l, syscall.AF_INET)
	if err != nil {
		return false
	}
	for _, a := range list {
		if a.IP.Equal(at.AsSlice()) {
			return true
		}
	}
	return false
}

// lastLine is what a program said last.
func lastLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return "it said nothing"
}
