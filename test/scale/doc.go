// Package scale runs a network of many sites: a cluster of etcd with three members, TLS in both
// directions and a user for each site; the agent of each site, all in the process of the test; and
// beside each agent either a daemon that takes what the agent hands in and checks it, or, for three
// of the sites, a real tund in a network namespace, with traffic.
//
// It breaks what can break: members, the whole cluster, the way to it, certificates, the quota, the
// data of the cluster, and the daemons. After each fault, what each daemon has is compared with
// what follows from the signed documents: that and nothing else counts.
//
// Then it has an adversary write, replay, swap, mutate, delete and end what he likes, for
// TUND_TEST_SCALE_HOSTILE (30s), beside a real agent, whose memory is bounded.
//
// It has tests only, which `make scale` runs. The number of sites is TUND_TEST_SCALE. All agents
// share the processors of the machine with etcd, so the times say what this machine takes for all
// of them, not how long a site waits whose agent has a host of its own.
package scale
