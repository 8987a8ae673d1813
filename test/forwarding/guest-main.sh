#!/usr/bin/env bash
# guest-main.sh: the guest's side of run.sh. It prints "WIRES TEST: CHECK: RESULT" for each check,
# and what a test that has failed printed beside it.
set -uo pipefail
# shellcheck disable=SC1091 # in the guest
. /opt/settings
# shellcheck source=test/forwarding/wires.sh
. /opt/wires.sh
mkdir -p /opt/net
tar -xf /opt/selftests.tar -C /opt/net
cd /opt/net/forwarding || exit 70

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

config
# shellcheck disable=SC2154 # from settings
echo "Linux $(uname -r), wires: ${wires[*]}"
# shellcheck disable=SC2154 # from settings
for test in "${tests[@]}"; do
	for kind in "${wires[@]}"; do
		began=$(date +%s)
		lay_wires "$kind" "$(sed -n 's/^NUM_NETIFS=//p' "$test.sh")"
		timeout 1500 bash "./$test.sh" >/tmp/output 2>&1
		status=$?
		sed -n 's/^TEST: \(.*[^ ]\) *\[ *\([A-Z]*\) *\].*/'"$kind $test: \1: \2/p" /tmp/output
		echo "$kind $test: exit status: $([ $status = 0 ] && echo OK || echo "$status") ($(($(date +%s) - began)) s)" | sed 's/OK (.*/OK/'
		if [ $status != 0 ]; then
			grep -v '\[ OK \]' /tmp/output | tail -n 15 | sed 's/^/    | /'
			trouble
		fi
		take_wires
	done
done
