package daemon

import (
	"strings"

	"tund/internal/control"
)

// Routes compares what the instance wants in the kernel with what is there now (control.Backend).
func (d *Daemon) Routes() (control.RouteInstance, error) {
	d.mu.Lock()
	out := control.RouteInstance{Name: d.config.Instance}
	d.mu.Unlock()
	items, warnings, err := d.routes.Inspect()
	if err != nil {
		return out, err
	}
	out.Warnings = warnings
	for _, i := range items {
		kind, object, _ := strings.Cut(i.Object, " ")
		out.Objects = append(out.Objects, control.RouteObject{Kind: kind, Object: object, State: string(i.Standing)})
	}
	return out, nil
}
