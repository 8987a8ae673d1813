#!/usr/bin/env bash
# Bonds: a host with a leg at each of two sites, seen from a third one while it changes legs, with
# each policy for its MAC address; and LACP between two hosts that are alone at their ends, through
# a tunnel that is like a cable.
EXAMPLE=three-sites-mesh
# shellcheck source=examples/lib.sh
. /opt/examples/lib.sh

site berlin paris rome
start berlin paris rome
container rome watcher 10.7.0.9/24
namespace server
for where in berlin paris; do
	ip link add leg netns "$(ns "$where")" type veth peer name "$where" netns "$(ns server)"
	ip_at "$where" link set leg master br0 up
done

# pause_of ACTION…: the longest time between two answers of the server while something is done.
pause_of() {
	at watcher ping -n -D -i 0.05 -w 6 10.7.0.50 >"$work/ping.log" 2>&1 &
	local ping=$!
	sleep 1
	"$@"
	wait "$ping" || true
	sed -n 's/^\[\([0-9.]*\)\].*bytes from.*/\1/p' "$work/ping.log" |
		awk 'NR > 1 && $1 - last > most { most = $1 - last } { last = $1 } END { printf "%.2f\n", NR ? most : 99 }'
}

worst=0
active() { at server cat /sys/class/net/bond0/bonding/active_slave; }
for policy in none active follow; do
	ip_at server link add bond0 type bond mode active-backup miimon 50 fail_over_mac $policy
	for leg in berlin paris; do
		ip_at server link set $leg down
		ip_at server link set $leg master bond0
	done
	ip_at server address add 10.7.0.50/24 dev bond0
	ip_at server link set bond0 up
	reaches watcher 10.7.0.50
	for way in "to the other leg" "and back"; do
		from=$(active)
		seconds=$(pause_of ip_at "$from" link set leg down)
		ip_at "$from" link set leg up
		[ "$(active)" != "$from" ] || die "the bond stays with its leg in $from"
		awk "BEGIN { exit !($seconds < 3) }" || die "fail_over_mac $policy, $way: no answer for $seconds s"
		ok "fail_over_mac $policy, $way: no answer for $seconds s"
		worst=$(printf '%s\n' "$worst" "$seconds" | sort -n | tail -n 1)
		sleep 1
	done
	ip_at server link delete bond0
	at watcher ip neigh flush dev eth0
done

# cable NAME OTHER ADDRESS: an instance of its own, with a bridge of its own and a host behind it.
cable() {
	ip_at "$1" link add br1 up type bridge
	cat >"$work/c-$1.toml" <<TOML
[tunnel]
private_key_file = "c-$1.key"
listen_port = 51821

[tap]
device = "cable0"
bridge = "br1"
transparent = ["lacp"]
learning = false

[[peer]]
name = "other"
public_key = "$("$tunctl_program" pubkey <"$work/c-$2.key")"
endpoint = "$3:51821"
ethernet = true
TOML
	chmod 600 "$work/c-$1.toml"
	ip netns exec "$(ns "$1")" "$tund" -c "$work/c-$1.toml" >"$work/c-$1.log" 2>&1 &
	pids+=($!)
	await "start of the cable in $1" tunctl "c-$1" status
	namespace "end-$1"
	ip link add to-end netns "$(ns "$1")" type veth peer name eth0 netns "$(ns "end-$1")"
	ip_at "$1" link set to-end master br1 up
	for port in cable0 to-end; do ip_at "$1" link set $port type bridge_slave group_fwd_mask 0x4; done
	ip_at "end-$1" link add bond0 type bond mode 802.3ad miimon 50 lacp_rate fast
	ip_at "end-$1" link set eth0 master bond0
	ip_at "end-$1" link set bond0 up
}

for name in berlin paris; do (umask 077 && "$tunctl_program" genkey >"$work/c-$name.key"); done
cable berlin paris 192.0.2.2
cable paris berlin 192.0.2.1
ip_at end-berlin address add 10.8.0.1/24 dev bond0
ip_at end-paris address add 10.8.0.2/24 dev bond0
# partners: each has negotiated with the other.
partners() {
	local mine theirs
	mine=$(at end-berlin cat /sys/class/net/bond0/bonding/ad_partner_mac)
	theirs=$(at end-paris cat /sys/class/net/bond0/address)
	[ "$mine" = "$theirs" ]
}
await "LACP across the tunnel" partners
ok "LACP negotiates across the tunnel"
reaches end-berlin 10.8.0.2
echo "note: no answer for $worst s at most while the bond changes legs"
