// Command bench measures VPN programs side by side on this machine and prints what came out.
//
// Every contender carries the same flows between the same two network namespaces, one contender
// after the other, in several rounds whose order varies. Absolute figures drift on a shared
// machine; the ratio of two contenders inside one round drifts far less, so the report is built on
// per-round ratios. Each round also measures a bare veth (the control), the CPU that others used
// just before, and the time stolen by the hypervisor; a round that these show to be disturbed is
// left out by a rule fixed beforehand (see guard in guard.go).
//
// It needs root, iproute2, iperf3 and wireguard-tools, and it builds the contenders that come from
// the Go module proxy by itself into dist/bench-bin. It deliberately does not tune anything: no
// sysctl of the host is touched, no process is pinned, no queue length changed. Every TCP flow asks
// for cubic.
//
// The program runs itself again inside a namespace for what iperf3 cannot do (see worker.go). What
// generates and counts datagrams is that of `tunctl bench` (internal/linkbench/traffic). Two things
// are not shared, because they measure something else. TCP flows are iperf3's here, so that others
// can compare our figures with theirs, whereas tunctl has to work without another program. And
// pings are sent here whether answers come or not, because they are measured beside a load, whereas
// those of tunctl, on an idle device, wait for each other.
//
// Usage: make bench [ROUNDS=5] [T=5] [CASES=tcp1,…] [CONTENDERS=tund,…] [LINK=veth|nic|veth,nic]
// [STORE=FILE]
package main
