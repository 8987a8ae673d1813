package main

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"

	"tund/cmd/tunctl/internal/exit"
	"tund/internal/events"
	"tund/internal/screen/screentest"
)

// refusing is a standard output that cannot be written, as on a full disk.
type refusing struct{ err error }

func (r refusing) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "/dev/stdout", Err: r.err}
}

// A result that did not reach its file is no success, whichever verb it is of.
func TestRun_whatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.start(screentest.Office())
	f.events.Add(events.Event{Time: screentest.Noon(), Kind: events.Config, State: "reloaded", Message: "the configuration was read again"})
	hub := w.write("hub.toml", hub(newKey(t), newKey(t)))
	for _, line := range []string{
		"", "--help", "help peer", "status --help", "--json", "status branch-oslo", "top --count 1 --interval 100ms", "doctor --json", "fdb", "routes", "sources",
		"reload", "confirm", "log-level", "log-level debug", "ping branch-berlin -c 1", "fdb flush", "fdb pin 02:00:00:00:00:01 vm-host-3",
		"check " + hub, "export -c " + hub, "genkey", "genpsk", "version", "bench --list", "net", "completion bash", "peer", "dns",
		"monitor --after 0 --count 1", "--watch --count 1",
	} {
		for _, c := range []struct {
			err  error
			code int
			says string
		}{{syscall.ENOSPC, exit.Failed, "tunctl: write /dev/stdout: no space left on device\n"}, {syscall.EPIPE, exit.OK, ""}} {
			var errs bytes.Buffer
			if code := run(strings.Fields(line), w.environment(refusing{c.err}, &errs)); code != c.code || c.says != "" && !strings.HasSuffix(errs.String(), c.says) {
				t.Errorf("tunctl %s: %v: exit code %d, want %d; says %q", line, c.err, code, c.code, &errs)
			}
		}
	}
}
