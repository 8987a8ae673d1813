// Package notice interprets what the kernel announces about links, addresses, routes and rules for
// the watcher of an instance: what an announcement asks for, whether it is the echo of a change
// that the instance itself made, and who made it otherwise. It reads no socket (internal/netwatch
// does) and changes nothing in the kernel.
package notice

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/netwatch"
	"tund/route/mark"
)

// Meaning is what a notice asks of the watcher of an instance.
type Meaning uint8

// The meanings.
const (
	Nothing  Meaning = iota
	Underlay         // the world outside our devices changed
	Check            // something of ours may be missing
	All              // both
)

// MeaningOf sorts a notice. indices and names are our links; names holds our nftables table, too.
func MeaningOf(n netwatch.Notice, indices map[int]bool, names map[string]bool) Meaning {
	switch n.Kind {
	case netwatch.Overflow:
		return All
	case netwatch.Link:
		if indices[n.Index] || names[n.Name] {
			return Check
		}
		return Underlay
	case netwatch.Addr:
		if indices[n.Index] {
			return onlyIf(n.Del, Check)
		}
		return Underlay
	case netwatch.Route:
		switch {
		case n.Protocol == mark.Protocol:
			return onlyIf(n.Del, Check)
		case indices[n.Index] || n.Table == unix.RT_TABLE_LOCAL:
			return Nothing // the kernel's own routes follow from addresses
		}
		return Underlay
	case netwatch.Rule:
		if n.Protocol == mark.Protocol {
			return onlyIf(n.Del, Check)
		}
		return Underlay
	case netwatch.Table:
		return onlyIf(n.Del && names[n.Name], Check)
	}
	return Nothing
}

func onlyIf(condition bool, m Meaning) Meaning {
	if condition {
		return m
	}
	return Nothing
}

// Memory is for how long a removal of ours is expected to be announced by the kernel.
const Memory = 5 * time.Second

// Removals counts routes that we have removed, so that a watcher does not take their
// announcement for the work of another program and read the whole table for each. When another
// program removes a route at the same moment, one announcement is left over, and the watcher looks.
// It is safe for concurrent use.
type Removals struct {
	mu    sync.Mutex
	count int
	last  time.Time
}

// Expect notes that a route is about to be removed.
func (o *Removals) Expect() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count, o.last = o.count+1, time.Now()
}

// Explain reports whether a notice is the announcement of a removal of ours.
func (o *Removals) Explain(n netwatch.Notice) bool {
	if n.Kind != netwatch.Route || !n.Del || n.Protocol != mark.Protocol {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count == 0 || time.Since(o.last) > Memory {
		o.count = 0
		return false
	}
	o.count--
	return true
}

// Forget drops what is still expected: announcements were lost, or came before anybody listened.
func (o *Removals) Forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count = 0
}

// ProcessOf names the process behind a netlink port number. The kernel gives the first netlink
// socket of a process the number of its pid, so this is right for most programs and silent for
// the others.
func ProcessOf(port uint32) string {
	if port == 0 || int(port) == os.Getpid() {
		return ""
	}
	comm, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(port), 10) + "/comm")
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s[%d]", strings.TrimSpace(string(comm)), port)
}
