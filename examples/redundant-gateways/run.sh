#!/usr/bin/env bash
# Two gateways of the LAN in Paris: one is used, and when it is killed, the other one.
# shellcheck source=examples/lib.sh
. "$(dirname "$0")/../lib.sh"

# The LAN in Paris: a switch to which both gateways are connected.
namespace lan
ip_at lan link add br0 type bridge
ip_at lan link set br0 up
site berlin first second
for name in berlin first second; do
	ip_at "$name" link add br0 type bridge
	ip_at "$name" link set br0 up
done
for name in first second; do
	ip link add "to-$name" netns "$(ns lan)" type veth peer name lan0 netns "$(ns "$name")"
	ip_at lan link set "to-$name" master br0 up
	ip_at "$name" link set lan0 master br0 up
done
container berlin app 10.7.0.1/24
container lan printer 10.7.0.2/24
start berlin first second

# stands_by prints which gateway Berlin does not use.
stands_by() { tunctl berlin status | sed -n 's/.*: \(first\|second\) stands by and is blocked.*/\1/p; s/.*, \(first\|second\) stands by and is blocked.*/\1/p'; }
chosen() { [ -n "$(stands_by)" ]; }
await "choice of a gateway in Berlin" chosen
standby=$(stands_by)
used=first
[ "$standby" = second ] || used=second
ok "Berlin uses $used, and $standby stands by"
reaches app 10.7.0.2

pid=$(tunctl "$used" status --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' | head -n 1)
at app ping -n -D -i 0.1 -w 8 10.7.0.2 >"$work/ping.log" &
sleep 2
kill -KILL "$pid"
wait $!
gap=$(awk '/bytes from/ { gsub(/[][]/, "", $1); if (last && $1 - last > gap) gap = $1 - last; last = $1 } END { printf "%.1f", gap }' "$work/ping.log")
tail -n 1 "$work/ping.log" | grep -q . || die "no answer after $used was killed"
awk -v gap="$gap" 'BEGIN { exit !(gap < 4) }' || die "without a gateway for $gap s"
ok "$used was killed, and $standby took over after $gap s"
reaches app 10.7.0.2
