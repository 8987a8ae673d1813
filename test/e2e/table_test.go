package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/internal/testnet"
)

// tableFault is one mistake or failure in a tunnel between paris (a) and berlin (b).
type tableFault struct {
	name string
	// early is done before the start, provoke when the tunnel stands.
	early   func(t *testing.T, p *pair)
	provoke func(t *testing.T, p *pair)
	// words are what the end with the fault, or the end that suffers from it, has to say: in the
	// peer's last error or in a warning of the instance.
	words []string
	atB   bool // berlin says it, rather than paris
}

// named is how long a fault may take to be named. Two handshakes that fail take 11 s.
const named = 15 * time.Second

// says returns what status says of the tunnel at one end.
func (g *gateway) saysOf(peer string) string {
	s := g.Status()
	var words []string
	for _, p := range s.Peers {
		if p.Name == peer {
			words = append(words, string(p.State)+": "+p.LastError)
		}
	}
	for _, w := range s.Warnings {
		words = append(words, "["+w.Kind+"] "+w.Message+" "+w.Remedy)
	}
	return strings.Join(words, "; ")
}

func inA(command ...string) func(*testing.T, *pair) {
	return func(t *testing.T, p *pair) { p.a.NS.Run(t, command...) }
}

func inB(command ...string) func(*testing.T, *pair) {
	return func(t *testing.T, p *pair) { p.b.NS.Run(t, command...) }
}

const (
	chain = "add table inet fw; add chain inet fw %h { type filter hook %h priority 0; }; add rule inet fw %h udp %p 51820 %v"
)

func nft(hook, port, verdict string) []string {
	return []string{"nft", strings.NewReplacer("%h", hook, "%p", port, "%v", verdict).Replace(chain)}
}

var faultTable = []tableFault{
	{name: "wrong key of the other end", early: func(t *testing.T, p *pair) { p.a.peers[0].key = newGateway(t, nil, "").Key.Public() },
		words: []string{"no answer", "wrong public key for it"}},
	{name: "wrong key of ours at the other end", early: func(t *testing.T, p *pair) { p.b.peers[0].key = newGateway(t, nil, "").Key.Public() },
		words: []string{"its public key is in no [[peer]] here", "add [[peer]]"}, atB: true},
	{name: "wrong PSK", early: func(t *testing.T, p *pair) { p.a.peers[0].psk, p.b.peers[0].psk = psk(t), psk(t) },
		words: []string{"preshared keys differ"}},
	{name: "port blocked by our OUTPUT", provoke: inA(nft("output", "dport", "drop")...), words: []string{"firewall of this host", "nft list ruleset"}},
	{name: "port blocked by INPUT of the other end", provoke: inB(nft("input", "dport", "drop")...), words: []string{"no answer from", "datagrams blocked"}},
	{name: "the same, as the other end says it", early: inB(nft("input", "dport", "drop")...), words: []string{"[firewall]", "51820"}, atB: true},
	{name: "port rejected by the other end", provoke: inB(nft("input", "dport", "reject")...), words: []string{"port unreachable"}},
	{name: "dead DNS", early: func(_ *testing.T, p *pair) { p.a.peers[0].endpoint = "berlin.example.invalid:51820" },
		words: []string{"down: ", "does not resolve"}},
	{name: "stopped peer", provoke: func(_ *testing.T, p *pair) { p.b.Stop() }, words: []string{"down: "}},
	{name: "killed peer", provoke: func(_ *testing.T, p *pair) { p.b.Kill() }, words: []string{"port unreachable"}},
	{name: "endpoint inside the tunnel", early: func(_ *testing.T, p *pair) {
		p.a.peers[0].allowed = append(p.a.peers[0].allowed, underlayB4+"/32")
	}, words: []string{"[routing-loop]", "leave the endpoint out"}},
}

// TestSoakTable_ofFaults provokes each fault and writes down what both ends say, and after how
// long.
func TestSoakTable_ofFaults(t *testing.T) {
	testnet.Soak(t)
	t.Parallel()
	for _, f := range faultTable {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, false)
			p.b.peers[0].endpoint = ""
			if f.early != nil {
				f.early(t, p)
			}
			p.start()
			began := time.Now()
			if f.provoke == nil {
				startPing(t, p.a.NS, "10.9.0.2", 200*time.Millisecond)
			} else {
				forth := startPing(t, p.a.NS, "10.9.0.2", 200*time.Millisecond)
				forth.goesOn("at first", startLimit)
				began = time.Now()
				f.provoke(t, p)
			}
			says := func() string { return p.a.saysOf("berlin") }
			if f.atB {
				says = func() string { return p.b.saysOf("paris") }
			}
			testnet.Await(t, f.name+" is named", 2*named, func() bool { return containsAll(says(), f.words) })
			t.Logf("%-40s %5.1f s", f.name, time.Since(began).Seconds())
			t.Logf("    paris:  %s", p.a.saysOf("berlin"))
			if p.b.Process.Pid() > 0 && syscall.Kill(p.b.Process.Pid(), 0) == nil {
				t.Logf("    berlin: %s", p.b.saysOf("paris"))
			}
		})
	}
}
