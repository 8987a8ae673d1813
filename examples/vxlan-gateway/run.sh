#!/usr/bin/env bash
# A LAN of two hosts with VXLAN, of which a third site, behind tund, becomes a part: with a list of
# where to flood, and with a multicast group.
# shellcheck source=examples/lib.sh
. "$(dirname "$0")/../lib.sh"

site berlin paris
start berlin paris
container paris app 10.7.0.3/24

# The fabric: a switch to which Berlin and the two other ends of VXLAN are connected. It carries
# frames of 1550 bytes, so that hosts keep their MTU of 1500.
namespace fabric
ip_at fabric link add net type bridge mcast_snooping 0
ip_at fabric link set net up
vtep() { # vtep NAME ADDRESS: connects an end of VXLAN
	ip link add "to-$1" netns "$(ns fabric)" type veth peer name fabric netns "$(ns "$1")"
	ip_at fabric link set "to-$1" mtu 1600 master net up
	ip_at "$1" address add "$2/24" dev fabric
	ip_at "$1" link set fabric mtu 1600 up
}
vtep berlin 198.51.100.1
number=1
for name in rack1 rack2; do
	number=$((number + 1))
	namespace $name
	vtep $name 198.51.100.$number
	ip_at $name link add br0 type bridge
	ip_at $name link set br0 up
done
container rack1 server1 10.7.0.11/24
container rack2 server2 10.7.0.12/24

# plug NAME: makes the VXLAN device a port of the bridge.
plug() { ip_at "$1" link set vx0 mtu 1500 master br0 up; }
# static NAME LOCAL REMOTE…: frames to all go to each of a list of ends.
static() {
	local name=$1 own=$2 remote
	shift 2
	ip_at "$name" link add vx0 type vxlan id 42 dstport 4789 local "$own"
	plug "$name"
	for remote in "$@"; do at "$name" bridge fdb append 00:00:00:00:00:00 dev vx0 dst "$remote"; done
}
# group NAME LOCAL: frames to all go to a multicast group.
group() {
	ip_at "$1" link add vx0 type vxlan id 42 dstport 4789 local "$2" group 239.1.1.1 dev fabric ttl 4
	plug "$1"
}
every_way() {
	reaches app 10.7.0.11
	reaches app 10.7.0.12 -s 1472 -M "do"
	reaches server1 10.7.0.3 -s 1472 -M "do"
	reaches server2 10.7.0.11
}

echo "-- a list of where to flood (bridge fdb append)"
static berlin 198.51.100.1 198.51.100.2 198.51.100.3
static rack1 198.51.100.2 198.51.100.1 198.51.100.3
static rack2 198.51.100.3 198.51.100.1 198.51.100.2
every_way
# An address that is known need not be learned.
mac=$(at server1 cat /sys/class/net/eth0/address)
at berlin bridge fdb replace "$mac" dev vx0 dst 198.51.100.2 self static
reaches app 10.7.0.11
tunctl berlin fdb

echo "-- a multicast group"
for name in berlin rack1 rack2; do ip_at $name link del vx0; done
group berlin 198.51.100.1
group rack1 198.51.100.2
group rack2 198.51.100.3
every_way

# Frames of one LAN come to Paris once: from VXLAN to the TAP, and not back from the TAP to VXLAN.
duplicates=$(at app ping -n -c 5 -i 0.2 -W 2 10.7.0.12 | grep -c 'DUP!' || true)
[ "$duplicates" = 0 ] || die "$duplicates answers came twice"
ok "no frame is there twice"
