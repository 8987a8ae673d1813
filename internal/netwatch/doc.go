// Package netwatch receives the kernel's notifications about its network configuration: links,
// addresses, routes, rules and nftables tables.
//
// It has three parts. A [Source] is one netlink socket and delivers each message as a [Notice];
// package route uses it to restore what others remove. [Follow] watches one device, even after it
// was moved to another network namespace. [FollowBridge] reads which stations a bridge has at the
// other ports than one.
//
// It changes nothing in the kernel, except that Follow gives a namespace that it has to hear from
// a number, as `ip link set … netns` does, and that FollowBridge on request makes the bridge forget
// what it has learned at one port. It does not decide what a change means: that is up to its
// callers.
//
// Sources: netlink(7), rtnetlink(7), network_namespaces(7), and the kernel headers
// linux/rtnetlink.h, linux/if_link.h, linux/fib_rules.h, linux/neighbour.h and
// linux/netfilter/nf_tables.h; net/bridge/br_fdb.c.
package netwatch
