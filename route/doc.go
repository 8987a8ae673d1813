// Package route configures in the kernel the network that an instance of tund needs: addresses, MTU
// and link state of its devices, routes, policy routing for full tunnels, and the bridge of a TAP.
//
// The caller passes a complete State. Manager.Apply reads what the kernel has, applies the
// difference (it adds before it removes, and continues after single failures) and returns what was
// reached. No commands are executed, and applying the same State again changes nothing.
//
// # Marks
//
// Whatever tund puts into the kernel carries a mark of its owner, so that Cleanup finds it after a
// SIGKILL without any file on disk. Package mark has them all.
//
// # Guards
//
// The kernel drops a route with its device, that is, when the process was killed or is being
// replaced, and what went through the tunnel would then take the default route, in the clear. So
// every Route has an unreachable route to the same destination behind it, of a metric that is worse
// than any other, unless State.Guard is GuardOff. Close removes the guards; Leave, for an instance
// that ended by a failure or will start again, does not. A network that the host itself is in is
// not affected: its own route has a better metric.
//
// # Full tunnel
//
// A Route to 0.0.0.0/0 or ::/0 with Table 0 never enters the main table. It goes to the
// instance's own table T, and rules lead there what does not carry our mark M (our own packets go
// on to main). For each address family:
//
//	31168: from 203.0.113.0/24 to 203.0.113.0/24 lookup main suppress_prefixlength 0
//	31170: to 10.0.0.0/8 lookup main suppress_prefixlength 0    (and the other private ranges)
//	31171: not fwmark M lookup T
//
// The first is there for each public network that the host is in, and lets it answer its neighbours
// there, the router among them. Without it, strict reverse path filtering (rp_filter=1) drops even
// their ARP requests, which carry no mark. It matches only what is bound to the host's own address
// in that network: what a program sends of its own accord has no source address yet when its route
// is looked up, and goes into the tunnel, whatever network a DHCP server claims to be the local
// one.
//
// T ends in an unreachable default route of the highest metric, the fence. Without it, a lookup
// would go on to main as soon as the device and its routes are gone, that is, when the process
// was killed, and traffic would leave in the clear. Close removes it; Leave does not. While it
// stands, programs that bind their sockets to another interface reach private destinations only.
//
// The mark on our UDP packets is the only exception from the tunnel: a route to the endpoint's
// address would let everything else to that address leave in the clear (TunnelCrack,
// CVE-2023-36673). wg-quick lets every route of main except the default win over the tunnel. A
// DHCP server that hands out 0.0.0.0/1 and 128.0.0.0/1 then takes all traffic (TunnelVision,
// CVE-2024-3661), and a LAN numbered with somebody else's public addresses takes that part
// (TunnelCrack, CVE-2023-36672). So here only private and link-local destinations may leave by
// main, unless State.LocalNetworks says LocalAll. Packets to a tunnel address that arrive on
// another interface from a non-local source are dropped (CVE-2019-14899).
//
// # Not here
//
// Opening devices (tunnel/tundev), choosing allowed IPs (config), DNS (internal/resolved), the
// rules of nftables (route/firewall), sysctls (route/sysctl), reading what the kernel announces
// (internal/netwatch).
//
// # Concurrency
//
// A Manager is safe for concurrent use: one mutex, held for a whole Apply. All kernel handles are
// opened by New, in the network namespace of the calling thread, and stay there.
//
// Sources: rtnetlink(7), ip-rule(8), nft(8), wg-quick(8), kernel
// Documentation/networking/ip-sysctl.rst.
package route
