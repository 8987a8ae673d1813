package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"tund/config"
	"tund/internal/control"
)

// What doctor may cost: how many peers it probes, and how.
const (
	maxProbed  = 8
	probeCount = 3 // requests of each size
	probeSmall = 64
	probeWait  = 2 * time.Second
	probeCap   = "echo" // the capability of peers that answer
)

// Collect examines an instance for Examine: its status as it was just read, its file, its routes,
// the host, and the paths to its peers, or to the one of interest unless that is "". It asks the
// instance by client, also to send echo requests, and takes a few seconds if those are lost. The
// version is that of this program.
func Collect(ctx context.Context, client *control.Client, i *control.Instance, peer string, now time.Time, version string) *Evidence {
	e := &Evidence{Now: now, Instance: i, Peer: peer, ToolVersion: version}
	if i.Config != "" {
		e.File, e.FileUnseen = lookAtFile(i)
		asking, cancel := context.WithTimeout(ctx, control.AnswerTimeout)
		defer cancel()
		if routes, err := client.Routes(asking); err != nil {
			e.RoutesUnseen = err.Error()
		} else if len(routes.Instances) > 0 {
			e.Routes = &routes.Instances[0]
		}
	}
	if why := otherNamespace(i.PID); why != "" {
		e.HostUnseen = why
	} else {
		e.Host = Look(i)
	}
	e.Probes, e.ProbesUnseen = probe(ctx, client, i, peer)
	return e
}

// lookAtFile reads the configuration as the next reload would.
func lookAtFile(i *control.Instance) (*File, string) {
	info, err := os.Stat(i.Config)
	if err != nil {
		return nil, err.Error()
	}
	f := &File{Changed: info.ModTime().After(i.ConfigLoaded.Time.Add(time.Second))}
	_, err = config.LoadByHand(i.Config)
	var faults config.Errors
	switch {
	case errors.As(err, &faults):
		for _, fault := range faults {
			f.Errors = append(f.Errors, fault.Error())
		}
	case err != nil:
		return nil, strings.TrimSpace(err.Error())
	}
	return f, ""
}

// otherNamespace says why this process cannot see the network of the instance, or "" if it can.
func otherNamespace(pid int) string {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err.Error()
	}
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "only root may know which network the instance is in (sudo tunctl doctor)"
	case err != nil:
		return err.Error()
	case own != its:
		return fmt.Sprintf("the instance is in another network namespace (sudo nsenter -t %d -n tunctl doctor)", pid)
	}
	return ""
}

// probe sends echo requests to the peers that are up, or to the one of interest.
func probe(ctx context.Context, c *control.Client, i *control.Instance, peer string) (probes []Probe, unseen string) {
	large := 0
	for _, d := range i.Devices {
		if d.Kind == "tun" {
			large = min(d.MTU, control.MaxPingSize)
		}
	}
	var targets []*control.Peer
	left := 0
	for n := range i.Peers {
		p := &i.Peers[n]
		switch {
		case p.State != control.StateUp || peer != "" && p.Name != peer || !slices.Contains(p.Capabilities, probeCap):
		case len(targets) == maxProbed:
			left++
		default:
			targets = append(targets, p)
		}
	}
	if left > 0 {
		unseen = fmt.Sprintf("only %d peers were probed, and %d were not (tunctl doctor PEER)", maxProbed, left)
	}
	probes = make([]Probe, len(targets))
	var group sync.WaitGroup
	for n, p := range targets {
		probes[n] = Probe{Peer: p.Name, Size: large}
		group.Go(func() { probeOne(ctx, c, p.PublicKey, &probes[n]) })
	}
	group.Wait()
	return probes, unseen
}

// probeOne fills in a probe.
func probeOne(ctx context.Context, c *control.Client, key string, p *Probe) {
	send := func(size int) bool {
		answer, err := c.Ping(ctx, control.PingRequest{Peer: key, Size: size, WaitS: probeWait.Seconds()})
		if err != nil {
			p.Unsupported = true
			return false
		}
		if answer.Reason != "" {
			p.Reason = answer.Reason
		}
		return answer.RTTS != nil
	}
	for range probeCount {
		p.Small++
		if send(probeSmall) {
			p.SmallBack++
		}
		if p.Size > 0 {
			p.Large++
			if send(p.Size) {
				p.LargeBack++
			}
		}
		if p.Unsupported {
			return
		}
	}
}
