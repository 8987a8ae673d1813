package desired

import (
	"runtime"

	"tund/config"
)

// maxLanes bounds the automatic number of lanes: more sockets on one port only help with many
// peers.
const maxLanes = 8

// Lanes is the number of lanes to run. One lane is two busy threads, which fill two cores.
func Lanes(c *config.Config) int {
	if c.Tunnel.Lanes > 0 {
		return c.Tunnel.Lanes
	}
	return min(max(runtime.NumCPU()/2, 1), maxLanes)
}
