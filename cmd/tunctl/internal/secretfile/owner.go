package secretfile

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// serviceUser is the user that the service runs as (packaging/sysusers.d/tund.conf).
const serviceUser = "tund"

// giveToService makes f, a new file with a secret at path, the service's when root makes it where
// the service has its files: in a directory of the service's group, as /etc/tund is. Elsewhere it
// stays with who made it.
func giveToService(f *os.File, path string) error {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	s, ok := dir.Sys().(*syscall.Stat_t)
	u, err := user.Lookup(serviceUser)
	if !ok || err != nil || os.Geteuid() != 0 || strconv.Itoa(int(s.Gid)) != u.Gid {
		return nil
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	return f.Chown(uid, int(s.Gid))
}

// keepOwner gives f the owner and group of an existing file. Who may not change them has a file of
// his own already.
func keepOwner(f *os.File, of fs.FileInfo) error {
	s, ok := of.Sys().(*syscall.Stat_t)
	if !ok || int(s.Uid) == os.Geteuid() && int(s.Gid) == os.Getegid() {
		return nil
	}
	return f.Chown(int(s.Uid), int(s.Gid))
}
