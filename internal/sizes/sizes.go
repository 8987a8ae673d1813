// Package sizes states, once each, the sizes in bytes that a tunnel for IP has to take into
// account. It decides nothing: package tunnel and internal/daemon derive MTUs and packet sizes from
// them.
package sizes

const (
	// MinIPv6MTU is the least MTU of any link that carries IPv6 (RFC 8200 §5). Below it the kernel
	// turns IPv6 off on a device, and no report of a smaller path is to be believed.
	MinIPv6MTU = 1280

	// Overhead is what WireGuard adds to an inner packet on its way over IPv6: 40 for the outer
	// header, 8 for UDP, 16 for the header of a transport message and 16 for its tag (whitepaper
	// §5.4.6). wg-quick(8) takes as much off the MTU of an IPv4 path, where 60 would do, and so
	// does tund, so that a peer may move between both.
	Overhead = 40 + 8 + 16 + 16
)
