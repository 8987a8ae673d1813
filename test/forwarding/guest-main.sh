#!/usr/bin/env bash
# guest-main.sh: the guest's side of run.sh. It prints "WIRES TEST: CHECK: RESULT" for each check,
# and what a test that has failed printed beside it.
#
# Most of a test's time is spent waiting. So several run at once, each in a network namespace, a
# /run and a /tmp of its own: nothing of one can be seen by another.
set -uo pipefail
# shellcheck disable=SC1091 # in the guest
. /opt/settings
# shellcheck source=test/forwarding/wires.sh
. /opt/wires.sh
self=${BASH_SOURCE[0]}
results=/results

# The most network devices that a test asks for is eight: four wires.
config() {
	local i
	echo "NETIF_CREATE=no"
	echo "declare -A NETIFS"
	for i in 1 2 3 4; do
		echo "NETIFS[p$((2 * i - 1))]=w${i}a"
		echo "NETIFS[p$((2 * i))]=w${i}b"
	done
} >forwarding.config

# apart KIND TEST: runs `one` in namespaces of its own. That the network namespace has a name keeps
# the VRFs of different tests apart, too, which `ip vrf` finds by the name of their namespace.
apart() {
	mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /tmp && mkdir /run/netns &&
		ip netns add "$1-$2" && exec ip netns exec "$1-$2" bash "$self" one "$1" "$2"
}

# one KIND TEST: runs a test with one kind of wire.
one() {
	local kind=$1 test=$2 status began
	began=$(date +%s)
	# Its 192 pings are not to be answered, and each waits for its whole time.
	[ "$test" != no_forwarding ] || export PING_TIMEOUT=1
	ip link set lo up
	lay_wires "$kind" "$(sed -n 's/^NUM_NETIFS=//p' "$test.sh")"
	# shellcheck disable=SC2154 # from settings
	timeout "$seconds" bash "./$test.sh" >/tmp/output 2>&1
	status=$?
	sed -n 's/^TEST: \(.*[^ ]\) *\[ *\([A-Z]*\) *\].*/'"$kind $test: \1: \2/p" /tmp/output
	if [ $status = 0 ]; then
		echo "$kind $test: exit status: OK"
	else
		echo "$kind $test: exit status: $status"
		grep -v '\[ OK \]' /tmp/output | tail -n 15 | sed 's/^/    | /'
		trouble
	fi
	echo "    | $(($(date +%s) - began)) s"
	take_wires
}

# report: prints the results that are complete, one after the other.
report() {
	local file
	for file in "$results"/*.done; do
		[ -e "$file" ] || continue
		cat "${file%.done}"
		rm "$file"
	done
}

cd /opt/net/forwarding 2>/dev/null || {
	mkdir -p /opt/net "$results"
	tar -xf /opt/selftests.tar -C /opt/net
	cd /opt/net/forwarding || exit 70
}
# Debian's tcpdump runs as a user of that name, and scripts look for bash with env.
printf '%s:x:0:0::/:/bin/sh\n' root tcpdump >/etc/passwd
[ -e /usr/bin/env ] || ln -s /bin/env /usr/bin/env
# sleep waits for the sum of what it is given.
# shellcheck disable=SC2154 # from settings
if [ "$slow" -gt 1 ]; then
	{
		echo '#!/usr/bin/bash'
		printf 'exec /usr/bin/sleep'
		printf ' "$@"%.0s' $(seq "$slow")
	} >/opt/sleep
	chmod +x /opt/sleep
fi
case ${1:-} in
apart | one)
	"$@"
	exit
	;;
esac
config
# shellcheck disable=SC2154 # from settings
echo "Linux $(uname -r), wires: ${wires[*]}, $jobs at once"
running=0
# shellcheck disable=SC2154 # from settings
for test in "${tests[@]}"; do
	for kind in "${wires[@]}"; do
		if [ $running -ge "$jobs" ]; then
			wait -n
			running=$((running - 1))
			report
		fi
		(
			unshare -m bash "$self" apart "$kind" "$test" >"$results/$kind-$test" 2>&1
			: >"$results/$kind-$test.done"
		) &
		running=$((running + 1))
	done
done
while [ $running -gt 0 ]; do
	wait -n
	running=$((running - 1))
	report
done
