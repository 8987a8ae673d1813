package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// manySites is what contenders offer that can stand as one gateway with many peers at work.
type manySites interface {
	contender
	// startSites starts the program of p.a with all sites as its peers, and those of p.sites with
	// p.a as theirs.
	startSites(ctx context.Context, p *pair, hub identity, sites []identity) error
}

func hasManySites(c contender) bool {
	_, ok := c.(manySites)
	return ok
}

// firstSite is the last byte of the first site's address in the tunnel.
const firstSite = 100

// addSites makes n more hosts, each with an underlay of its own to host a.
func (p *pair) addSites(ctx context.Context, n int) error {
	for i := 1; i <= n; i++ {
		h := &host{
			ns: fmt.Sprintf("%ss%d", p.label, i), site: i,
			underlay: netip.AddrFrom4([4]byte{10, 98, byte(i), 2}),
			tunnel:   netip.AddrFrom4([4]byte{10, 77, 0, byte(firstSite + i)}),
		}
		h.end = h.tunnel
		p.sites = append(p.sites, h)
		if err := newNamespace(ctx, h.ns); err != nil {
			return err
		}
		device := fmt.Sprintf("%s%d", underlayDevice, i)
		err := script(ctx,
			fmt.Sprintf("ip link add %s netns %s type veth peer name %s netns %s", device, p.a.ns, underlayDevice, h.ns),
			fmt.Sprintf("ip -n %s addr add %s/24 dev %s", p.a.ns, p.hubOf(h).underlay, device),
			fmt.Sprintf("ip -n %s addr add %s/24 dev %s", h.ns, h.underlay, underlayDevice),
			fmt.Sprintf("ip -n %s link set %s up", p.a.ns, device),
			fmt.Sprintf("ip -n %s link set %s up", h.ns, underlayDevice))
		if err != nil {
			return err
		}
		if err := errors.Join(p.model(ctx, p.a.ns, device), p.model(ctx, h.ns, underlayDevice)); err != nil {
			return err
		}
	}
	return nil
}

// hubOf is host a as a site sees it: at the address of their own link.
func (p *pair) hubOf(h *host) *host {
	hub := *p.a
	hub.underlay = h.underlay.Prev()
	return &hub
}

// flowsToSites sends one flow to each of n sites at once.
func flowsToSites(n int) func(context.Context, *measurement) (metrics, error) {
	return func(ctx context.Context, m *measurement) (metrics, error) {
		if err := m.startSites(ctx, n); err != nil {
			return nil, err
		}
		before, err := readCPU()
		if err != nil {
			return nil, err
		}
		type answer struct {
			result flowResult
			err    error
		}
		answers := make(chan answer, n)
		limit, cancel := context.WithTimeout(ctx, m.length+20*time.Second)
		defer cancel()
		for _, h := range m.pair.sites {
			go func() {
				text, runErr := run(limit, append(inside(m.pair.a.ns), "iperf3", "--client", h.end.String(), "--port",
					strconv.Itoa(iperfPort), "--congestion", "cubic", "--json", "--time", strconv.Itoa(int(m.length/time.Second)))...)
				r, err := parseIperf(text)
				if err != nil {
					err = errors.Join(err, runErr)
				}
				answers <- answer{r, err}
			}()
		}
		var sum flowResult
		var errs []error
		for range m.pair.sites {
			a := <-answers
			sum.bytes += a.result.bytes
			sum.bitsPerSec += a.result.bitsPerSec
			errs = append(errs, a.err)
		}
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		after, err := readCPU()
		return metrics{
			gbps.name:  sum.bitsPerSec / 1e9,
			cpuGB.name: after.since(before).seconds() / (sum.bytes / 1e9),
		}, err
	}
}

// startSites brings n sites up, each with a session and an iperf3 server. A site speaks first,
// since the gateway knows no endpoint of it.
func (m *measurement) startSites(ctx context.Context, n int) error {
	p := m.pair
	if err := p.addSites(ctx, n); err != nil {
		return err
	}
	hub, err := newIdentity(p.a.tunnel)
	if err != nil {
		return err
	}
	sites := make([]identity, n)
	for i, h := range p.sites {
		if sites[i], err = newIdentity(h.tunnel); err != nil {
			return err
		}
	}
	if err := m.contender.(manySites).startSites(ctx, p, hub, sites); err != nil {
		return err
	}
	for _, h := range p.sites {
		err := waitFor(ctx, 20*time.Second, 50*time.Millisecond, "ping from "+h.ns, p.daemons, func() bool {
			_, err := run(ctx, append(inside(h.ns), "ping", "-n", "-q", "-c", "1", "-W", "1", p.a.tunnel.String())...)
			return err == nil
		})
		if err != nil {
			return err
		}
		server, err := p.helper(h.ns, "iperf3-"+h.ns, "iperf3", "--server", "--forceflush", "--port", strconv.Itoa(iperfPort))
		if err != nil {
			return err
		}
		if err := waitListening(ctx, server); err != nil {
			return err
		}
	}
	return nil
}
