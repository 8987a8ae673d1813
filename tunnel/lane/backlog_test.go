package lane

import (
	"fmt"
	"strings"
	"testing"
)

// order runs turns of a backlog in which the packets of script wait, a letter for each flow, each
// of the given number of parts. come is what is read before each turn.
func order(t *testing.T, script string, parts int, come ...string) string {
	t.Helper()
	var b backlog
	left := map[string]int{} // parts of a packet, by its name: flow and number
	number := map[rune]int{}
	push := func(flows string) {
		for _, flow := range flows {
			q := b.free()
			if q == nil {
				t.Fatal("full")
			}
			number[flow]++
			name := fmt.Sprint(string(flow), number[flow])
			q.n, q.flow = copy(q.mem[Headroom:], name), uint64(flow)
			left[name] = parts
			b.push()
		}
	}
	push(script)
	var out []string
	for turn := 0; ; turn++ {
		if turn < len(come) {
			push(come[turn])
		}
		q, i := b.turn()
		if q == nil {
			return strings.Join(out, " ")
		}
		name := string(q.read())
		out = append(out, name)
		if left[name]--; left[name] > 0 {
			b.more(i, 0)
		} else {
			b.done(i)
		}
	}
}

func TestBacklog_flowsTakeTurns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		script string
		parts  int
		come   []string
		want   string
	}{
		{"abc", 1, nil, "a1 b1 c1"},
		{"aaab", 1, nil, "a1 b1 a2 a3"},
		{"aaabb", 1, nil, "a1 b1 a2 b2 a3"},
		{"ab", 3, nil, "a1 b1 a1 b1 a1 b1"},
		{"aab", 2, nil, "a1 b1 a1 b1 a2 a2"},
		{"ag", 1, []string{"", "a", "a", "a"}, "a1 g1 a2 a3 a4"},
		// g is not kept waiting by flows of which there are ever new ones.
		{"gg", 1, []string{"abc", "def", "hij"}, "g1 a1 b1 c1 g2 d1 e1 f1 h1 i1 j1"},
		{"agg", 1, []string{"bc", "de", "fh"}, "a1 g1 b1 c1 g2 d1 e1 f1 h1"},
	} {
		if got := order(t, c.script, c.parts, c.come...); got != c.want {
			t.Errorf("%q in %d parts, then %q:\n got %s\nwant %s", c.script, c.parts, c.come, got, c.want)
		}
	}
}

// Whatever comes and goes, every packet is sent once, and those of one flow in their order.
func TestBacklog_keepsTheOrderOfAFlow(t *testing.T) {
	t.Parallel()
	for seed := range 200 {
		come := make([]string, 100)
		for i := range come {
			for n := range (seed*7 + i*13) % 3 {
				come[i] += string(rune('a' + (seed*i+n*5)%4))
			}
		}
		last, sent := map[byte]int{}, 0
		for _, name := range strings.Fields(order(t, "abab", 1, come[:20]...)) {
			n := 0
			fmt.Sscan(name[1:], &n)
			if n != last[name[0]]+1 {
				t.Fatalf("seed %d: %s after %d of its flow", seed, name, last[name[0]])
			}
			last[name[0]] = n
			sent++
		}
		if want := 4 + len(strings.Join(come[:20], "")); sent != want {
			t.Fatalf("seed %d: %d packets sent, want %d", seed, sent, want)
		}
	}
}
