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

// TestTund_tenThousandPeers measures what ten thousand peers of an agent cost a tund: its memory, a
// change of one of them, and a flow while twenty change in a second.
func TestTund_tenThousandPeers(t *testing.T) {
	agents(t)
	if !long() {
		t.Skip("make scale measures this; QUICK=1 does not")
	}
	testnet.Program(t, "iperf3")
	ends := tunds(t)
	net := newNetwork(t, 10_000)
	client := control.NewAgentClient(ends[0].RunDir(), ends[0].Name)
	peer := func(i, version int) map[string]any {
		s := &net.sites[i]
		return map[string]any{"name": net.name(i), "public_key": s.id.String(), "allowed_ips": []any{s.prefix.String()},
			"endpoint": []any{fmt.Sprintf("%v:%d", s.endpoint, version)}}
	}
	before := resident(t, ends[0].Process.Pid())
	put := control.SourcePut{Epoch: "e", Generation: 1}
	for i := range net.sites {
		put.Peers = append(put.Peers, peer(i, 1))
	}
	began := time.Now()
	if answer, err := client.Put(t.Context(), put); err != nil || answer.RejectedTotal > 0 {
		t.Fatalf("%+v, %v", answer, err)
	}
	t.Logf("all peers at once: %v", time.Since(began).Round(time.Millisecond))
	time.Sleep(time.Minute) // the runtime gives memory back in the background
	t.Logf("memory: %.1f MiB without peers, %.1f MiB with %d", before, resident(t, ends[0].Process.Pid()), len(net.sites))

	generation := uint64(1)
	var took []time.Duration
	change := func() error {
		patch := control.SourcePatch{Epoch: "e", IfGeneration: generation, Generation: generation + 1}
		patch.Peers.Set = []map[string]any{peer(int(generation)%len(net.sites), 2+int(generation))}
		began := time.Now()
		_, err := client.Patch(t.Context(), patch)
		took = append(took, time.Since(began))
		generation++
		return err
	}
	for range 200 {
		if err := change(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("a change of one peer: %s", figures(took))

	ends[1].NS.Start(t, "iperf3", "-s")
	var ratios []float64
	for range 9 {
		quiet := rate(t, ends[0])
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			ticker := time.NewTicker(50 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					done <- nil
					return
				case <-ticker.C:
					if err := change(); err != nil {
						done <- err
						return
					}
				}
			}
		}()
		ratios = append(ratios, rate(t, ends[0])/quiet)
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(ratios)
	t.Logf("a TCP flow during 20 changes/s: %.3f of one without (median of %d pairs, from %.3f to %.3f)",
		ratios[len(ratios)/2], len(ratios), ratios[0], ratios[len(ratios)-1])
	if ratios[len(ratios)/2] < 0.8 {
		t.Error("changes disturb a flow")
	}
}

// rate measures a TCP flow to the other end for two seconds, in bits a second.
func rate(t *testing.T, from *instance.Instance) (bps float64) {
	t.Helper()
	testnet.Await(t, "iperf3", limit(), func() bool {
		out, err := from.NS.Try("iperf3", "-J", "-t", "2", "-c", "172.16.0.2")
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
