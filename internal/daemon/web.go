package daemon

import (
	"context"
	"slices"
	"time"

	"tund/internal/control"
	"tund/internal/desired"
	"tund/internal/doctor"
	"tund/internal/statusview"
	"tund/internal/web"
)

// healthEvery is how often the loops of the tunnel are checked for progress.
const healthEvery = 5 * time.Second

// openWeb begins to listen where the configuration says so. Here, as after a reload, an address
// that cannot be used is a warning in status, and is tried again.
func (d *Daemon) openWeb(context.Context) error {
	d.site = web.New(webSource{d}, d.log)
	d.door = web.NewDoor(d.site)
	d.undo.push(d.door.Close)
	d.door.Open(d.config.Metrics)
	_ = d.noteWeb()
	return nil
}

// noteWeb has status show why the address of metrics cannot be used, and returns it; nil: it can.
func (d *Daemon) noteWeb() error {
	var list []statusview.Problem
	err := d.door.Failure()
	if err != nil {
		list = []statusview.Problem{{Kind: statusview.KindMetrics, Subject: d.door.String(), Message: err.Error()}}
	}
	d.problems.Renew(list, statusview.KindMetrics)
	return err
}

// watchLoops notes which loops of the tunnel make no progress, until ctx ends.
func (d *Daemon) watchLoops(ctx context.Context) {
	checkLoops(ctx, healthEvery, d.tunnel.Pulse, func(stuck []string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.stuck = stuck
	})
}

// webSource is the instance as package web sees it.
type webSource struct{ d *Daemon }

// Sample implements web.Source.
func (w webSource) Sample() web.Sample {
	d := w.d
	s := web.Sample{
		Version: d.process.Version, Started: d.process.Started, Tunnel: d.tunnel.Overview(), Peers: d.tunnel.Glances,
		Up: make(map[string]bool), Problems: make(map[string]int), Switch: d.tunnel.EthernetLoad(),
	}
	for _, p := range d.problems.All() {
		s.Problems[p.Kind]++
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Name, s.Loaded, s.Refused, s.Lanes = d.config.Instance, d.loaded, d.reloadError != "", desired.Lanes(d.config)
	for name, l := range d.links {
		s.Up[name] = l.Up
	}
	return s
}

// Health implements web.Source.
func (w webSource) Health() web.Health {
	d := w.d
	h := web.Health{Summary: d.summary()}
	for _, p := range d.problems.All() {
		if p.Kind == statusview.KindNetwork {
			h.NotReady = append(h.NotReady, "the network configuration is incomplete: "+p.Message)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	h.Stuck = slices.Clone(d.stuck)
	for name, l := range d.links {
		if !l.Up {
			h.NotReady = append(h.NotReady, "device "+name+" is down")
		}
	}
	slices.Sort(h.NotReady)
	return h
}

// Instance implements web.Source.
func (w webSource) Instance() control.Instance { return tunctl(w).Status() }

// Evidence implements web.Source.
func (w webSource) Evidence(i *control.Instance) *doctor.Evidence {
	e := &doctor.Evidence{Now: time.Now(), Instance: i, Host: doctor.Look(i)}
	routes, err := tunctl(w).Routes()
	if err != nil {
		e.RoutesUnseen = err.Error()
	} else {
		e.Routes = &routes
	}
	return e
}

// Traffic implements web.Source.
func (w webSource) Traffic() (rx, tx uint64) {
	devices := w.d.tunnel.Overview().Devices
	for n := range devices {
		rx, tx = rx+devices[n].RxBytes, tx+devices[n].TxBytes
	}
	return rx, tx
}
