# shellcheck shell=bash
# lib.sh: the functions that the scripts of these examples share. Each script builds its sites on
# this machine, in network namespaces that it removes afterwards, from the configuration files
# beside it with fresh keys, and checks what the README says. The scripts need root, ip(8) and
# ping(8). They take tund and tunctl from ../bin of this directory, or from the PATH.
#
#   site NAME…                 makes gateways, at 192.0.2.1, 192.0.2.2, … in the underlay
#   start NAME…                starts tund in each, with NAME.toml and the keys of this run
#   container SITE NAME ADDR…  makes a container behind the bridge br0 of a site
#   at NAME COMMAND…           runs a command at a gateway or in a container
#   behind NAME COMMAND…       runs it there in the background, until the script ends
#   reaches NAME ADDR …        pings until there is an answer, then thrice with the options given
#   ok WORDS…, die WORDS…      prints what was shown; prints an error and exits
#   tunctl NAME ARGUMENT…      runs tunctl for the instance NAME
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
here=${EXAMPLE:+$examples/$EXAMPLE} # EXAMPLE: take the configurations of another one (test/vm does)
here=${here:-$(cd "$(dirname "$0")" && pwd)}
find_program() { if [ -x "$examples/../bin/$1" ]; then echo "$examples/../bin/$1"; else command -v "$1"; fi; }
tund=${TUND:-$(find_program tund)} || { echo "no tund in ../bin or in the PATH: run make build" >&2; exit 1; }
tunctl_program=${TUNCTL:-$(find_program tunctl)} || { echo "no tunctl in ../bin or in the PATH: run make build" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "needs root, for network namespaces" >&2; exit 1; }

work=$(mktemp -d)
chmod 700 "$work"
export TUND_RUN_DIR=$work/run
sites=()
namespaces=()
pids=()

ok() { printf '   ok  %s\n' "$*"; }
die() {
	printf 'failed: %s\n' "$*" >&2
	local log
	for log in "$work"/*.log; do
		[ -s "$log" ] || continue
		echo "--- ${log##*/}" >&2
		tail -n 20 "$log" >&2
	done
	exit 1
}

ns() { echo "tx$$-$1"; }
at() {
	local where
	where=$(ns "$1")
	shift
	ip netns exec "$where" "$@"
}
# behind runs the command without a shell around it, so that the command itself is killed at the
# end.
behind() {
	local where
	where=$(ns "$1")
	shift
	ip netns exec "$where" "$@" &
	pids+=($!)
}
ip_at() {
	local where
	where=$(ns "$1")
	shift
	ip -n "$where" "$@"
}

namespace() {
	ip netns add "$(ns "$1")"
	namespaces+=("$(ns "$1")")
	ip_at "$1" link set lo up
}

take_down() {
	local status=$? pid name
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${pids[@]}"; do
		for _ in $(seq 50); do
			kill -0 "$pid" 2>/dev/null || continue 2
			sleep 0.1
		done
		kill -KILL "$pid" 2>/dev/null || true
	done
	for name in "${namespaces[@]}"; do ip netns del "$name" || true; done
	rm -rf "$work"
	exit $status
}
trap take_down EXIT

site() {
	local name
	if [ ${#sites[@]} = 0 ]; then
		namespace internet
		ip_at internet link add net type bridge
		ip_at internet link set net up
	fi
	for name in "$@"; do
		sites+=("$name")
		namespace "$name"
		ip link add "to-$name" netns "$(ns internet)" type veth peer name wan netns "$(ns "$name")"
		ip_at internet link set "to-$name" master net up
		ip_at "$name" address add "192.0.2.${#sites[@]}/24" dev wan
		ip_at "$name" link set wan up
		(umask 077 && "$tunctl_program" genkey >"$work/$name.key")
	done
}

# configure NAME: the file beside the script, with the public keys of this run.
configure() {
	local other title edits=()
	for other in "${sites[@]}"; do
		title=$(tr '[:lower:]' '[:upper:]' <<<"${other:0:1}")${other:1}
		edits+=(-e "s#PutThePublicKeyOf${title}Here0*=#$("$tunctl_program" pubkey <"$work/$other.key")#")
	done
	sed "${edits[@]}" "$here/$1.toml" >"$work/$1.toml"
	chmod 600 "$work/$1.toml"
	"$tund" --check -c "$work/$1.toml" >"$work/check.log" 2>&1 || die "tund --check $1.toml"
}

start() {
	local name
	for name in "$@"; do
		configure "$name"
		ip netns exec "$(ns "$name")" "$tund" -c "$work/$name.toml" >"$work/$name.log" 2>&1 &
		pids+=($!)
	done
	for name in "$@"; do await "start of $name" tunctl "$name" status; done
}

tunctl() {
	local name=$1
	shift
	"$tunctl_program" -i "$name" "$@" 2>/dev/null
}

# await WHAT COMMAND…: tries for twenty seconds.
await() {
	local what=$1 left=200
	shift
	until "$@" >/dev/null 2>&1; do
		left=$((left - 1))
		[ "$left" -gt 0 ] || die "no $what"
		sleep 0.1
	done
}

container() {
	local where=$1 name=$2 address
	shift 2
	namespace "$name"
	ip link add "to-$name" netns "$(ns "$where")" type veth peer name eth0 netns "$(ns "$name")"
	ip_at "$where" link set "to-$name" master br0 up
	for address in "$@"; do ip_at "$name" address add "$address" dev eth0; done
	ip_at "$name" link set eth0 up
}

reaches() {
	local from=$1 to=$2 output
	shift 2
	await "answer from $to to $from" at "$from" ping -n -c 1 -W 1 "$to"
	output=$(at "$from" ping -n -c 3 -i 0.2 -W 5 "$@" "$to") || die "ping $to from $from $*: $output"
	ok "$from reaches $to ${*:+(ping $*)}"
}

# unreached FROM ADDR: nobody answers.
unreached() {
	! at "$1" ping -n -c 2 -i 0.2 -W 1 "$2" >/dev/null 2>&1 || die "$1 reaches $2"
	ok "$1 does not reach $2"
}
