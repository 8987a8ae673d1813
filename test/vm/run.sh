#!/usr/bin/env bash
# run.sh [CASE …]: tund against the kernel's own WireGuard, in a virtual machine (see
# ../lab/guest.sh).
#
#   SUBJECT=kernel   puts a second kernel WireGuard where tund stands: proves the cases themselves
#   LONG=1           also the cases that take minutes (a rekey by the clock, bonds)
#
# Without arguments all cases of cases.sh run. Exit status 0 when all passed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)

subject=${SUBJECT:-tund}
files=("$here/lib.sh" "$here/cases.sh" "$here/ethernet.sh")
case $subject in
tund)
	for program in tund tunctl; do
		[ -x "$top/bin/$program" ] || { echo "run.sh: no bin/$program: run make build" >&2; exit 2; }
		files+=("$top/bin/$program")
	done
	;;
kernel) ;;
*) echo "run.sh: SUBJECT is tund or kernel, not $subject" >&2; exit 2 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
	printf 'subject=%q\n' "$subject"
	printf 'long=%q\n' "${LONG:-}"
	echo "wanted=(${*@Q})"
} >"$work/settings"
tar -cf "$work/trees.tar" -C "$top" examples -C "$here" ethernet
export TUND_LAB_MODULES=bonding
export TUND_LAB_SECONDS=${TUND_LAB_SECONDS:-$([ -n "${LONG:-}" ] && echo 900 || echo 420)}
"$top/test/lab/guest.sh" "$here/guest-main.sh" "${files[@]}" "$work/settings" "$work/trees.tar"
