package heap

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dropCode unmaps the pages of the program itself, which the kernel maps again when they are used:
// most of the code that has run is that of the start. The pages stay in the page cache, from which
// the kernel takes memory first.
func dropCode() {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return // they stay mapped, as without this
	}
	defer f.Close()
	for _, m := range unchanged(f) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.size, unix.MADV_DONTNEED)
	}
}

// mapping is a range of addresses, in bytes.
type mapping struct{ start, size uintptr }

// unchanged returns the mappings of files, of those in smaps (proc(5)), that cannot be written to
// and have no page that differs from the file: those that can be dropped without losing anything.
func unchanged(smaps io.Reader) (list []mapping) {
	var m mapping
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) < 2:
		case !strings.HasSuffix(fields[0], ":"):
			m = mappingOf(fields)
		case fields[0] == "Anonymous:" && fields[1] == "0" && m.size > 0:
			list = append(list, m)
		}
	}
	return list
}

// mappingOf reads the first line about a mapping: addresses, permissions, offset, device, inode and
// path. The mapping is empty unless it is of a file, private and read-only.
func mappingOf(fields []string) (m mapping) {
	if len(fields) < 6 || fields[4] == "0" || fields[1] != "r-xp" && fields[1] != "r--p" {
		return m
	}
	from, to, _ := strings.Cut(fields[0], "-")
	start, err := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	if err != nil || err2 != nil || end < start {
		return m
	}
	return mapping{uintptr(start), uintptr(end - start)}
}
