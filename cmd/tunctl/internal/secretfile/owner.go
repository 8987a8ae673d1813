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
	_, gid := owner(dir)
	u, err := user.Lookup(serviceUser)
	if err != nil || os.Geteuid() != 0 || strconv.Itoa(gid) != u.Gid {
		return nil
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	return f.Chown(uid, gid)
}

// keepOwner gives f the owner and group of an existing file. Who may not change them has a file of
// his own already.
func keepOwner(f *os.File, of fs.FileInfo) error {
	uid, gid := owner(of)
	if uid == os.Geteuid() && gid == os.Getegid() {
		return nil
	}
	return f.Chown(uid, gid)
}

// owner returns the user and the group of a file; -1, which changes neither, where there is none.
func owner(info fs.FileInfo) (uid, gid int) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid), int(s.Gid)
	}
	return -1, -1
}
