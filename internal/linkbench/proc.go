package linkbench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// processor names the processor from /proc/cpuinfo: its model, and the numbers of family and model,
// which say more than the names that hypervisors give. Arm has numbers only.
func processor(cpuinfo string) string {
	fields := make(map[string]string)
	for line := range strings.Lines(cpuinfo) {
		key, value, found := strings.Cut(line, ":")
		key = strings.TrimSpace(key)
		if _, seen := fields[key]; found && !seen {
			fields[key] = strings.TrimSpace(value)
		}
	}
	switch {
	case fields["cpu family"] != "":
		return fmt.Sprintf("%s (family %s, model %s)", fields["model name"], fields["cpu family"], fields["model"])
	case fields["CPU part"] != "":
		return fmt.Sprintf("%s (implementer %s, part %s)", runtime.GOARCH, fields["CPU implementer"], fields["CPU part"])
	case fields["model name"] != "":
		return fields["model name"]
	}
	return runtime.GOARCH
}

// ticksPerSecond is USER_HZ, which is 100 in everything that Linux shows in /proc.
const ticksPerSecond = 100

// cpuSeconds is what all processors of the machine have worked since it started: user, nice,
// system, irq and softirq of the first line of /proc/stat (proc_stat(5)).
func cpuSeconds() (float64, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseCPU(string(text))
}

// backgroundWindow is how long the machine is watched before the first measurement.
const backgroundWindow = 300 * time.Millisecond

// background measures how busy the machine is while we wait, 0 to 1.
func background(ctx context.Context) (float64, error) {
	before, err := cpuSeconds()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := pause(ctx, backgroundWindow); err != nil {
		return 0, err
	}
	after, err := cpuSeconds()
	return min((after-before)/time.Since(began).Seconds()/float64(runtime.NumCPU()), 1), err
}

func parseCPU(stat string) (float64, error) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 8 || f[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var ticks uint64
	for _, n := range []int{1, 2, 3, 6, 7} {
		v, err := strconv.ParseUint(f[n], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		ticks += v
	}
	return float64(ticks) / ticksPerSecond, nil
}
