#!/usr/bin/env bash
# demo.sh: two gateways and a tunnel on this machine, from the files in examples/two-gateways, in
# under a minute.
#
# Makes two network namespaces joined by a veth, fresh keys in a temporary directory, and one tund
# in each. Everything is taken down at the end, however it ends. Needs root and bin/tund, bin/tunctl
# (make demo builds them).
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tund=$top/bin/tund
tunctl=$top/bin/tunctl
examples=$top/examples/two-gateways

berlin=tdb$$
paris=tdp$$
berlin_underlay=192.0.2.1
paris_underlay=192.0.2.2
work=
pids=()

if [ -t 1 ]; then bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold='' green='' red='' plain=''; fi
heading() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
ok() { printf '%s   ok%s %s\n' "$green" "$plain" "$*"; }
die() {
	printf '%sdemo failed: %s%s\n' "$red" "$*" "$plain" >&2
	for name in berlin paris; do
		[ -s "$work/$name.log" ] || continue
		echo "--- log of $name" >&2
		tail -n 20 "$work/$name.log" >&2
	done
	exit 1
}

take_down() {
	local pid
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${pids[@]}"; do
		for _ in $(seq 50); do
			kill -0 "$pid" 2>/dev/null || continue 2
			sleep 0.1
		done
		kill -KILL "$pid" 2>/dev/null || true
	done
	ip netns del "$berlin" 2>/dev/null || true
	ip netns del "$paris" 2>/dev/null || true
	[ -z "$work" ] || rm -rf "$work"
}

at() { # at NS COMMAND…
	ip netns exec "$@"
}

# setting FILE KEY: the first value of a key in one of the examples, without its quotes.
setting() { sed -n "s/^ *$2 *= *//p" "$1" | head -n 1 | sed 's/ *#.*//; s/"//g'; }

# inner FILE PATTERN: this gateway's tunnel address that matches, without its length.
inner() { setting "$1" address | tr -d '[] ' | tr ',' '\n' | grep "$2" | head -n 1 | cut -d / -f 1; }

# prepare NAME OTHER ENDPOINT: the example with the keys of this run and an endpoint that exists
# here.
prepare() {
	local file=$work/$1.toml psk
	sed -E -e "s#^( *private_key_file *= *).*#\1\"$1.key\"#" \
		-e "s#^( *public_key *= *).*#\1\"$(cat "$work/$2.pub")\"#" \
		-e "s#^( *endpoint *= *).*#\1\"$3\"#" "$examples/$1.toml" >"$file"
	psk=$(setting "$file" preshared_key_file)
	[ -z "$psk" ] || cp "$work/psk" "$work/$psk"
	grep -q '^ *private_key_file' "$file" || die "examples/two-gateways/$1.toml has no private_key_file"
	"$tund" --check -c "$file" >"$work/check" 2>&1 || die "tund --check $1.toml: $(cat "$work/check")"
}

start() { # start NAME NS
	TUND_RUN_DIR=$work/run ip netns exec "$2" "$tund" -c "$work/$1.toml" >"$work/$1.log" 2>&1 &
	pids+=($!)
}

ping_it() { # ping_it NS ADDRESS WHAT
	local out lost
	out=$(at "$1" ping -n -q -c 10 -i 0.1 -W 2 "$2" 2>&1) || die "no answer from $2: $out"
	lost=$(sed -n 's/.* \([0-9]*\)% packet loss.*/\1/p' <<<"$out")
	[ "$lost" = 0 ] || die "ping $2: $lost % lost"
	ok "$3: 10 of 10 pings to $2, $(sed -n 's#^rtt .* = [^/]*/\([^/]*\)/.*#\1#p' <<<"$out") ms"
}

[ "$(id -u)" = 0 ] || { echo "demo: network namespaces and TUN devices need root: sudo make demo" >&2; exit 1; }
for program in "$tund" "$tunctl"; do [ -x "$program" ] || { echo "demo: no $program: run make build" >&2; exit 1; }; done
trap take_down EXIT
trap 'exit 130' INT TERM
began=$(date +%s)
work=$(mktemp -d)
chmod 700 "$work"
umask 077

heading "Two hosts, joined by a cable"
ip netns add "$berlin"
ip netns add "$paris"
ip link add eth0 netns "$berlin" type veth peer name eth0 netns "$paris"
ip -n "$berlin" addr add "$berlin_underlay/24" dev eth0
ip -n "$paris" addr add "$paris_underlay/24" dev eth0
for ns in "$berlin" "$paris"; do
	ip -n "$ns" link set lo up
	ip -n "$ns" link set eth0 up
done
echo "   berlin $berlin_underlay ──── $paris_underlay paris"

heading "Keys and configuration (examples/two-gateways)"
for name in berlin paris; do
	"$tunctl" genkey >"$work/$name.key"
	"$tunctl" pubkey <"$work/$name.key" >"$work/$name.pub"
	ok "$name: public key $(cat "$work/$name.pub")"
done
"$tunctl" genpsk >"$work/psk"
port_berlin=$(setting "$examples/berlin.toml" listen_port)
port_paris=$(setting "$examples/paris.toml" listen_port)
prepare berlin paris "$paris_underlay:${port_paris:-51820}"
prepare paris berlin "$berlin_underlay:${port_berlin:-51820}"
grep -v -e '^ *#' -e '^ *$' "$work/berlin.toml" | sed 's/^/   /'

heading "One tund in each"
start berlin "$berlin"
start paris "$paris"
paris4=$(inner "$work/paris.toml" '\.')
paris6=$(inner "$work/paris.toml" ':')
berlin4=$(inner "$work/berlin.toml" '\.')
if [ -z "$paris4" ] || [ -z "$berlin4" ]; then die "the examples have no IPv4 address"; fi
for _ in $(seq 50); do
	at "$berlin" ping -n -q -c 1 -W 1 "$paris4" >/dev/null 2>&1 && break
	for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || die "a tund ended"; done
	sleep 0.1
done
ping_it "$berlin" "$paris4" "IPv4, berlin to paris"
ping_it "$paris" "$berlin4" "IPv4, paris to berlin"
if [ -n "$paris6" ]; then ping_it "$berlin" "$paris6" "IPv6, berlin to paris"; fi

heading "How fast (iperf3, one TCP flow, both ends on these $(nproc) cores)"
# Not through `at`: the pid of a function in the background is a shell's, not that of its command.
ip netns exec "$paris" iperf3 -s --forceflush >"$work/iperf.log" 2>&1 &
pids+=($!)
for _ in $(seq 50); do
	grep -q listening "$work/iperf.log" && break
	sleep 0.1
done
figure() { # figure WHAT OPTION…
	local what=$1 out
	shift
	out=$(at "$berlin" iperf3 -c "$paris4" -t 4 -f m "$@" 2>&1) || die "iperf3: $out"
	ok "$what: $(awk '/receiver/ { for (i = 2; i <= NF; i++) if ($i == "Mbits/sec") printf "%.2f Gbit/s", $(i - 1) / 1000 }' <<<"$out")"
}
figure "berlin to paris"
figure "paris to berlin" --reverse

for name in berlin paris; do
	heading "tunctl -i $name status"
	TUND_RUN_DIR=$work/run "$tunctl" -i "$name" status | sed 's/^/   /' || die "tunctl status of $name"
done

heading "Taking it down"
started=()
for ns in "$berlin" "$paris"; do
	# shellcheck disable=SC2207 # numbers
	started+=($(ip netns pids "$ns"))
done
[ ${#started[@]} -ge 3 ] || die "only ${#started[@]} of two tunds and iperf3 run"
take_down
work=''
pids=()
if ip netns list | grep -q -e "^$berlin\b" -e "^$paris\b"; then die "a namespace is left"; fi
for pid in "${started[@]}"; do
	if kill -0 "$pid" 2>/dev/null; then die "$(ps -o args= -p "$pid") is left"; fi
done
ok "nothing is left; it took $(($(date +%s) - began)) s"
