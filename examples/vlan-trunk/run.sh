#!/usr/bin/env bash
# A VLAN trunk between Berlin and Paris, and an access port in Rome, filtered per peer. Needs a
# kernel with 8021q.
# shellcheck source=examples/lib.sh
. "$(dirname "$0")/../lib.sh"

site berlin paris rome
start berlin paris rome
container berlin a
container paris b
container rome c 10.10.0.3/24 10.20.0.3/24

# vlan CONTAINER VLAN ADDRESS: a device for a VLAN inside a container.
vlan() {
	ip_at "$1" link add link eth0 name "eth0.$2" type vlan id "$2" || die "this kernel has no 8021q"
	ip_at "$1" address add "$3" dev "eth0.$2"
	ip_at "$1" link set "eth0.$2" up
}
for v in 10 20 30; do
	vlan a $v 10.$v.0.1/24
	vlan b $v 10.$v.0.2/24
done

reaches a 10.10.0.2
reaches a 10.20.0.2
unreached a 10.30.0.2 # a VLAN that is not on the trunk
reaches a 10.10.0.3   # Rome, without a tag
unreached a 10.20.0.3 # Rome has VLAN 10 only
unreached b 10.10.0.3 # from peer to peer nothing passes without hub = true
reaches a 10.10.0.2 -s 1472 -M "do"
tunctl berlin fdb
