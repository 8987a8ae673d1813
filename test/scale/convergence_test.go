package scale

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// result is what was measured with some number of agents.
type result struct {
	agents     int
	start      time.Duration // until all have all peers, from nothing, at once
	joins      time.Duration // the same for one agent, while all others run
	flows      []flow
	revocation time.Duration
	storm      time.Duration // one change of every mover at once
	cpu        time.Duration // of the agents in idleTime
	heap       uint64        // bytes in use, of all agents
}

// flow is what was measured at some number of changes in a second.
type flow struct {
	perSecond    int             // asked for
	rate         float64         // and reached: each change waits for etcd to take the one before
	each, last   []time.Duration // from a change to a daemon, and to the last one
	agents, etcd time.Duration   // processor time for one change at one agent, and of all members
}

const idleTime = 10 * time.Second

// TestConvergence measures how long a change takes to all daemons, by number of agents. With
// TUND_TEST_SCALE_OUT, tables and plot are written into that directory.
func TestConvergence(t *testing.T) {
	most := agents(t)
	sizes := []int{most}
	if long() {
		sizes = nil
		for n := 25; 2*n <= most; n *= 2 {
			sizes = append(sizes, n)
		}
		sizes = append(sizes, most)
	}
	var results []result
	for _, n := range sizes {
		if !t.Run(fmt.Sprint(n), func(t *testing.T) { results = append(results, measure(t, n)) }) {
			return // more agents would need more time
		}
		dir := os.Getenv("TUND_TEST_SCALE_OUT")
		if dir == "" {
			continue
		}
		for name, text := range map[string]string{"convergence.md": table(results), "convergence.svg": plot(results)} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestEverySite measures how long it takes until a change of every site has come to every daemon,
// all made at once. Sites that change are others than those that follow, and as many.
func TestEverySite(t *testing.T) {
	sizes := []int{min(agents(t), 200)}
	if most := agents(t); long() && most > sizes[0] {
		sizes = append(sizes, most)
	}
	for _, n := range sizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			f := newFleetOf(t, n, n)
			f.startAll()
			f.agree("start")
			before, etcd, began := processorTime(), f.c.processorTime(), time.Now()
			parallel(n, f.change)
			f.agree("a change of every site")
			took := time.Since(began)
			used, etcd := processorTime()-before, f.c.processorTime()-etcd
			each, last := f.laps.take()
			if len(last) != n {
				t.Errorf("%d of %d changes have come to all daemons by themselves", len(last), n)
			}
			t.Logf("%d sites change at once: a change has come to one of %d daemons after %s, and to the last after %s; all have come after %v (%v of processor time of the agents, %v of etcd)",
				n, n, figures(each), figures(last), took.Round(100*time.Millisecond), used.Round(100*time.Millisecond), etcd.Round(100*time.Millisecond))
		})
	}
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func measure(t *testing.T, n int) (r result) {
	t.Helper()
	r.agents = n
	f := newFleet(t, n)
	before := heapInUse()
	began := time.Now()
	f.startAll()
	f.agree("start")
	r.start = time.Since(began)
	seconds := 5
	if long() {
		seconds = 20
	}
	for _, perSecond := range []int{20, 5, 1} {
		r.flows = append(r.flows, f.flow(perSecond, seconds))
		if quantile(r.flows[len(r.flows)-1].last, 0.99) < 2*time.Second {
			break // otherwise changes came faster than all agents together could follow
		}
	}
	f.c.put("crl", f.net.revoke(f.mover(0)))
	r.revocation = f.agree("a revocation")
	began = time.Now()
	parallel(movers-1, func(i int) { f.change(i + 1) })
	f.agree("changes at once")
	r.storm = time.Since(began)
	r.joins = f.joins(0)
	r.heap = heapInUse() - before
	used := processorTime()
	time.Sleep(idleTime)
	r.cpu = processorTime() - used
	t.Log("\n" + table([]result{r}))
	return r
}

// flow measures changes, a number of them in a second.
func (f *fleet) flow(perSecond, seconds int) (w flow) {
	f.laps.take()
	w.perSecond = perSecond
	agents, etcd := processorTime(), f.c.processorTime()
	began := time.Now()
	f.changes(perSecond*seconds, perSecond)
	w.rate = float64(perSecond*seconds) / time.Since(began).Seconds()
	f.agree(fmt.Sprint(perSecond, " changes a second"))
	w.each, w.last = f.laps.take()
	figures(w.each) // sorts
	figures(w.last)
	changes := time.Duration(perSecond * seconds * len(f.agents))
	w.agents, w.etcd = (processorTime()-agents)/changes, (f.c.processorTime()-etcd)/changes
	return w
}

// joins returns how long an agent takes that knows nothing, with a daemon that knows nothing.
func (f *fleet) joins(i int) time.Duration {
	f.t.Helper()
	m := f.agents[i]
	m.stop()
	m.disk = newDisk()
	m.daemon.restart()
	began := time.Now()
	f.startAgent(i)
	for m.daemon.differs(f.net.versions()) != "" {
		if time.Since(began) > limit() {
			f.t.Fatalf("an agent that joins: %s", m.daemon.differs(f.net.versions()))
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

// table shows results as Markdown.
func table(results []result) string {
	var b strings.Builder
	host, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(&b, "%d processors, load %s\n\n", runtime.NumCPU(), strings.TrimSpace(string(host)))
	b.WriteString("| Agents | changes a second | change at one daemon | change at the last | processor time of a change, each agent and etcd for it |\n" +
		"| --- | --- | --- | --- | --- |\n")
	for _, r := range results {
		for _, w := range r.flows {
			fmt.Fprintf(&b, "| %d | %.1f of %d | %s | %s | %v and %v |\n", r.agents, w.rate, w.perSecond, figures(w.each), figures(w.last),
				w.agents.Round(time.Microsecond), w.etcd.Round(time.Microsecond))
		}
	}
	b.WriteString("\n| Agents | all start from nothing | one more starts | revoked everywhere | 19 changes at once | idle, each agent | heap, each agent |\n" +
		"| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, r := range results {
		n := float64(r.agents)
		fmt.Fprintf(&b, "| %d | %.1f s | %v | %v | %v | %.2f %% of a core | %.1f MB |\n", r.agents, r.start.Seconds(), r.joins.Round(time.Millisecond),
			r.revocation.Round(time.Millisecond), r.storm.Round(time.Millisecond), 100*r.cpu.Seconds()/idleTime.Seconds()/n, float64(r.heap)/n/1e6)
	}
	return b.String()
}

// plot draws how long a change takes to the last daemon, by number of agents, as SVG.
func plot(results []result) string {
	const width, height, left, bottom, top, right = 720, 400, 70, 60, 40, 50
	most, worst := 0, time.Duration(0)
	for _, r := range results {
		most, worst = max(most, r.agents), max(worst, quantile(r.flows[0].last, 0.99))
	}
	step := niceStep(worst)
	ceiling := (worst/step + 1) * step
	x := func(agents int) float64 { return left + float64(agents)/float64(most)*(width-left-right) }
	y := func(d time.Duration) float64 {
		return height - bottom - float64(d)/float64(ceiling)*(height-bottom-top)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%d" y="22" font-size="15">From a change in etcd to the last daemon, at up to 20 changes a second</text>`+"\n", left)
	for d := time.Duration(0); d <= ceiling; d += step {
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%d ms</text>`+"\n",
			left, y(d), width-right, left-8, y(d)+4, d.Milliseconds())
	}
	for _, r := range results {
		if r.agents*12 < most {
			continue // its label would lie on that of its neighbour
		}
		fmt.Fprintf(&b, `<path d="M%.1f %d v5" stroke="#444"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x(r.agents), height-bottom, x(r.agents), height-bottom+20, strconv.Itoa(r.agents))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">agents, all on the %d processors that run etcd, too</text>`+"\n",
		(left+width-right)/2, height-14, runtime.NumCPU())
	for _, line := range []struct {
		q           float64
		name, color string
	}{{0.99, "p99", "#c0392b"}, {0.5, "p50", "#2471a3"}} {
		var points []string
		end := 0.0
		for _, r := range results {
			end = y(quantile(r.flows[0].last, line.q))
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(r.agents), end))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(r.agents), end, line.color)
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), line.color)
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" fill="%s">%s</text>`+"\n", width-right+8, end+4, line.color, line.name)
	}
	return b.String() + "</svg>\n"
}

// niceStep is a distance of lines such that there are about five up to a time.
func niceStep(up time.Duration) time.Duration {
	for step := time.Millisecond; ; step *= 10 {
		for _, of := range []time.Duration{1, 2, 5} {
			if up/(step*of) < 6 {
				return step * of
			}
		}
	}
}
