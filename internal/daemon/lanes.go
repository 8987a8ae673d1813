package daemon

import (
	"runtime"

	"tund/config"
)

// maxLanes bounds the automatic number of lanes: more sockets on one port only help with many
// peers.
const maxLanes = 8

// laneCount is how many lanes to run. One lane is two busy threads, so two cores are full with one.
func laneCount(c *config.Config) int {
	if c.Tunnel.Lanes > 0 {
		return c.Tunnel.Lanes
	}
	return min(max(runtime.NumCPU()/2, 1), maxLanes)
}
