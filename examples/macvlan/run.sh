#!/usr/bin/env bash
# macvlan and macvtap children on the bridge side.
# shellcheck source=examples/lib.sh
. "$(dirname "$0")/../lib.sh"

site berlin paris
start berlin paris
container paris app 10.7.0.3/24

# child NAME TYPE ADDRESS: a container whose network device is a child of the bridge.
child() {
	namespace "$1"
	ip_at berlin link add link br0 name "$1" netns "$(ns "$1")" type "$2" mode bridge
	ip_at "$1" address add "$3" dev "$1"
	ip_at "$1" link set "$1" up
}
child one macvlan 10.7.0.11/24
child two macvlan 10.7.0.12/24
child tap macvtap 10.7.0.13/24 # as a device; its file /dev/tapN is for a VM

for name in one two tap; do reaches $name 10.7.0.3; done
for address in 10.7.0.11 10.7.0.12 10.7.0.13; do reaches app $address; done
reaches one 10.7.0.12
reaches app 10.7.0.11 -s 1472 -M "do"
tunctl paris fdb
