package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/crypto/keys"
)

// A document that can be run consists of fenced blocks: files (toml, ini), commands (sh) and, right
// after some commands, what they print (text). The first line of a block says where it belongs:
//
//	# /etc/tund/office.toml at berlin      a file of the host berlin
//	# at berlin                            commands at the host berlin
//
// Commands without such a line run where the document begins.
type block struct {
	kind string // of the fence
	line int    // in the document
	text string
	host string // "": where the document begins
	file string // of a file
}

var (
	fileHead    = regexp.MustCompile(`^# (/\S+)(?: at ([a-z]+))?\n`)
	commandHead = regexp.MustCompile(`^# at ([a-z]+)\n`)
)

// blocks reads a document.
func blocks(t *testing.T, path string) []block {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []block
	var open *block
	for n, line := range strings.SplitAfter(string(text), "\n") {
		switch {
		case open == nil && strings.HasPrefix(line, "```"):
			open = &block{kind: strings.TrimSpace(strings.TrimPrefix(line, "```")), line: n + 1}
		case open == nil:
		case strings.HasPrefix(line, "```"):
			if m := fileHead.FindStringSubmatch(open.text); m != nil {
				open.file, open.host = m[1], m[2]
			} else if m := commandHead.FindStringSubmatch(open.text); m != nil {
				open.host = m[1]
			}
			list = append(list, *open)
			open = nil
		default:
			open.text += line
		}
	}
	return list
}

// shell is a bash that runs the commands of one host.
type shell struct {
	pid   int
	in    io.WriteCloser
	lines chan string
}

// sessionEnd precedes the exit code of what was run.
const sessionEnd = "--end-of-block--"

// newShell starts a bash by a command that ends in it. It is killed at the end of the test.
func newShell(t *testing.T, command ...string) *shell {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	// With a group of its own, so that what it has started in the background ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, outWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = outWrite, outWrite
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = outWrite.Close()
	s := &shell{pid: cmd.Process.Pid, in: in, lines: make(chan string, 1024)}
	go func() {
		defer close(s.lines)
		for r := bufio.NewScanner(out); r.Scan(); {
			s.lines <- r.Text()
		}
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		for range s.lines { // until everything that had the pipe is gone
		}
		_ = out.Close()
	})
	return s
}

// run executes commands and returns what they print and their exit code.
func (s *shell) run(ctx context.Context, commands string) (out string, code int, err error) {
	// In braces, so that bash reads all of it before it begins. A command that fails is noted, and
	// those behind it run all the same.
	if _, err := fmt.Fprintf(s.in, "failed=0; trap 'failed=$?' ERR; {\n%s\n} </dev/null; printf '\\n%s %%d\\n' $failed\n",
		commands, sessionEnd); err != nil {
		return "", 0, err
	}
	var b strings.Builder
	for {
		select {
		case <-ctx.Done():
			return b.String(), 0, ctx.Err()
		case line, ok := <-s.lines:
			if !ok {
				return b.String(), 0, errors.New("the shell has ended")
			}
			if rest, end := strings.CutPrefix(line, sessionEnd+" "); end {
				_, err := fmt.Sscan(rest, &code)
				return b.String(), code, err
			}
			b.WriteString(line + "\n")
		}
	}
}

var (
	anyKey   = regexp.MustCompile(`[A-Za-z0-9+/]{42,43}=`)
	anyMAC   = regexp.MustCompile(`\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b`)
	anySpace = regexp.MustCompile(`\s+`)
)

// plain is a line without what differs from run to run.
func plain(line string) string {
	line = anyKey.ReplaceAllString(line, "KEY")
	line = anyMAC.ReplaceAllString(line, "MAC")
	return strings.TrimSpace(anySpace.ReplaceAllString(line, " "))
}

// shows reports the first line of a documented output that the real one does not have, in order.
// An ellipsis stands for anything.
func shows(documented, real string) (missing string, ok bool) {
	lines := strings.Split(real, "\n")
	for want := range strings.Lines(documented) {
		want = plain(want)
		if strings.Trim(want, "… ") == "" {
			continue
		}
		parts := strings.Split(want, "…")
		found := false
		for len(lines) > 0 && !found {
			rest, all := plain(lines[0]), true
			for _, part := range parts {
				_, after, is := strings.Cut(rest, strings.TrimSpace(part))
				rest, all = after, all && is
			}
			found, lines = all, lines[1:]
		}
		if !found {
			return want, false
		}
	}
	return "", true
}

// documentLimit bounds one block, and settleLimit how long an output may differ from the documented
// one while hosts find each other.
const (
	documentLimit = 60 * time.Second
	settleLimit   = 30 * time.Second
)

// runDocument runs the blocks of a document in their order, in the shells of its hosts.
func runDocument(t *testing.T, path string, shells map[string]*shell) {
	t.Helper()
	list := blocks(t, path)
	ran := 0
	for n, b := range list {
		at := fmt.Sprintf("%s:%d", filepath.Base(path), b.line)
		s := shells[b.host]
		b.text = withKeys(t, b.text, shells)
		switch {
		case b.file != "" && s == nil:
			t.Fatalf("%s: there is no host %q", at, b.host)
		case b.file != "":
			if _, err := s.do(t, at, writeFile(b)); err != nil {
				t.Fatal(err)
			}
			continue
		case b.kind != "sh":
			continue
		case s == nil:
			t.Fatalf("%s: there is no host %q", at, b.host)
		}
		documented := ""
		if n+1 < len(list) && list[n+1].kind == "text" {
			documented = list[n+1].text
		}
		ran++
		deadline := time.Now().Add(settleLimit)
		for {
			out, err := s.do(t, at, b.text)
			missing, ok := shows(documented, out)
			if documented == "" && err == nil || documented != "" && ok {
				t.Logf("%s\n%s%s", at, b.text, out)
				break
			}
			if documented == "" || time.Now().After(deadline) || !harmless(b.text) {
				t.Fatalf("%s: %v; missing %q in the output of\n%s\n%s", at, err, missing, b.text, out)
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	if ran < 3 {
		t.Errorf("%s: only %d blocks of commands", path, ran)
	}
}

// harmless commands only look, and may be tried again.
func harmless(commands string) bool {
	for line := range strings.Lines(commands) {
		words := strings.Fields(strings.ReplaceAll(line, "sudo ", ""))
		if len(words) > 0 && words[0] != "#" && words[0] != "ping" && words[0] != "ip" && words[0] != "tunctl" && words[0] != "bin/tunctl" {
			return false
		}
	}
	return true
}

// do runs commands within documentLimit. A code other than 0 is an error.
func (s *shell) do(t *testing.T, at, commands string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), documentLimit)
	defer cancel()
	out, code, err := s.run(ctx, commands)
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", at, err, commands, out)
	}
	if code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	return out, err
}

// otherKey is a public key that nobody has.
const otherKey = "u9nUgsmGqrxT8Wd3DjTDFpY2vQnFLcc1E7Mr0f3nq1s="

var placeholder = regexp.MustCompile(`PutThePublicKeyOf(\w+?)Here0*=`)

// withKeys puts real public keys in place of placeholders: those of the key files in /etc/tund of
// the hosts that they name. In a file of wg-quick, an ellipsis stands for a key.
func withKeys(t *testing.T, text string, shells map[string]*shell) string {
	t.Helper()
	if strings.Contains(text, "Key = …") {
		k, err := keys.GeneratePrivate()
		if err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, "PrivateKey = …", "PrivateKey = "+k.Base64())
		text = strings.ReplaceAll(text, "PublicKey = …", "PublicKey = "+otherKey)
	}
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		host := strings.ToLower(placeholder.FindStringSubmatch(found)[1])
		if shells[host] == nil {
			t.Fatalf("%s names no host", found)
		}
		key, err := shells[host].do(t, host, "cat /etc/tund/*.key | head -n 1 | tunctl pubkey")
		if err != nil {
			t.Fatalf("the key of %s: %v\n%s", host, err, key)
		}
		return strings.TrimSpace(key)
	})
}

// writeFile is the command that writes a file.
func writeFile(b block) string {
	return fmt.Sprintf("mkdir -p %s && cat >%s <<'END-OF-FILE'\n%sEND-OF-FILE", filepath.Dir(b.file), b.file, b.text)
}
