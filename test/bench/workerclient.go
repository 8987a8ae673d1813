package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// worker is this program running inside a namespace, seen from outside.
type worker struct {
	name    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies *json.Decoder
	stderr  bytes.Buffer
}

// startWorker runs a worker in namespace ns. The caller stops it.
func (m *measurement) startWorker(ns, name, argument string) (*worker, error) {
	argv := append(inside(ns), m.exe, workerCommand, name, argument)
	w := &worker{name: name, cmd: exec.Command(argv[0], argv[1:]...)}
	w.cmd.Stderr = &w.stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.in, w.replies = in, json.NewDecoder(out)
	return w, w.cmd.Start()
}

// ask sends a request and waits for its reply. When ctx ends the worker is killed.
func (w *worker) ask(ctx context.Context, request, reply any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = w.cmd.Process.Kill() })()
	if _, err = w.in.Write(text); err == nil {
		err = w.replies.Decode(reply)
	}
	if err != nil {
		_ = w.cmd.Process.Kill() // so that its complaint is complete
		_ = w.cmd.Wait()
		return fmt.Errorf("worker %s: %w: %s", w.name, err, lastLines(w.stderr.Bytes(), 3))
	}
	return nil
}

// stop ends the worker.
func (w *worker) stop() {
	_ = w.in.Close()
	ended := time.AfterFunc(stopGrace, func() { _ = w.cmd.Process.Kill() })
	defer ended.Stop()
	_ = w.cmd.Wait() // what it had to say came as replies
}
