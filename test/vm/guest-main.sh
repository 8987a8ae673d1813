#!/usr/bin/env bash
# Runs inside the guest: every case in a fresh pair of namespaces, then the count. Sourced files are
# in /opt.
# shellcheck disable=SC2154 # long, wanted and subject come from the settings
set -uo pipefail
# shellcheck source=/dev/null
. /opt/settings
# shellcheck source=test/vm/lib.sh
. /opt/lib.sh
# shellcheck source=test/vm/cases.sh
. /opt/cases.sh
# shellcheck source=test/vm/ethernet.sh
. /opt/ethernet.sh
tar -xf /opt/trees.tar -C /opt

all=("${cases[@]}" "${ethernet_cases[@]}")
[ -z "$long" ] || all+=("${long_cases[@]}")
[ ${#wanted[@]} -eq 0 ] || all=("${wanted[@]}")

echo "subject: $subject ↔ kernel WireGuard, Linux $(uname -r)"
passed=0
failed=0
for name in "${all[@]}"; do
	began=$(date +%s)
	(set -e; "case_$name") >/run/case.out 2>&1
	status=$?
	seconds=$(($(date +%s) - began))
	if [ $status -eq 0 ]; then
		passed=$((passed + 1))
		printf 'ok    %-24s %2d s  %s\n' "$name" "$seconds" "$(sed -n 's/^note: //p' /run/case.out | tr '\n' ' ')"
	else
		failed=$((failed + 1))
		printf 'FAIL  %-24s %2d s\n' "$name" "$seconds"
		sed 's/^/      | /' /run/case.out | tail -n 25
		[ ! -s /run/subject.log ] || { echo "      log of $subject:"; tail -n 25 /run/subject.log | sed 's/^/      | /'; }
	fi
	take_down >/dev/null 2>&1
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
