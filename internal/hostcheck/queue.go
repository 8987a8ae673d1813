package hostcheck

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A queue overflows if it has lost at least minLost packets since the last examination, and more
// than one in lostShare. TCP finds out how much fits by losing a packet now and then.
const (
	minLost   = 100
	lostShare = 100
)

// queues finds devices of ours from which tund takes packets more slowly than the host sends them.
func (t *Tunnel) queues(h Host) (list []Finding) {
	for name, was := range t.Earlier {
		l := h.link(name)
		if l == nil || l.Queue.Lost < was.Lost || l.Queue.Taken < was.Taken {
			continue // another device of that name
		}
		lost, taken := l.Queue.Lost-was.Lost, l.Queue.Taken-was.Taken
		if lost < minLost || lost < (lost+taken)/lostShare {
			continue
		}
		list = append(list, Finding{
			Kind: Queue, Subject: name,
			Message: fmt.Sprintf("the kernel discards what the host sends to %s, because its queue is full: "+
				"tund takes packets from it more slowly than they come", name),
			Remedy: "raise lanes in [tunnel] if there are processors to spare, or limit the senders; " +
				"a longer queue (ip link set " + name + " txqueuelen 8192) helps against bursts only",
		})
	}
	slices.SortFunc(list, func(a, b Finding) int { return cmp.Compare(a.Subject, b.Subject) })
	return list
}

// devPath has the counters of all links in the network namespace of the reader (proc(5)).
const devPath = "/proc/net/dev"

// parseDev reads the counts of each link from the text of devPath.
func parseDev(text string) map[string]QueueCounts {
	counts := make(map[string]QueueCounts)
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !ok || len(f) < 12 { // eight fields about receiving; bytes, packets, errors, drops
			continue
		}
		taken, err := strconv.ParseUint(f[9], 10, 64)
		lost, err2 := strconv.ParseUint(f[11], 10, 64)
		if err == nil && err2 == nil {
			counts[strings.TrimSpace(name)] = QueueCounts{Taken: taken, Lost: lost}
		}
	}
	return counts
}
