#!/usr/bin/env bash
# VXLAN of the kernel over the TUN.
# shellcheck source=examples/lib.sh
. "$(dirname "$0")/../lib.sh"

site berlin paris
start berlin paris

# vxlan SITE LOCAL REMOTE: a bridge with a tunnel endpoint of the kernel.
vxlan() {
	ip_at "$1" link add vx0 type vxlan id 42 dstport 4789 local "$2" remote "$3" dev wg
	ip_at "$1" link add br0 type bridge
	ip_at "$1" link set vx0 master br0 up
	ip_at "$1" link set br0 up
}
vxlan berlin 10.9.0.1 10.9.0.2
vxlan paris 10.9.0.2 10.9.0.1
container berlin web 10.7.0.1/24
container paris app 10.7.0.3/24
# 1420 of the TUN less 50 of VXLAN. Every host of the LAN has to know.
for name in web app; do ip_at $name link set eth0 mtu 1370; done

reaches web 10.7.0.3
reaches app 10.7.0.1 -s 1342 -M "do"
