// Package netwatch receives the kernel's notifications about its network configuration: links,
// addresses, routes, rules and nftables tables.
//
// It has two parts. A [Source] is one netlink socket and delivers each message as a [Notice];
// package route uses it to restore what others remove. [Follow] watches one device, even after it
// was moved to another network namespace.
//
// It changes nothing in the kernel, except that Follow gives a namespace that it has to hear from
// a number, as `ip link set … netns` does. It does not decide what a change means: that is up to
// its callers.
//
// Sources: netlink(7), rtnetlink(7), network_namespaces(7), and the kernel headers
// linux/rtnetlink.h, linux/if_link.h, linux/fib_rules.h and linux/netfilter/nf_tables.h.
package netwatch
