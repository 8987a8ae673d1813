package control

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// askAs sends one request on a connection made by a thread of another user, and returns the answer.
func askAs(t *testing.T, uid int, socket, request string) string {
	t.Helper()
	type result struct {
		text string
		err  error
	}
	answers := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine and its user
		// The raw call changes this thread alone; the library's changes them all.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			answers <- result{err: errno}
			return
		}
		conn, err := net.Dial("unix", socket)
		if err != nil {
			answers <- result{err: err}
			return
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, request); err != nil {
			answers <- result{err: err}
			return
		}
		text, err := io.ReadAll(conn)
		answers <- result{string(text), err}
	}()
	r := <-answers
	if r.err != nil {
		t.Fatalf("as uid %d: %v", uid, r.err)
	}
	return r.text
}

func TestServer_knowsStrangersByWhatTheKernelSays(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	s, _ := serve(t, &fakeBackend{level: "info"})
	// Open what normally keeps strangers out, so that only the verbs are left to guard.
	for path, mode := range map[string]os.FileMode{filepath.Dir(filepath.Dir(s.Path())): 0o755, filepath.Dir(s.Path()): 0o755, s.Path(): 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	const body = `{"level":"debug"}`
	read := "GET /v1/log-level HTTP/1.1\r\nHost: tund\r\nConnection: close\r\n\r\n"
	write := fmt.Sprintf("POST /v1/log-level HTTP/1.1\r\nHost: tund\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	for _, c := range []struct {
		uid           int
		request, want string
	}{
		{65534, read, "HTTP/1.1 200 OK"},
		{65534, write, "HTTP/1.1 403 Forbidden"},
		{0, write, "HTTP/1.1 200 OK"},
	} {
		got := askAs(t, c.uid, s.Path(), c.request)
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("uid %d, %.20q: got %q, want %s", c.uid, c.request, got, c.want)
		}
	}
}
