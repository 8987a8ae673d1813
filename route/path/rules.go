package path

import "net/netip"

// PrivateDestinations may leave by the main table in a full tunnel: RFC 1918, RFC 3927, RFC 4193,
// RFC 4291 §2.5.6.
func PrivateDestinations(v6 bool) []netip.Prefix {
	if v6 {
		return []netip.Prefix{netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10")}
	}
	return []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("169.254.0.0/16"),
	}
}

// StoredMetric is the metric under which the kernel keeps a route: IPv6 turns 0 into
// IP6_RT_PRIO_USER.
func StoredMetric(dst netip.Prefix, metric uint32) uint32 {
	if metric == 0 && dst.Addr().Is6() {
		return 1024
	}
	return metric
}
