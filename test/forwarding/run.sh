#!/usr/bin/env bash
# run.sh [TEST …]: Linux's own tests of forwarding (tools/testing/selftests/net/forwarding),
# unmodified, in a virtual machine (../lab/guest.sh). Between their hosts and their switch they have
# wires of ours: once plain bridges, once two sites joined by tund. A check that passes with the one
# and fails with the other is a fault of tund.
#
#   TUND_KERNEL_SOURCE  a kernel tree to take the tests from; otherwise Debian's linux-source
#                       for the guest's kernel is downloaded once (130 MB; apt, no root)
#   WIRES               which wires to run with ("plain tund"); also "cable": see wires.sh
#   JOBS                how many tests run at once (2); they wait more than they work
#   SLOW                how many times longer the tests wait before they look (1): 2 or 3 on a
#                       busy machine, but not for bridge_igmp and bridge_mld, whose groups expire
#
# Without arguments the tests of `tests` below run, which takes an hour. Exit status 0 when no
# check fails with tund that passes without, 1 when one does.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${TUND_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tund-lab}
# Those that take longest come first.
tests=(no_forwarding bridge_igmp bridge_mld bridge_vlan_mcast bridge_vlan_aware bridge_vlan_unaware bridge_mdb
	vxlan_bridge_1d local_termination bridge_port_isolation bridge_sticky_fdb q_in_vni router_bridge_vlan
	router_broadcast)
[ $# -eq 0 ] || tests=("$@")

die() {
	echo "run.sh: $*" >&2
	exit 70
}

for program in tund tunctl; do [ -x "$top/bin/$program" ] || die "no bin/$program: run make build"; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# source_tree sets $selftests: the directory of the tests.
source_tree() {
	local part=tools/testing/selftests/net/forwarding kernel version
	if [ -n "${TUND_KERNEL_SOURCE:-}" ]; then
		selftests=$TUND_KERNEL_SOURCE/$part
		[ -r "$selftests/lib.sh" ] || die "there are no tests in $selftests"
		return
	fi
	"$here/../lab/guest.sh" --fetch
	kernel=$(find "$cache" -maxdepth 1 -name 'kernel-*' -type d | sort -V | tail -n 1)
	version=$(basename "$kernel" | sed 's/^kernel-\([0-9]*\.[0-9]*\).*/\1/')
	selftests=$cache/linux-$version/$part
	[ ! -r "$selftests/lib.sh" ] || return 0
	echo "run.sh: downloading linux-source-$version" >&2
	(cd "$work" && apt-get download "linux-source-$version" >log 2>&1) ||
		die "could not download it: $(tail -n 3 "$work/log")"
	dpkg -x "$work"/linux-source-*.deb "$work/package"
	tar -xJf "$work/package/usr/src/linux-source-$version.tar.xz" -C "$work" --wildcards "*/$part/*"
	mkdir -p "$cache/linux-$version"
	cp -R "$work/linux-source-$version/tools" "$cache/linux-$version/"
}

source_tree
tar -cf "$work/selftests.tar" -C "$(dirname "$selftests")" forwarding
{
	printf 'tests=(%s)\n' "${tests[*]}"
	printf 'wires=(%s)\n' "${WIRES:-plain tund}"
	printf 'jobs=%d\n' "${JOBS:-2}"
	printf 'slow=%d\n' "${SLOW:-1}"
	# Of one test.
	printf 'seconds=%d\n' 4500
} >"$work/settings"
# The tests want more than busybox has: dates with milliseconds, among others.
TUND_LAB_PROGRAMS="jq mausezahn tcpdump bc date grep sed awk sleep seq sort tail head cut mktemp cat tr timeout xargs unshare socat"
TUND_LAB_MODULES="vrf sch_ingress cls_flower cls_matchall act_gact act_mirred act_vlan act_pedit act_skbedit"
TUND_LAB_MEMORY=${TUND_LAB_MEMORY:-2048}
export TUND_LAB_PROGRAMS TUND_LAB_MODULES TUND_LAB_MEMORY
export TUND_LAB_SECONDS=${TUND_LAB_SECONDS:-10800}
"$here/../lab/guest.sh" "$here/guest-main.sh" "$top/bin/tund" "$top/bin/tunctl" "$here/wires.sh" "$here/msend" \
	"$here/mreceive" "$work/settings" "$work/selftests.tar" | tee "$work/output"

# What guest-main.sh prints: WIRES TEST: NAME: RESULT, a line for each check.
sed -n 's/^plain \(.*\): OK$/\1/p' "$work/output" | sort -u >"$work/plain"
sed -n 's/^tund \(.*\): OK$/\1/p' "$work/output" | sort -u >"$work/tund"
comm -23 "$work/plain" "$work/tund" >"$work/worse"
echo
echo "$(wc -l <"$work/plain") checks pass with plain bridges, $(wc -l <"$work/tund") with tund"
if [[ ${WIRES:-plain tund} == *plain*tund* && -s $work/worse ]]; then
	echo "These pass with plain bridges and not with tund:"
	sed 's/^/  /' "$work/worse"
	exit 1
fi
