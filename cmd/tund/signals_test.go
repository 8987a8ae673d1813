package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// envNoReader makes this test the process whose log nobody reads.
const envNoReader = "TUND_TEST_NO_READER"

func TestOutliveReaders_ofTheLog(t *testing.T) {
	t.Parallel()
	if os.Getenv(envNoReader) != "" {
		outliveReaders()
		if _, err := os.Stderr.WriteString("a line of the log\n"); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("somebody read it: %v", err)
		}
		return
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestOutliveReaders_ofTheLog$")
	cmd.Env, cmd.Stderr = append(os.Environ(), envNoReader+"=1"), writer
	if out, err := cmd.Output(); err != nil {
		t.Errorf("the process ended: %v\n%s", err, out)
	}
}

func TestExplained_saysWhatToDoWithoutDescriptors(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("open devices: %w", syscall.EMFILE)
	if text := explained(err); !strings.Contains(text, "open devices: too many open files: raise the limit") {
		t.Error(text)
	}
	if text := explained(syscall.ENOENT); text != syscall.ENOENT.Error() {
		t.Error(text)
	}
}
