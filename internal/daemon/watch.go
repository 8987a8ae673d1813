package daemon

import (
	"context"
	"strings"

	"go.uber.org/zap"

	"tund/route"
)

// watch follows the kernel: what somebody took from us has been put back and is told, and what changed under the
// tunnel makes it find its way anew.
func (d *Daemon) watch(ctx context.Context) {
	err := d.routes.Watch(ctx, func(e route.Event) { d.kernelChanged(ctx, e) })
	if err != nil && ctx.Err() == nil {
		d.log.Error("cannot watch the kernel: changes of routes and addresses go unnoticed", zap.Error(err))
	}
}

func (d *Daemon) kernelChanged(ctx context.Context, e route.Event) {
	if len(e.Lost) > 0 {
		by := e.By
		if by == "" {
			by = "somebody"
		}
		d.log.Warn("routes of ours were removed and put back", zap.String("by", by), zap.Strings("lost", e.Lost), zap.Error(e.Err))
		d.mu.Lock()
		if e.Err != nil {
			d.note("network", by, "removed "+strings.Join(e.Lost, ", ")+": "+e.Err.Error())
		} else {
			delete(d.problems, "network/"+by)
		}
		d.mu.Unlock()
	}
	if e.Underlay {
		d.tunnel.UnderlayChanged()
		d.followPath(ctx)
	}
}

// followPath makes an automatic MTU follow the path to the endpoints.
func (d *Daemon) followPath(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.config.Tun == nil || d.config.Tun.MTU != 0 {
		return
	}
	if mtu := tunMTU(d.config, literalEndpoints(d.config), d.applied.FwMark); mtu != d.mtu {
		d.log.Info("path MTU changed", zap.Int("mtu", mtu), zap.Int("was", d.mtu))
		if err := d.applyRoutes(ctx); err != nil {
			d.log.Warn("network not as wanted", zap.Error(err))
		}
	}
}
