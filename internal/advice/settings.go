package advice

import (
	"net/netip"
	"slices"

	"go.uber.org/zap"

	"tund/config"
	"tund/internal/hostcheck"
)

// settings are the settings of the kernel that a configuration asks for and somebody may switch
// off, with whether each is on. The kernel does not announce that.
type settings struct{ forward4, forward6, validMark bool }

// checkSettings has settings switched on again that the configuration needs and that were on at the
// last check. One that never was on could not be, which package route says.
func (a *Adviser) checkSettings(c *config.Config, host hostcheck.Host) {
	was, is := a.settings, settings{host.Forward4, host.Forward6, host.ValidMark}
	a.settings = is
	if c.Tun == nil {
		return
	}
	switch {
	case c.Tun.Forward && was.forward4 && !is.forward4:
		a.switchOn("net.ipv4.ip_forward")
	case c.Tun.Forward && was.forward6 && !is.forward6:
		a.switchOn("net.ipv6.conf.all.forwarding")
	case was.validMark && !is.validMark && fullTunnel4(c):
		a.switchOn("net.ipv4.conf.all.src_valid_mark")
	}
}

func (a *Adviser) switchOn(setting string) {
	a.Log.Info("another program has switched off a setting that the configuration needs; it is switched on again", zap.String("sysctl", setting))
	a.Reapply()
}

// fullTunnel4 reports whether a configuration leads all of IPv4 into the tunnel by rules, for which
// the kernel has to regard marks.
func fullTunnel4(c *config.Config) bool {
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	return c.Tun.Routes && c.Tun.Table == 0 && slices.ContainsFunc(c.Peers, func(p config.Peer) bool { return slices.Contains(p.AllowedIPs, all) })
}
