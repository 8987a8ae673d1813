package acquire

import (
	"fmt"

	"tund/config"
	"tund/tunnel/tundev"
)

// Gone explains why the device of a name is no longer where it was: the error by which an instance
// of the configuration c ends. by is the process that has done it, in words.
func Gone(c *config.Config, devices []*tundev.Device, name, by string) error {
	how := "was deleted by " + by
	for _, dev := range devices {
		switch now := dev.Name(); {
		case dev.Kind() == tundev.TUN && (c.Tun == nil || name != c.Tun.Device),
			dev.Kind() == tundev.TAP && (c.Tap == nil || name != c.Tap.Device):
		case now == name:
			how = "was moved to another network namespace by " + by
		case now != "":
			how = "was renamed to " + now + " by " + by
		}
	}
	return fmt.Errorf("device %s %s: start the instance again to have it back", name, how)
}
