package main

import (
	"fmt"
	"os"
)

// workerCommand as the first argument makes this program one of its own workers inside a namespace.
const workerCommand = "worker"

// workerMain runs one worker. Its result goes to standard output as JSON, its complaint to standard error.
func workerMain(args []string) int {
	fmt.Fprintln(os.Stderr, "bench worker: there is no worker", args)
	return 2
}
