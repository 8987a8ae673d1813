#!/usr/bin/env bash
# lanes.sh: eight TCP flows between two tunds in a guest with four processors, with one lane and
# with four: throughput, what each lane of the receiver carried, how often segments overtook
# others, and the time that each processor worked. Run by `make lanes`, which boots the guest:
#
#   TUND_LAB_CPUS=4 test/lab/guest.sh test/lab/lanes.sh bin/tund bin/tunctl
#
# The guest is emulated, so its throughput says nothing about real processors, and neither does the
# time of a processor, except for how the work is spread. SECONDS_EACH= is the length of a flow.
#
# Exit status: 0 when with four lanes every lane carried at least a tenth of the packets and no more
# segments overtook others than with one.
set -euo pipefail
length=${SECONDS_EACH:-10}
PATH=/opt:$PATH

end() {
	[ ! -s /run/lanes-pids ] || xargs kill </run/lanes-pids 2>/dev/null || true
	rm -f /run/lanes-pids
	wait
	for ns in a b; do ip netns del $ns 2>/dev/null || true; done
}
trap end EXIT

start() { # start NS: runs that side's tund; its files are in /run/NS
	ip netns exec "$1" env TUND_RUN_DIR=/run/"$1" tund -c /run/"$1".toml >/run/"$1".log 2>&1 &
	echo $! >>/run/lanes-pids
}

configure() { # configure NS LAST LANES KEY PEER PEER_LAST
	(umask 077 && cat >/run/"$1".toml) <<-TOML
		[tunnel]
		private_key = "$4"
		listen_port = 51820
		lanes = $3
		[tun]
		device = "t$1"
		address = ["10.9.0.$2/24"]
		[[peer]]
		name = "other"
		public_key = "$5"
		endpoint = "192.0.2.$6:51820"
		allowed_ips = ["10.9.0.$6/32"]
	TOML
}

await() { # await WHAT COMMAND…: at most 30 s
	local what=$1 left=300
	shift
	until "$@" >/dev/null 2>&1; do
		left=$((left - 1))
		if [ $left -eq 0 ]; then
			echo "no $what" >&2
			tail -n 5 /run/a.log /run/b.log >&2
			exit 1
		fi
		sleep 0.1
	done
}

asked() { TUND_RUN_DIR=/run/"$1" tunctl status --json | tr -d ' \n'; }
in_data_sessions() { # in_data_sessions LANES; the post-quantum secret comes with data sessions only
	asked b | sed 's/.*"peers"://' | grep '"post_quantum":true' | grep -q '"lanes":'"$1,"
}

# carried prints the packets that each lane of b has received; nothing if it has only one.
carried() {
	asked b | sed -n 's/.*"lanes_detail":\[\([^]]*\)\].*/\1/p' | grep -o '"rx_packets":[0-9]*' | cut -d: -f2
}

# disorder prints how often the sender saw that segments had overtaken each other. (Those that come
# out of order because one before them was lost do not count: an emulated machine loses some.)
# shellcheck disable=SC2016 # awk's variables
disorder() { ip netns exec a awk '$1 == "TcpExt:" && !seen { seen = 1; for (i = 2; i <= NF; i++) name[i] = $i; next }
	$1 == "TcpExt:" { for (i = 2; i <= NF; i++) if (name[i] ~ /^TCP(SACK|TS|Reno)Reorder$/) sum += $i; print sum + 0 }' /proc/net/netstat; }

# worked prints the ticks that each processor was not idle.
worked() { awk '/^cpu[0-9]/ { busy = 0; for (i = 2; i <= 9; i++) if (i != 5 && i != 6) busy += $i; print busy }' /proc/stat; }

# shares prints each difference of two lists in percent of their sum.
shares() { # shares BEFORE AFTER
	echo "$1" >/run/before
	echo "$2" >/run/after
	awk 'NR == FNR { before[FNR] = $1; next }
		{ d[FNR] = $1 - before[FNR]; sum += d[FNR]; n = FNR }
		END { for (i = 1; i <= n; i++) printf("%s%.0f %%", (i > 1 ? ", " : ""), (sum ? 100 * d[i] / sum : 0)); print "" }' /run/before /run/after
}

run() { # run LANES: sets out_of_order and least
	local lanes=$1 key_a key_b before_lanes before_cpu before_order rate spread
	for ns in a b; do ip netns add $ns; ip -n $ns link set lo up; done
	ip link add u netns a type veth peer name u netns b
	ip -n a addr add 192.0.2.1/24 dev u
	ip -n b addr add 192.0.2.2/24 dev u
	for ns in a b; do ip -n $ns link set u up; done
	key_a=$(tunctl genkey)
	key_b=$(tunctl genkey)
	configure a 1 "$lanes" "$key_a" "$(tunctl pubkey <<<"$key_b")" 2
	configure b 2 "$lanes" "$key_b" "$(tunctl pubkey <<<"$key_a")" 1
	mkdir -p /run/a /run/b
	start a
	start b
	await "tunnel" ip netns exec a /bin/ping -c 1 -W 1 10.9.0.2
	await "data sessions with $lanes lanes" in_data_sessions "$lanes"
	ip netns exec b iperf3 -s --forceflush >/run/iperf-server 2>&1 &
	echo $! >>/run/lanes-pids
	await "iperf3" grep -q listening /run/iperf-server
	before_lanes=$(carried) before_cpu=$(worked) before_order=$(disorder)
	ip netns exec a iperf3 -c 10.9.0.2 -P 8 -t "$length" -f m >/run/iperf 2>&1 || { tail -n 5 /run/iperf; exit 1; }
	out_of_order=$(($(disorder) - before_order))
	rate=$(awk '/SUM/ && /receiver/ { for (i = 2; i <= NF; i++) if ($i == "Mbits/sec") print $(i - 1) }' /run/iperf)
	spread="100 %"
	[ "$lanes" = 1 ] || spread=$(shares "$before_lanes" "$(carried)")
	least=$(tr -d ' %' <<<"$spread" | tr ',' '\n' | sort -n | head -n 1)
	echo "lanes $lanes: $rate Mbit/s; lanes of the receiver: $spread; overtaken: $out_of_order;" \
		"processors: $(shares "$before_cpu" "$(worked)")"
	end
}

echo "$(grep -c '^processor' /proc/cpuinfo) processors, Linux $(uname -r), $(tund --version)"
run 1
alone=$out_of_order
run 4
[ "$least" -ge 10 ] || { echo "a lane carried only $least %"; exit 1; }
[ "$out_of_order" -le "$alone" ] || { echo "four lanes: $out_of_order times overtaken, one: $alone"; exit 1; }
