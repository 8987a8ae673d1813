package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// envReady is how a process in the background knows the pipe on which to say that it is ready: the
// number of a descriptor.
const envReady = "TUND_READY_FD"

// readyWord is what it says then. Anything else is the reason why it is not.
const readyWord = "ready\n"

// executable is this program, also when its file was replaced meanwhile.
const executable = "/proc/self/exe"

// background runs this command line once more, in a process of its own, and waits until that is
// ready. Go cannot fork (its other threads would stay behind), so the program is executed again.
func background(stderr io.Writer) int {
	said, code, err := startBackground()
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "tund: start in the background: %v\n", err)
		return exitFailure
	case said == readyWord:
		return exitOK
	case said == "":
		fmt.Fprintf(stderr, "tund: %v (exit code %d)\n", errNoWord, code)
	default:
		fmt.Fprintf(stderr, "tund: %s\n", said)
	}
	if code == exitOK {
		return exitFailure
	}
	return code
}

// startBackground returns what the process said, and, unless that was readyWord, its exit code.
func startBackground() (said string, code int, err error) {
	ready, say, err := os.Pipe()
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = ready.Close() }()
	cmd := &exec.Cmd{
		Path: executable, Args: os.Args, Env: append(os.Environ(), envForeground+"=1"), Dir: "/",
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if keepsOutput() {
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	}
	// Descriptors after standard error keep their order, not their numbers.
	pass := func(name string, file *os.File) {
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
		cmd.Env = append(cmd.Env, name+"="+strconv.Itoa(2+len(cmd.ExtraFiles)))
	}
	pass(envReady, say)
	for _, name := range []string{envTun, envSocket} {
		fd, err := descriptor(name)
		if err != nil {
			return "", 0, err
		}
		if fd >= 0 {
			pass(name, os.NewFile(uintptr(fd), name))
		}
	}
	err = cmd.Start()
	_ = say.Close() // ours; the end of the process is now the end of the pipe
	if err != nil {
		return "", 0, err
	}
	words, err := io.ReadAll(ready)
	if err != nil || string(words) == readyWord {
		return string(words), 0, err
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	return strings.TrimSpace(string(words)), code, nil
}

// keepsOutput reports whether the process in the background writes its log to where this one does:
// when LOG_LEVEL asks for it, as with wireguard-go (a caller that reads our output to its end then
// waits for that process, too), and when it goes to systemd's journal, which waits for nobody.
func keepsOutput() bool {
	if level := os.Getenv(envLogLevel); level != "" && wireguardLevel(level) != "" {
		return true
	}
	return toJournal(2)
}

// readiness returns the function with which this process tells whoever waits for it that it is
// ready, or why not. It says one thing only. In the foreground nobody waits.
func readiness() func(error) {
	fd, err := descriptor(envReady)
	_ = os.Unsetenv(envReady)
	if err != nil || fd < 0 {
		return func(error) {}
	}
	syscall.CloseOnExec(fd)
	pipe := os.NewFile(uintptr(fd), "ready")
	var once sync.Once
	return func(err error) {
		once.Do(func() {
			word := readyWord
			if err != nil {
				word = err.Error()
			}
			_, _ = io.WriteString(pipe, word)
			_ = pipe.Close()
		})
	}
}
