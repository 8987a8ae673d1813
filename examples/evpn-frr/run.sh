#!/usr/bin/env bash
# A LAN in an EVPN fabric, of which a site behind tund becomes a part: FRR on the gateway announces
# the hosts of the site to the fabric and the other way round, also when they move. Needs FRR.
# shellcheck source=examples/lib.sh
. "$(dirname "$0")/../lib.sh"
frr=${FRR:-/usr/lib/frr}
for program in zebra bgpd; do
	[ -x "$frr/$program" ] || { echo "needs $frr/$program (Debian: frr)" >&2; exit 1; }
done

site berlin paris
namespace leaf
ip_at leaf link add br0 type bridge
ip_at leaf link set br0 up
start berlin paris
container leaf server 10.7.0.11/24
container paris app 10.7.0.3/24

# The fabric, which carries frames of 1550 bytes, so that hosts keep their MTU of 1500.
ip link add fabric netns "$(ns leaf)" type veth peer name fabric netns "$(ns berlin)"
number=0
for name in leaf berlin; do
	number=$((number + 1))
	ip_at $name address add 198.51.100.$number/24 dev fabric
	ip_at $name link set fabric mtu 1600 up
	# EVPN says where addresses are: the device itself learns nothing.
	ip_at $name link add vx0 type vxlan id 42 dstport 4789 local 198.51.100.$number nolearning
	ip_at $name link set vx0 mtu 1500 master br0 up
	at $name bridge link set dev vx0 learning off neigh_suppress on
done

chmod 711 "$work" # FRR has a user of its own; the keys are readable for root only
# routing NAME ADDRESS OTHER: zebra and bgpd of a namespace, with the file beside this script.
routing() {
	local name=$1 dir=$work/frr-$1
	mkdir "$dir"
	sed -e "s/198\.51\.100\.2/own/; s/198\.51\.100\.1/$3/; s/own/$2/" "$here/bgpd.conf" >"$dir/bgpd.conf"
	: >"$dir/zebra.conf"
	chown -R frr:frr "$dir"
	for program in zebra bgpd; do
		behind "$name" "$frr/$program" -f "$dir/$program.conf" -i "$dir/$program.pid" -z "$dir/zserv.api" \
			--vty_socket "$dir" -A 127.0.0.1 -P 0 --log "file:$dir/$program.log"
		await "start of $program in $name" test -S "$dir/$program.vty"
	done
}
routing leaf 198.51.100.1 198.51.100.2
routing berlin 198.51.100.2 198.51.100.1

mac() { at "$1" cat /sys/class/net/eth0/address; }
# behind_vtep NAME MAC: the gateway or leaf knows from EVPN that this address is at the other one.
behind_vtep() { at "$1" bridge fdb show br br0 | grep "^$2 dev vx0 .*extern_learn" >/dev/null; }
reaches server 10.7.0.3 -s 1472 -M "do"
reaches app 10.7.0.11
await "address of app at the leaf" behind_vtep leaf "$(mac app)"
await "address of server in Berlin" behind_vtep berlin "$(mac server)"
ok "the leaf knows from EVPN where app is, and Berlin where server is"
tunctl berlin fdb

# A virtual machine with an address of its own moves from the leaf to Paris, and back.
address=02:00:00:00:00:50
arrive() {
	container "$1" "$2" 10.7.0.50/24
	ip_at "$2" link set eth0 address $address
	at "$2" ping -n -c 1 -W 1 10.7.0.99 >/dev/null 2>&1 || true # it asks for somebody: all hear it
}
leave() { ip_at "$1" link del eth0; }
arrive leaf vm1
await "address of the machine in Berlin" behind_vtep berlin $address
reaches app 10.7.0.50
leave vm1
arrive paris vm2
await "address of the machine at the leaf" behind_vtep leaf $address
reaches server 10.7.0.50
reaches app 10.7.0.50
ok "the machine has moved from the leaf to Paris"
leave vm2
arrive leaf vm3
await "address of the machine in Berlin again" behind_vtep berlin $address
reaches app 10.7.0.50
reaches server 10.7.0.50
ok "the machine has moved back"
