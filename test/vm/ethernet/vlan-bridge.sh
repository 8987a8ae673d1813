#!/usr/bin/env bash
# VLAN-aware bridges with spanning tree at both ends of a trunk: hosts at access ports of the
# bridge, a host with 8021q devices at a trunk port, TCP in superpackets with a tag.
EXAMPLE=vlan-trunk
# shellcheck source=examples/lib.sh
. /opt/examples/lib.sh

site berlin paris rome
for name in berlin paris; do
	ip_at "$name" link add br0 type bridge vlan_filtering 1 stp_state 1 forward_delay 200 hello_time 100
	ip_at "$name" link set br0 up
done
start berlin paris rome
# has SITE VLANS…: the port of the TAP, which is named after the instance, has these VLANs, beside
# that of untagged frames.
tagged() { bridge -n "$(ns "$1")" vlan show dev "$1" | grep -o '[0-9]\+$' | xargs; }
has_now() { [ "$(tagged "$1")" = "$2" ]; }
has() {
	local site=$1
	shift
	await "VLANs $* at the port of $site, which has $(tagged "$site")" has_now "$site" "$*"
	ok "the port of $site has VLANs $*"
}
for name in berlin paris; do has "$name" 10 20; done

# access SITE NAME VLAN ADDRESS: a container at an access port.
access() {
	container "$1" "$2" "$4"
	bridge -n "$(ns "$1")" vlan del dev "to-$2" vid 1
	bridge -n "$(ns "$1")" vlan add dev "to-$2" vid "$3" pvid untagged
}
access berlin a10 10 10.10.0.1/24
access paris b10 10 10.10.0.2/24
access berlin a20 20 10.20.0.1/24
access paris b20 20 10.20.0.2/24
# The same subnet as VLAN 10, but in 20: reached by nobody there.
access paris wrong 20 10.10.0.66/24
container berlin trunk
for v in 10 20; do
	bridge -n "$(ns berlin)" vlan add dev to-trunk vid $v
	ip_at trunk link add link eth0 name eth0.$v type vlan id $v
	ip_at trunk address add 10.$v.0.9/24 dev eth0.$v
	ip_at trunk link set eth0.$v up
done
container rome c 10.10.0.3/24

reaches a10 10.10.0.2
reaches a20 10.20.0.2
reaches trunk 10.10.0.2
reaches trunk 10.20.0.2
reaches b10 10.10.0.9 -s 1472 -M "do"
reaches a10 10.10.0.3
unreached a10 10.10.0.66
unreached b10 10.10.0.66

behind trunk iperf3 -s -1 --forceflush >"$work/iperf-server.log" 2>&1
await "iperf3 server" grep -q listening "$work/iperf-server.log"
at b20 iperf3 -c 10.20.0.9 -t 2 -f m >"$work/iperf.log" 2>&1 || die "TCP through the trunk"
ok "TCP through the trunk: $(awk '/receiver/ { print $7, $8 }' "$work/iperf.log")"

bpdus=$(tunctl berlin status --json | tr ",{}" "\n" | sed -n 's/.*"bpdu": *\([0-9]*\).*/\1/p' | sort -n | tail -n 1)
[ "${bpdus:-0}" -gt 0 ] || die "no spanning tree frame was kept on its side"
ok "$bpdus spanning tree frames stayed in Berlin"

# The kernel forgets the VLANs with the TAP: a start gives them back, whatever ended the last run.
again() {
	ip netns exec "$(ns paris)" "$tund" -c "$work/paris.toml" >"$work/paris.log" 2>&1 &
	pids+=($!)
	await "start of paris" tunctl paris status
}
paris=$(tunctl paris status --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' | head -n 1)
kill "$paris"
while kill -0 "$paris" 2>/dev/null; do sleep 0.1; done
again
has paris 10 20
reaches a10 10.10.0.2
paris=$(tunctl paris status --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' | head -n 1)
kill -KILL "$paris"
while kill -0 "$paris" 2>/dev/null; do sleep 0.1; done
again
has paris 10 20
reaches a20 10.20.0.2
tunctl paris reload
has paris 10 20
bridge -n "$(ns paris)" vlan add dev paris vid 30 # by somebody else
sed -i 's/^bridge .*/&\nbridge_vlans = [10]\nbridge_pvid = 0/' "$work/paris.toml"
tunctl paris reload
has paris 10 30
! bridge -n "$(ns paris)" vlan show dev paris | grep -q PVID || die "a VLAN is untagged at the port"
reaches a10 10.10.0.2
sed -i '/^bridge_/d' "$work/paris.toml"
tunctl paris reload
has paris 10 20 30
reaches a20 10.20.0.2
