package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ticksPerSecond is USER_HZ, which Linux has fixed at 100 for everything it shows in /proc.
const ticksPerSecond = 100

// cpuTimes is the first line of /proc/stat: what all cores did since boot, in ticks.
type cpuTimes struct {
	busy  uint64 // user, nice, system, irq and softirq
	steal uint64 // runnable, but the hypervisor ran someone else
	total uint64
}

func readCPU() (cpuTimes, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTimes{}, err
	}
	return parseCPU(string(text))
}

// parseCPU reads user nice system idle iowait irq softirq steal; guest times are inside user
// already.
func parseCPU(text string) (cpuTimes, error) {
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return cpuTimes{}, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var v [8]uint64
	for i := range v {
		n, err := strconv.ParseUint(f[i+1], 10, 64)
		if err != nil {
			return cpuTimes{}, fmt.Errorf("/proc/stat: %w", err)
		}
		v[i] = n
	}
	busy := v[0] + v[1] + v[2] + v[5] + v[6]
	return cpuTimes{busy: busy, steal: v[7], total: busy + v[3] + v[4] + v[7]}, nil
}

func (c cpuTimes) since(earlier cpuTimes) cpuTimes {
	return cpuTimes{busy: c.busy - earlier.busy, steal: c.steal - earlier.steal, total: c.total - earlier.total}
}

// seconds is the CPU time used, summed over all cores.
func (c cpuTimes) seconds() float64 { return float64(c.busy) / ticksPerSecond }

// busyShare and stealShare are parts of all the time there was, 0 to 1.
func (c cpuTimes) busyShare() float64  { return share(c.busy, c.total) }
func (c cpuTimes) stealShare() float64 { return share(c.steal, c.total) }

func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// residentMiB is a process's resident memory.
func residentMiB(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseResident(string(text))
}

func parseResident(status string) (float64, error) {
	for line := range strings.Lines(status) {
		if rest, found := strings.CutPrefix(line, "VmRSS:"); found {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("no VmRSS in /proc/PID/status")
}

// processSeconds is the CPU time of one process, all threads.
func processSeconds(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseProcessSeconds(string(text))
}

// parseProcessSeconds reads utime and stime, fields 14 and 15; the name (field 2) may contain
// anything.
func parseProcessSeconds(stat string) (float64, error) {
	end := strings.LastIndexByte(stat, ')')
	f := strings.Fields(stat[end+1:])
	if end < 0 || len(f) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat is %q", stat)
	}
	user, err := strconv.ParseUint(f[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseUint(f[12], 10, 64)
	return float64(user+system) / ticksPerSecond, err
}

// tcpCounters reads the extended TCP counters of a namespace.
func tcpCounters(ctx context.Context, ns string) (map[string]uint64, error) {
	text, err := run(ctx, append(inside(ns), "cat", "/proc/net/netstat")...)
	if err != nil {
		return nil, err
	}
	return parseNetstat(string(text))
}

// parseNetstat reads pairs of lines, names then values, each beginning with the same word. Only
// TcpExt is kept.
func parseNetstat(text string) (map[string]uint64, error) {
	out := map[string]uint64{}
	var names []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "TcpExt:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		if len(f) != len(names) {
			return nil, errors.New("/proc/net/netstat: names and values differ in number")
		}
		for i := 1; i < len(f); i++ {
			n, err := strconv.ParseUint(f[i], 10, 64)
			if err != nil {
				continue // some counters are signed, none that we read
			}
			out[names[i]] = n
		}
	}
	if len(out) == 0 {
		return nil, errors.New("/proc/net/netstat: no TcpExt")
	}
	return out, nil
}

// deviceMTU asks the kernel.
func deviceMTU(ctx context.Context, ns, device string) (int, error) {
	text, err := run(ctx, "ip", "-j", "-n", ns, "link", "show", "dev", device)
	if err != nil {
		return 0, err
	}
	var links []struct {
		MTU int `json:"mtu"`
	}
	if err := json.Unmarshal(text, &links); err != nil || len(links) != 1 {
		return 0, fmt.Errorf("ip link show dev %s: %w", device, errors.Join(err, fmt.Errorf("%d links", len(links))))
	}
	return links[0].MTU, nil
}
