package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopGrace is how long a daemon has between SIGTERM and SIGKILL.
const stopGrace = 3 * time.Second

// run runs one command to its end and returns what it printed. The error carries its complaint.
func run(ctx context.Context, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		complaint := strings.TrimSpace(stderr.String())
		if complaint == "" {
			complaint = lastLines(stdout.Bytes(), 5)
		}
		return stdout.Bytes(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, complaint)
	}
	return stdout.Bytes(), nil
}

// script runs commands, one a line, and stops at the first that fails.
func script(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		if _, err := run(ctx, strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// process is one daemon or server that runs beside the measurements.
type process struct {
	name string
	ns   string // where it runs
	log  string // path of what it printed
	cmd  *exec.Cmd
	done chan struct{} // closed once it ended
	once sync.Once
}

// spawn starts a program in namespace ns with its output in dir/name.log. The caller stops it.
func spawn(ns, dir, name string, env []string, argv ...string) (*process, error) {
	p := &process{name: name, ns: ns, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	logFile, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	argv = append(inside(ns), argv...)
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = logFile, logFile
	p.cmd.Env = append(os.Environ(), env...)
	// Whatever happens to this program, no daemon outlives it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // its status says nothing the log does not
		close(p.done)
	}()
	return p, nil
}

// pid is the daemon's own: `ip netns exec` becomes the program it starts.
func (p *process) pid() int { return p.cmd.Process.Pid }

// exited tells whether it ended by itself.
func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop ends it and waits until it is gone. Safe to call twice.
func (p *process) stop() {
	p.once.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
		select {
		case <-p.done:
			return
		case <-time.After(stopGrace):
		}
		_ = p.cmd.Process.Kill()
		<-p.done
	})
}

// failure tells what a daemon printed last.
func (p *process) failure(what string) error {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return fmt.Errorf("%s: %s", p.name, what)
	}
	return fmt.Errorf("%s: %s; it printed: %s", p.name, what, lastLines(text, 6))
}

// waitFor polls until ready says yes, a daemon ends or the time is up. pause is between two looks.
func waitFor(ctx context.Context, limit, pause time.Duration, what string, daemons []*process, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for !ready() {
		for _, d := range daemons {
			if d.exited() {
				return d.failure("ended while waiting for " + what)
			}
		}
		select {
		case <-ctx.Done():
			err := fmt.Errorf("no %s within %v", what, limit)
			for _, d := range daemons {
				err = errors.Join(err, d.failure("still running"))
			}
			return err
		case <-tick.C:
		}
	}
	return nil
}

func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, " | ")
}
