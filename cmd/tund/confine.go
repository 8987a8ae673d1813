package main

import (
	"path/filepath"
	"slices"

	"go.uber.org/zap"

	"tund/config"
	"tund/internal/confine"
	"tund/internal/rundir"
	"tund/internal/stamps"
	"tund/internal/uapi"
)

// filesOf is what a running instance still does with files: at a reload it reads its configuration
// and its keys again; it reads what Go needs to resolve a name; it makes and removes its sockets;
// it saves the timestamps of its peers; and it asks /proc who changed a route. /etc is one
// directory here because files in it are replaced by renaming, and a permission for the old file
// would be worth nothing for the new one.
func filesOf(c *config.Config) confine.Tree {
	t := confine.Tree{
		Read:   []string{"/etc", "/run", "/proc", "/sys"},
		Write:  []string{rundir.Path(), uapi.Dir, stamps.Dir(c.Instance)},
		Device: []string{"/dev/net/tun"},
	}
	if c.Metrics.Socket != "" {
		t.Write = append(t.Write, filepath.Dir(c.Metrics.Socket))
	}
	for _, file := range append([]string{c.Path, "/etc/resolv.conf"}, c.Files...) {
		t.Read = append(t.Read, confine.Around(file)...)
	}
	slices.Sort(t.Read) // ten thousand keys are usually in one directory
	t.Read = slices.Compact(t.Read)
	return t
}

// keepMemory keeps our memory, which holds keys, from other processes of the same user. All
// instances of the service run as one user.
func keepMemory(log *zap.Logger) {
	if err := confine.Undumpable(); err != nil {
		log.Warn("other processes of this user can read the memory of this process", zap.Error(err))
	}
}
