package scale

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/internal/control"
	"tund/internal/testnet"
	"tund/test/instance"
)

// tunds makes two sites with a tund that know each other by their files, and an agent's socket.
func tunds(t *testing.T) (ends [2]*instance.Instance) {
	t.Helper()
	for n := range ends {
		end := instance.New(t, testnet.New(t), fmt.Sprint("end", n))
		ends[n] = &end
	}
	testnet.Veth(t, ends[0].NS, ends[1].NS, []string{"192.0.2.1/24"}, []string{"192.0.2.2/24"})
	for n, end := range ends {
		end.WriteConfig(fmt.Sprintf(`
[tunnel]
private_key_file = "own.key"
listen_port = 51820
[tun]
address = ["172.16.0.%d/24"]
[agent]
user = "root"
within = ["10.0.0.0/8"]
[[peer]]
name = "other"
public_key = %q
endpoint = "192.0.2.%d:51820"
allowed_ips = ["172.16.0.%d/32"]
`, n+1, ends[1-n].Key.Public(), 2-n, 2-n))
		end.Launch()
		end.Ready()
	}
	return ends
}

// resident returns the memory of a process in MiB.
func resident(t *testing.T, pid int) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kB, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return float64(kB) / 1024
}

// crowd is what an agent hands to a tund: ten thousand peers, of which one after the other changes.
type crowd struct {
	t          *testing.T
	net        *network
	client     *control.AgentClient
	generation uint64
	took       []time.Duration // each change
}

func (c *crowd) peer(i int) map[string]any {
	s := &c.net.sites[i]
	return map[string]any{"name": c.net.name(i), "public_key": s.id.String(), "allowed_ips": []any{s.prefix.String()},
		"endpoint": []any{fmt.Sprintf("%v:%d", s.endpoint, 1+c.generation)}}
}

// put hands in all of them.
func (c *crowd) put() {
	c.t.Helper()
	put := control.SourcePut{Epoch: "e", Generation: c.generation + 1}
	for i := range c.net.sites {
		put.Peers = append(put.Peers, c.peer(i))
	}
	if answer, err := c.client.Put(c.t.Context(), put); err != nil || answer.RejectedTotal > 0 {
		c.t.Fatalf("%+v, %v", answer, err)
	}
	c.generation++
}

// change changes one of them.
func (c *crowd) change() error {
	patch := control.SourcePatch{Epoch: "e", IfGeneration: c.generation, Generation: c.generation + 1}
	patch.Peers.Set = []map[string]any{c.peer(int(c.generation) % len(c.net.sites))}
	began := time.Now()
	_, err := c.client.Patch(c.t.Context(), patch)
	c.took = append(c.took, time.Since(began))
	c.generation++
	return err
}

// changes changes one in each pause until the result is called.
func (c *crowd) changes(pause time.Duration) (end func()) {
	ctx, stop := context.WithCancel(c.t.Context())
	done := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(pause)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-ticker.C:
				if err := c.change(); err != nil {
					done <- err
					return
				}
			}
		}
	}()
	return func() {
		c.t.Helper()
		stop()
		if err := <-done; err != nil {
			c.t.Fatal(err)
		}
	}
}

// compare measures a TCP flow in two situations, eight times in turn, and fails the test if the
// second one takes much of it. How much exactly tells an idle machine alone.
func compare(t *testing.T, what string, from *instance.Instance, seconds int, plain, other func() (end func())) {
	t.Helper()
	var rates [2][]float64
	var ratios []float64
	for range 8 {
		for n, situation := range []func() func(){plain, other} {
			end := situation()
			rates[n] = append(rates[n], rate(t, from, seconds))
			end()
		}
		ratios = append(ratios, rates[1][len(ratios)]/rates[0][len(ratios)])
	}
	for _, list := range [][]float64{rates[0], rates[1], ratios} {
		slices.Sort(list)
	}
	load, _ := os.ReadFile("/proc/loadavg")
	middle := len(ratios) / 2
	t.Logf("%s: medians %.2f and %.2f Gbit/s; of %d pairs, the ratios were %.3f to %.3f, in the middle %.3f (load %s)", what,
		rates[0][middle]/1e9, rates[1][middle]/1e9, len(ratios), ratios[0], ratios[len(ratios)-1],
		(ratios[middle-1]+ratios[middle])/2, strings.TrimSpace(string(load)))
	if ratios[middle] < 0.8 {
		t.Errorf("%s: the flow is disturbed", what)
	}
}

// settled is how long a tund takes at most to have done with ten thousand peers that came or went:
// the collector, and what it gives back to the kernel.
const settled = 4 * time.Second

// TestTund_tenThousandPeers measures what ten thousand peers of an agent cost a tund: its memory, a
// change of one of them, and what they and their changes take of a flow.
func TestTund_tenThousandPeers(t *testing.T) {
	agents(t)
	if !long() {
		t.Skip("make scale measures this; QUICK=1 does not")
	}
	testnet.Program(t, "iperf3")
	ends := tunds(t)
	c := &crowd{t: t, net: newNetwork(t, 10_000), client: control.NewAgentClient(ends[0].RunDir(), ends[0].Name)}
	before := resident(t, ends[0].Process.Pid())
	began := time.Now()
	c.put()
	t.Logf("all peers at once: %v", time.Since(began).Round(time.Millisecond))
	time.Sleep(time.Minute) // the runtime gives memory back in the background
	t.Logf("memory: %.1f MiB without peers, %.1f MiB with %d", before, resident(t, ends[0].Process.Pid()), len(c.net.sites))
	for range 200 {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("a change of one peer: %s, at most %v", figures(c.took), slices.Max(c.took).Round(10*time.Microsecond))

	ends[1].NS.Start(t, "iperf3", "-s")
	none := func() {}
	compare(t, "a flow with 10,000 peers, and while 20 of them change in a second", ends[0], 2,
		func() func() { return none }, func() func() { return c.changes(50 * time.Millisecond) })
	compare(t, "a flow without peers of an agent, and with 10,000, of which one changes in a second", ends[0], 5,
		func() func() {
			if _, err := c.client.Clear(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(settled)
			return none
		},
		func() func() {
			c.put()
			time.Sleep(settled)
			return c.changes(time.Second)
		})
}

// rate measures a TCP flow to the other end for some seconds, in bits a second.
func rate(t *testing.T, from *instance.Instance, seconds int) (bps float64) {
	t.Helper()
	testnet.Await(t, "iperf3", limit(), func() bool {
		out, err := from.NS.Try("iperf3", "-J", "-t", strconv.Itoa(seconds), "-c", "172.16.0.2")
		var report struct {
			End struct {
				Received struct {
					Rate float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			} `json:"end"`
		}
		if err != nil || json.Unmarshal([]byte(out), &report) != nil {
			return false
		}
		bps = report.End.Received.Rate
		return bps > 0
	})
	return bps
}
