package main

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

	"github.com/spf13/cobra"

	"tund/config"
	"tund/internal/control"
	"tund/internal/doctor"
)

// Exit codes of doctor, beyond those that every verb has.
const (
	exitWarnings = 4
	exitProblems = 5
)

// What doctor may cost: how many peers it probes, and how.
const (
	maxProbed  = 8
	probeCount = 3 // requests of each size
	probeSmall = 64
	probeWait  = 2 * time.Second
	probeCap   = "echo" // the capability of peers that answer
)

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor [PEER]",
		Short: "Explain what is wrong: cause, evidence and remedy",
		Long: `Run every check of instances, of this host and of the paths to peers that are up, and explain what is wrong: the cause, what
was seen, and what to do about it. With PEER look at that peer only. Root sees more: what could not be looked at is said.
The exit code is 0 when all is well, 4 for warnings, 5 for problems.`,
		Example: `  sudo tunctl doctor
  sudo tunctl doctor berlin
  tunctl doctor --json | jq '.instances[].findings[] | select(.severity == "problem")'`,
		SuggestFor:        []string{"diagnose", "why", "health", "troubleshoot", "debug"},
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completePeer,
		RunE: a.do(func(cmd *cobra.Command, args []string) error {
			return a.doctor(cmd.Context(), strings.Join(args, ""))
		}),
	}
	cmd.Flags().BoolVar(&a.json, "json", false, "one JSON document, schema "+doctor.Schema)
	cmd.Flags().BoolVarP(&a.all, "all", "a", false, "show also the checks that found nothing")
	return cmd
}

// doctor examines all instances, or those with the peer.
func (a *app) doctor(ctx context.Context, peer string) error {
	page, err := a.newPage()
	if err != nil {
		return err
	}
	clients, err := a.clients()
	if err != nil {
		return err
	}
	answers, failures := gather(ctx, clients, func(ctx context.Context, c *control.Client) (control.Status, error) { return c.Status(ctx) })
	var instances []control.Instance
	for _, answer := range answers {
		instances = append(instances, answer.Instances...)
	}
	names := make([]string, len(instances)) // the peer of interest in each
	if peer != "" && len(instances) > 0 {
		found, err := selectPeer(instances, peer)
		if err != nil {
			return err
		}
		// The whole instance is examined, and what is about other peers is left out.
		instances = slices.DeleteFunc(instances, func(i control.Instance) bool {
			return !slices.ContainsFunc(found, func(f control.Instance) bool { return f.Name == i.Name })
		})
		for n := range found {
			names[n] = found[n].Peers[0].Name
		}
	}
	document := doctor.Document{Schema: doctor.Schema, Instances: []doctor.Report{}}
	worst := doctor.OK
	for n := range instances {
		r := doctor.Examine(a.evidence(ctx, &instances[n], names[n]))
		document.Instances = append(document.Instances, r)
		if r.Worst.Worse(worst) {
			worst = r.Worst
		}
	}
	if a.json {
		err = a.printJSON(document)
	} else {
		page.Doctor(document.Instances)
		err = a.show(page)
	}
	if err != nil {
		return err
	}
	if err := a.report(failures); err != nil {
		return err
	}
	switch worst {
	case doctor.Problem:
		return &reported{exitProblems}
	case doctor.Warning:
		return &reported{exitWarnings}
	}
	return nil
}

// evidence collects what there is to know about an instance.
func (a *app) evidence(ctx context.Context, i *control.Instance, peer string) *doctor.Evidence {
	client := control.NewClient(a.env.runDir, i.Name)
	e := &doctor.Evidence{Now: a.env.now(), Instance: i, Peer: peer, ToolVersion: version}
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
		e.Host = doctor.Look(i)
	}
	e.Probes, e.ProbesUnseen = a.probe(ctx, client, i, peer)
	return e
}

// lookAtFile reads the configuration as the next reload would.
func lookAtFile(i *control.Instance) (*doctor.File, string) {
	info, err := os.Stat(i.Config)
	if err != nil {
		return nil, err.Error()
	}
	f := &doctor.File{Changed: info.ModTime().After(i.ConfigLoaded.Time.Add(time.Second))}
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
func (a *app) probe(ctx context.Context, c *control.Client, i *control.Instance, peer string) (probes []doctor.Probe, unseen string) {
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
	probes = make([]doctor.Probe, len(targets))
	var group sync.WaitGroup
	for n, p := range targets {
		probes[n] = doctor.Probe{Peer: p.Name, Size: large}
		group.Go(func() { probeOne(ctx, c, p.PublicKey, &probes[n]) })
	}
	group.Wait()
	return probes, unseen
}

// probeOne fills in a probe.
func probeOne(ctx context.Context, c *control.Client, key string, p *doctor.Probe) {
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
