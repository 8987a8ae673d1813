package e2e

import (
	"cmp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/internal/control"
	"tund/internal/doctor"
	"tund/internal/testnet"
)

// tableFault is one mistake or failure in a tunnel between paris (a) and berlin (b), through which
// paris pings berlin.
type tableFault struct {
	name string
	// early is done before the start, provoke when the tunnel stands, and mend when both ends have
	// said what they know. A fault without mend is not mended.
	early, provoke, mend func(t *testing.T, p *pair)
	// What the two ends have to say: in a peer's last error or in a warning. nil: that end cannot
	// know.
	paris, berlin []string
	// Traffic goes on in spite of the fault.
	passes bool
	// Berlin cannot be asked.
	deaf bool
	// Berlin is a wireguard-go, which cannot be asked either.
	plain bool
	// How long it may take to be named; 0: named.
	within time.Duration
}

// named is how long a fault may take to be named. After 15 s a peer that cannot be sent to is down;
// the rest is for a machine that is busy with other tests. The log has the seconds of each fault.
const named = 15 * time.Second

// calmAfter is how long an end may go on to speak of a fault that was mended.
const calmAfter = 30 * time.Second

// unheardThere is what an end says when the other one has told it that it hears nothing.
const unheardThere = "nothing comes to it from this host"

// says returns what status says is wrong at one end; "" while nothing is.
func (g *gateway) says() string { return wrong(g.Status()) }

func wrong(s control.Instance) string {
	var words []string
	if s.ConfigError != "" {
		words = append(words, s.ConfigError)
	}
	for _, d := range s.Devices {
		if !d.Up {
			words = append(words, "device "+d.Name+" is down")
		}
	}
	for _, p := range s.Peers {
		if p.LastError != "" || p.State == control.StateDown {
			words = append(words, string(p.State)+": "+p.LastError)
		}
	}
	for _, w := range s.Warnings {
		words = append(words, "["+w.Kind+"] "+w.Message+"; "+w.Remedy)
	}
	return strings.Join(words, " | ")
}

// remedies returns what doctor finds and advises at one end.
func (g *gateway) remedies() string {
	s := g.Status()
	r := doctor.Examine(&doctor.Evidence{Now: time.Now(), Instance: &s})
	var words []string
	for _, f := range r.Findings {
		if f.Severity.Worse(doctor.Note) {
			words = append(words, strings.TrimSpace(f.Cause+": "+f.Remedy))
		}
	}
	return strings.Join(words, " | ")
}

// runs reports whether the process of an end has not ended.
func (g *gateway) runs() bool {
	select {
	case <-g.Process.Done():
		return false
	default:
		return syscall.Kill(g.Process.Pid(), 0) == nil
	}
}

// asks reports whether an end can be asked what it knows of a fault.
func (p *pair) asks(f *tableFault, g *gateway) bool {
	return (g == p.a || !f.plain && !f.deaf) && g.runs()
}

// TestSoakTable_ofFaults provokes each fault and writes down what both ends say, after how long,
// and that they cease to say it when the fault is mended.
func TestSoakTable_ofFaults(t *testing.T) {
	testnet.Soak(t)
	t.Parallel()
	for _, f := range slices.Concat(faultTable, laterFaults, furtherFaults, moreFaults, lastFaults) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, false)
			p.b.peers[0].endpoint = ""
			f.test(t, p)
		})
	}
}

func (f *tableFault) test(t *testing.T, p *pair) {
	if f.early != nil {
		f.early(t, p)
	}
	p.a.start()
	if f.plain {
		replace(t, p.b, wireguardGoOfDebian(t)).start()
	} else {
		p.b.start()
	}
	began := time.Now()
	forth := startPing(t, p.a.NS, "10.9.0.2", 200*time.Millisecond)
	if slices.Contains(f.paris, unheardThere) { // berlin has to miss answers itself to say so
		startPing(t, p.b.NS, "10.9.0.1", 200*time.Millisecond)
	}
	if f.provoke != nil {
		forth.goesOn("at first", startLimit)
		began = time.Now()
		f.provoke(t, p)
	}
	for _, end := range []struct {
		g     *gateway
		words []string
	}{{p.a, f.paris}, {p.b, f.berlin}} {
		if !p.asks(f, end.g) {
			continue
		}
		at := began
		testnet.Await(t, f.name+" is named at "+end.g.Name, cmp.Or(f.within, named), func() bool { return containsAll(end.g.says(), end.words) })
		took := time.Since(at)
		t.Logf("%-40s %-14s %5.1f s  %s", f.name, end.g.Name, took.Seconds(), end.g.says())
		t.Logf("%-40s %-14s   doctor: %s", "", end.g.Name, end.g.remedies())
		if end.words != nil && end.g.remedies() == "" {
			t.Errorf("%s: doctor of %s has no remedy", f.name, end.g.Name)
		}
	}
	if f.passes {
		forth.goesOn("during the fault", named)
	}
	if f.mend == nil {
		return
	}
	f.mend(t, p)
	mended := time.Now()
	forth.goesOn("after the fault", calmAfter)
	back := time.Since(mended)
	for _, g := range []*gateway{p.a, p.b} {
		if f.plain && g == p.b {
			continue
		}
		testnet.Await(t, f.name+" is forgotten at "+g.Name, calmAfter, func() bool { return g.says() == "" })
	}
	t.Logf("%-40s mended: traffic after %.1f s, nothing said any more after %.1f s", f.name, back.Seconds(), time.Since(mended).Seconds())
}
