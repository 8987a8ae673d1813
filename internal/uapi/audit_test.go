package uapi

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// A change leaves one line that says who made it and what it was, without the key; a question and a
// request that is refused leave none.
func TestServer_logsWhoChangesWhat(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	s, err := Listen(Options{Dir: t.TempDir(), Device: "office", Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(&fake{})
	}()
	conn := dial(t, s.Path())
	key := strings.Repeat("ab", 32)
	say(t, conn, "get=1\n\n")
	say(t, conn, "set=1\nnonsense=1\n\n")
	say(t, conn, "set=1\nprivate_key="+key+"\nlisten_port=51820\nfwmark=7\nreplace_peers=true\npublic_key="+strings.Repeat("01", 32)+"\n\n")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-done
	lines := logs.FilterMessage("change by WireGuard's socket").All()
	if len(lines) != 1 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	f := lines[0].ContextMap()
	what := fmt.Sprint(f["what"])
	if f["uid"] != int64(os.Geteuid()) || f["pid"] != int64(os.Getpid()) || strings.Contains(what, key) ||
		!strings.HasPrefix(what, "[private key listen port 51820 fwmark 0x7 all peers 1 peers, the first AQEBAQEB") {
		t.Errorf("%v", f)
	}
}
