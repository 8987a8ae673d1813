package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"tund/internal/registry/agent"
	"tund/internal/registry/agentfile"
)

// errClaimed is wrapped by the error of claim while another process publishes for the site.
var errClaimed = errors.New("a tund-agent runs")

// Whoever only looks whether an agent runs holds the lock for a moment, and is waited for.
const (
	claimTries = 10
	claimPause = 50 * time.Millisecond
)

// claim makes this process the only one that publishes for a site, until it ends.
func claim(dir string) (lock *os.File, err error) {
	for range claimTries {
		if lock, err = tryClaim(dir); !errors.Is(err, errClaimed) {
			return lock, err
		}
		time.Sleep(claimPause)
	}
	return nil, err
}

// tryClaim is one attempt. It locks the directory itself, which belongs to the user of the service
// whoever asks.
func tryClaim(dir string) (*os.File, error) {
	if err := makeStateDir(dir); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = fmt.Errorf("%w with the state in %s: stop it first", errClaimed, dir)
	case err != nil:
		err = &fs.PathError{Op: "flock", Path: dir, Err: err}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// leaveTimeout is how long a registry may take to answer when the site leaves.
const leaveTimeout = 30 * time.Second

// leave tells the other sites that this one leaves.
func leave(f *agentfile.File, stdout io.Writer) error {
	if _, err := os.Stat(filepath.Join(f.StateDir, keyName)); err != nil {
		return fmt.Errorf("the agent's key: %w", err) // a new one would not be that of the grant
	}
	lock, err := claim(f.StateDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	o, where, err := options(f, zap.NewNop())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err := agent.Leave(ctx, o); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s says that this site has left the network %s. Its tund still has its peers: stop it, too.\n", where, f.Trust.Network)
	return err
}
