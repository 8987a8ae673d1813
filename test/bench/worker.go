package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// workerCommand as the first argument makes this program one of its own workers inside a namespace.
const workerCommand = "worker"

// workerMain runs one worker until its standard input ends. Requests come in and replies go out as
// JSON values, one reply a request; complaints go to standard error and end it.
func workerMain(args []string) int {
	err := errors.New("which worker?")
	if len(args) == 2 {
		switch args[0] {
		case "udp-receive":
			err = serveReceiver(args[1], os.Stdin, os.Stdout)
		case "udp-send":
			err = serveSender(args[1], os.Stdin, os.Stdout)
		case "echo":
			err = serveEcho(args[1], os.Stdin)
		case "ping":
			err = servePinger(args[1], os.Stdin, os.Stdout)
		case "handshakes":
			err = serveHandshakes(args[1], os.Stdin, os.Stdout)
		default:
			err = fmt.Errorf("there is no worker %q", args[0])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench worker:", err)
		return 1
	}
	return 0
}

// serve answers requests until in ends.
func serve[Request, Reply any](in io.Reader, out io.Writer, answer func(Request) (Reply, error)) error {
	requests, replies := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q Request
		if err := requests.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		r, err := answer(q)
		if err != nil {
			return err
		}
		if err := replies.Encode(r); err != nil {
			return err
		}
	}
}
