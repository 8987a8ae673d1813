#!/usr/bin/env bash
# Geneve of the kernel over the TUN.
EXAMPLE=vxlan-over-tun
# shellcheck source=examples/lib.sh
. /opt/examples/lib.sh

site berlin paris
start berlin paris
for pair in berlin:10.9.0.2 paris:10.9.0.1; do
	name=${pair%:*}
	ip_at "$name" link add gnv0 type geneve id 7 remote "${pair#*:}"
	ip_at "$name" link add br0 type bridge
	ip_at "$name" link set gnv0 master br0 up
	ip_at "$name" link set br0 up
done
container berlin web 10.7.0.1/24
container paris app 10.7.0.3/24
for name in web app; do ip_at $name link set eth0 mtu 1370; done
reaches web 10.7.0.3
reaches app 10.7.0.1 -s 1342 -M "do"
