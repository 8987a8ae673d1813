#!/usr/bin/env bash
# native-main.sh: what test/deb/native.sh runs beside systemd. /test holds it and the package.
set -uo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive
# The longest time without an answer after SIGKILL, in milliseconds.
limit=1500
failed=0

bad() {
	echo "FAILED: $*"
	failed=1
}
pid() { systemctl show -P MainPID tund@berlin; }

# paris is another host: a namespace of its own behind a wire.
network() {
	ip link set lo up
	ip netns add paris
	ip -n paris link set lo up
	ip link add wire type veth peer name wire netns paris
	ip address add 192.0.2.1/24 dev wire
	ip link set wire up
	ip -n paris address add 192.0.2.2/24 dev wire
	ip -n paris link set wire up
	mkdir -p /etc/systemd/system/tund@paris.service.d
	printf '[Service]\nNetworkNamespacePath=/run/netns/paris\n' >/etc/systemd/system/tund@paris.service.d/net.conf
	systemctl daemon-reload
}

gateway() { # NAME ADDRESS PEER ENDPOINT ALLOWED
	cat >"/etc/tund/$1.toml" <<CONFIG
[tunnel]
private_key_file = "$1.key"
listen_port = 51820
[tun]
address = ["$2/24"]
[[peer]]
name = "$3"
public_key = "$(tunctl pubkey <"/etc/tund/$3.key")"
endpoint = "$4:51820"
allowed_ips = ["$5/32"]
CONFIG
	chmod 0640 "/etc/tund/$1.toml"
	chgrp tund "/etc/tund/$1.toml"
}

# gap FILE: the longest time between two answers of ping -D, in milliseconds.
gap() {
	awk '/bytes from/ { t = substr($1, 2) + 0; if (n++ && t - last > max) max = t - last; last = t } END { printf "%d", n ? max * 1000 : -1 }' "$1"
}

# killed N: how long the tunnel is away for each side.
killed() {
	local there back
	ip netns exec paris ping -D -n -i 0.005 -w 5 10.9.0.1 >/tmp/there 2>&1 &
	ping -D -n -i 0.005 -w 5 10.9.0.2 >/tmp/back 2>&1 &
	sleep 1
	kill -9 "$(pid)"
	wait
	there=$(gap /tmp/there) back=$(gap /tmp/back)
	printf 'kill -9, %2d: away %4d ms for the peer, %4d ms for the host itself\n' "$1" "$there" "$back"
	for ms in "$there" "$back"; do
		if [ "$ms" -lt 0 ] || [ "$ms" -gt "$limit" ]; then bad "away for more than $limit ms"; fi
	done
}

# replies: how many echo replies the kernel of paris has received: ping(8) itself loses some.
replies() {
	ip netns exec paris cat /proc/net/snmp | awk '
		/^IcmpMsg:/ && !n { for (i = n = 2; i <= NF; i++) at[$i] = i; next }
		/^IcmpMsg:/ { print $at["InType0"] + 0 }'
}

# restarted N: `systemctl restart` under 1,000 pings a second.
restarted() {
	local before after pinging
	before=$(replies)
	ip netns exec paris ping -q -n -i 0.001 -c 2000 -W 5 10.9.0.1 >/tmp/pings 2>&1 &
	pinging=$!
	sleep 0.5
	systemctl restart tund@berlin || bad "restart: $(journalctl -n 20 -u tund@berlin)"
	wait "$pinging"
	sleep 0.2
	after=$(replies)
	printf 'restart, %2d: %d of 2000 pings answered\n' "$1" $((after - before))
	[ $((after - before)) = 2000 ] || bad "pings lost over a restart: $(journalctl -n 20 -u tund@berlin)"
}

network
dpkg -i /test/tund.deb >/tmp/dpkg 2>&1 || bad "dpkg -i: $(cat /tmp/dpkg)"
for name in berlin paris; do tunctl genkey | install -o tund -m 0400 /dev/stdin "/etc/tund/$name.key"; done
gateway berlin 10.9.0.1 paris 192.0.2.2 10.9.0.2
gateway paris 10.9.0.2 berlin 192.0.2.1 10.9.0.1
systemctl start tund@berlin tund@paris || bad "start: $(journalctl -n 40 -u 'tund@*')"
for _ in $(seq 50); do
	ping -q -c 1 -W 1 10.9.0.2 >/dev/null 2>&1 && break
	sleep 0.2
done
for n in $(seq "$TUND_NATIVE_RESTARTS"); do restarted "$n"; done
for n in $(seq "$TUND_NATIVE_KILLS"); do
	killed "$n"
	sleep 1 # a host is not killed twice a second
done
exit "$failed"
