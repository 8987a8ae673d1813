#!/usr/bin/env bash
# What the cases are made of. Two namespaces joined by the veth "ul":
#
#   k  the kernel's WireGuard on wg0     192.0.2.1  2001:db8::1     inside 10.9.0.1  fd09::1
#   s  the subject, tund or again kernel 192.0.2.2  2001:db8::2     inside 10.9.0.2  fd09::2
#
# A case calls `pair` with what it wants and then checks. Everything fails by exit status (set -e).
# shellcheck disable=SC2154 # subject comes from the settings
# The settings of a case, set by pair, seen by restart functions:
underlay=v4 # v4 | v6: what the endpoints are given in
psk=        # a preshared key, empty for none
initiator=s # k | s: who knows the other's endpoint
offload=auto
vrf=     # not empty: the subject's underlay is in a VRF, to which it binds
port_k=51820
port_s=51820

at() { # at NS COMMAND…
	ip netns exec "$@"
}

fail() {
	echo "failed: $*" >&2 # not to what may be a command substitution
	exit 1
}

note() { # shown beside the result of a case that passed
	echo "note: $*"
}

endpoint() { # endpoint NS: where that side is reached
	local port=$port_k last=1
	[ "$1" = k ] || { port=$port_s; last=2; }
	if [ "$underlay" = v4 ]; then echo "192.0.2.$last:$port"; else echo "[2001:db8::$last]:$port"; fi
}

take_down() {
	stop_tund
	[ ! -s /run/pids ] || xargs kill </run/pids
	rm -f /run/pids /run/subject.log /run/psk
	ip netns del k
	ip netns del s
	return 0
}

# pair [underlay=v6] [psk=yes] [initiator=k] [offload=off] [vrf=red] [subject_psk=KEY]: both sides
# configured and up.
pair() {
	local setting subject_psk='' want_psk=''
	for setting in "$@"; do
		case $setting in
		underlay=*) underlay=${setting#*=} ;;
		psk=*) want_psk=${setting#*=} ;;
		initiator=*) initiator=${setting#*=} ;;
		offload=*) offload=${setting#*=} ;;
		vrf=*) vrf=${setting#*=} ;;
		subject_psk=*) subject_psk=${setting#*=} ;;
		*) fail "pair: what is $setting?" ;;
		esac
	done
	[ -z "$want_psk" ] || psk=$(wg genpsk)
	key_k=$(wg genkey)
	key_s=$(wg genkey)
	public_k=$(wg pubkey <<<"$key_k")
	public_s=$(wg pubkey <<<"$key_s")
	ip netns add k
	ip netns add s
	ip link add ul netns k type veth peer name ul netns s
	if [ -n "$vrf" ]; then
		ip -n s link add "$vrf" type vrf table 10
		ip -n s link set "$vrf" up
		ip -n s link set ul master "$vrf"
	fi
	local ns last=1
	for ns in k s; do
		at "$ns" sysctl -qw net.ipv4.conf.all.promote_secondaries=1
		ip -n "$ns" addr add "192.0.2.$last/24" dev ul
		ip -n "$ns" addr add "2001:db8::$last/64" dev ul nodad
		ip -n "$ns" link set lo up
		ip -n "$ns" link set ul up
		last=2
	done
	kernel_up k "$key_k" "$port_k" "$public_s" 1 "$psk" "$([ "$initiator" = k ] && endpoint s)"
	subject_up "${subject_psk:-$psk}"
}

# kernel_up NS KEY PORT PEER LAST PSK ENDPOINT: a kernel WireGuard; LAST is the last part of its
# addresses.
kernel_up() {
	local ns=$1 other=2
	[ "$5" = 1 ] || other=1
	ip -n "$ns" link add wg0 type wireguard
	(umask 077 && printf '%s\n' "$2" >"/run/key-$ns" && printf '%s\n' "$6" >/run/psk)
	local options=()
	[ -z "$6" ] || options+=(preshared-key /run/psk)
	[ -z "$7" ] || options+=(endpoint "$7")
	at "$ns" wg set wg0 private-key "/run/key-$ns" listen-port "$3" \
		peer "$4" allowed-ips "10.9.0.$other/32,fd09::$other/128" "${options[@]}"
	ip -n "$ns" addr add "10.9.0.$5/24" dev wg0
	ip -n "$ns" addr add "fd09::$5/64" dev wg0 nodad
	ip -n "$ns" link set wg0 up
}

subject_up() { # subject_up PSK
	local to=
	[ "$initiator" != s ] || to=$(endpoint k)
	if [ "$subject" = kernel ]; then
		kernel_up s "$key_s" "$port_s" "$public_k" 2 "$1" "$to"
		return
	fi
	(umask 077 && tund_config "$1" "$to" >/run/subject.toml)
	at s /opt/tund --check -c /run/subject.toml
	start_tund
}

tund_config() { # tund_config PSK ENDPOINT
	cat <<-TOML
		[tunnel]
		private_key = "$key_s"
		listen_port = $port_s
		offload = "$offload"
		$([ -z "$vrf" ] || echo "bind_device = \"$vrf\"")
		[tun]
		device = "wg0"
		address = ["10.9.0.2/24", "fd09::2/64"]
		mtu = 1420
		[[peer]]
		name = "kernel"
		public_key = "$public_k"
		allowed_ips = ["10.9.0.1/32", "fd09::1/128"]
	TOML
	[ -z "$1" ] || echo "preshared_key = \"$1\""
	[ -z "$2" ] || echo "endpoint = \"$2\""
}

start_tund() {
	# The log goes on where an earlier start of the same case left it.
	# ip netns exec gives it mounts of its own: its socket for wg(8) is not to be seen by the other
	# side, whose kernel device has the same name, for wg(8) asks sockets first.
	ip netns exec s sh -c 'mkdir -p /var/run/wireguard && mount -t tmpfs t /var/run/wireguard &&
		exec /opt/tund -c /run/subject.toml' >>/run/subject.log 2>&1 &
	echo $! >/run/tund.pid
	await 100 "wg0 of tund" up_at_s
}

up_at_s() {
	kill -0 "$(cat /run/tund.pid)" || fail "tund ended"
	[ -n "$(ip -n s link show dev wg0 up 2>/dev/null)" ]
}

stop_tund() {
	[ -s /run/tund.pid ] || return 0
	kill "$(cat /run/tund.pid)" 2>/dev/null || true
	await 50 "end of tund" tund_gone
	rm -f /run/tund.pid
}

tund_gone() { ! kill -0 "$(cat /run/tund.pid)" 2>/dev/null; }

# await TENTHS WHAT COMMAND…: polls ten times a second.
await() {
	local left=$1 what=$2
	shift 2
	until "$@"; do
		left=$((left - 1))
		[ "$left" -gt 0 ] || fail "no $what"
		sleep 0.1
	done
}

# endpoint_at NS: where that side believes the other to be.
endpoint_at() {
	if [ "$1" = s ] && [ "$subject" = tund ]; then
		tunctl status --json | tr ',' '\n' | sed -n 's/.*"endpoint": *"\([^"]*\)".*/\1/p'
	else
		at "$1" wg show wg0 endpoints | cut -f 2
	fi
}

sees() { # sees NS ENDPOINT
	[ "$(endpoint_at "$1")" = "$2" ]
}

inner() { # inner NS FAMILY: that side's address in the tunnel
	local last=1
	[ "$1" = k ] || last=2
	if [ "$2" = v4 ]; then echo "10.9.0.$last"; else echo "fd09::$last"; fi
}

other() { if [ "$1" = k ]; then echo s; else echo k; fi; }

# pings FROM FAMILY COUNT [MAY_LOSE] [OPTION…]: ten a second unless OPTION says otherwise. It is
# busybox's ping, which waits so long for the first answer (a handshake, the first of an emulated
# machine) and a second for the last: the other one waits for two round trips, and an emulated
# machine may pause longer.
pings() {
	local from=$1 family=$2 count=$3 may_lose=${4:-0} output received
	shift $(($# < 4 ? $# : 4))
	output=$(at "$from" /bin/ping -q -c "$count" -i 0.1 -W 8 "$@" "$(inner "$(other "$from")" "$family")" 2>&1) || true
	received=$(sed -n 's/.* \([0-9]*\) packets received.*/\1/p' <<<"$output")
	[ $((count - ${received:-0})) -le "$may_lose" ] || fail "ping from $from over $family: ${received:-0} of $count: $output"
}

# tcp FROM FAMILY SECONDS: a flow to the other side; prints Mbit/s and fails below 1.
tcp() {
	local to address server mbits
	to=$(other "$1")
	address=$(inner "$to" "$2")
	at "$to" iperf3 -s -1 --forceflush >/run/iperf-server 2>&1 &
	server=$!
	echo $server >>/run/pids
	await 50 "iperf3 server" grep -q listening /run/iperf-server
	at "$1" iperf3 -c "$address" -t "$3" -f m >/run/iperf-client 2>&1 || fail "iperf3 from $1 over $2: $(tail -n 3 /run/iperf-client)"
	wait $server || true
	mbits=$(awk '/receiver/ { for (i = 2; i <= NF; i++) if ($i == "Mbits/sec") print int($(i - 1)) }' /run/iperf-client)
	[ "${mbits:-0}" -ge 1 ] || fail "tcp from $1 over $2: ${mbits:-0} Mbit/s: $(tail -n 5 /run/iperf-client)"
	echo "$mbits"
}
