# shellcheck shell=bash
# wires.sh: the wires of run.sh. Wire N has the ends wNa and wNb in the namespace of the tests. What
# is between them is, for "plain", a bridge, and for "tund", two bridges joined by a tunnel. "cable"
# is "tund" with learning = false: what fails with the one and passes with the other is refused
# because an address has moved, which tund believes after up to two seconds only.

wired=0

# lay_wires plain|tund|cable N: wires for N network devices.
lay_wires() {
	local kind=$1 i
	wired=$((($2 + 1) / 2))
	for i in $(seq $wired); do "wire_$kind" "$i"; done
	[ "$kind" = plain ] || for i in $(seq $wired); do await_wire "$i"; done
}

take_wires() {
	local i space
	pkill_tund
	for i in $(seq $wired); do
		ip link del "w${i}a" 2>/dev/null
		ip link del "w${i}b" 2>/dev/null
		for space in "p$i" "a$i" "b$i"; do ip netns del "$space" 2>/dev/null; done
	done
	return 0
}

# bridged NAMESPACE DEVICE: a namespace with a bridge, and a cable from it to DEVICE here.
bridged() {
	ip netns list | grep -qw "$1" || {
		ip netns add "$1"
		ip netns exec "$1" sysctl -qw net.ipv6.conf.default.disable_ipv6=1
		ip -n "$1" link set lo up
		ip -n "$1" link add br0 type bridge forward_delay 0
		ip -n "$1" link set br0 up
	}
	ip link add "$2" type veth peer name "to$2" netns "$1"
	ip -n "$1" link set "to$2" master br0 up
}

wire_plain() {
	bridged "p$1" "w${1}a"
	bridged "p$1" "w${1}b"
}

# The VLANs are those of the tests.
wire_cable() { wire_tund "$1" "learning = false"; }

wire_tund() {
	local i=$1 more=${2:-} side other address
	bridged "a$i" "w${i}a"
	bridged "b$i" "w${i}b"
	ip link add ul netns "a$i" type veth peer name ul netns "b$i"
	mkdir -p "/run/wire/$i"
	for side in a b; do (umask 077 && /opt/tunctl genkey >"/run/wire/$i/$side.key"); done
	for side in a b; do
		if [ $side = a ]; then other=b address=1; else other=a address=2; fi
		ip -n "$side$i" address add "172.31.255.$address/24" dev ul # no network of the tests
		ip -n "$side$i" link set ul up
		cat >"/run/wire/$i/$side.toml" <<TOML
[tunnel]
private_key_file = "$side.key"
listen_port = 51820

[tap]
bridge = "br0"
bpdu = "forward"
double_tags = true
broadcast_limit = 0
multicast_limit = 0
unknown_unicast_limit = 0
$more

[[peer]]
name = "other"
public_key = "$(/opt/tunctl pubkey <"/run/wire/$i/$other.key")"
endpoint = "172.31.255.$((3 - address)):51820"
ethernet = true
vlans = [0, 1, 2, 5, 10, 20, 50, 100, 200, 333, 500, 555, 1000, 2000, 4000, 4094]
trust = ["dhcp", "ra"]
TOML
		chmod 600 "/run/wire/$i/$side.toml"
		TUND_RUN_DIR=/run/wire/$i/run-$side TUND_STATE_DIR=/run/wire/$i/state-$side \
			ip netns exec "$side$i" /opt/tund -c "/run/wire/$i/$side.toml" >"/run/wire/$i/$side.log" 2>&1 &
		echo $! >>/run/wire/pids
	done
}

# await_wire N: until both ends carry Ethernet with each other.
await_wire() {
	local side
	for side in a b; do
		for _ in $(seq 300); do
			TUND_RUN_DIR=/run/wire/$1/run-$side /opt/tunctl -i $side status --json 2>/dev/null |
				jq -e '.instances[0].peers[0].capabilities | index("ethernet")' >/dev/null && break
			sleep 0.2
		done
	done
}

pkill_tund() {
	local pid
	[ -r /run/wire/pids ] || return 0
	while read -r pid; do kill "$pid" 2>/dev/null; done </run/wire/pids
	while read -r pid; do
		while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
	done </run/wire/pids
	rm -f /run/wire/pids
}

# trouble: what the tunnels say about themselves after a test that has failed.
trouble() {
	local i side
	for i in $(seq $wired); do
		for side in a b; do
			[ -d "/run/wire/$i/run-$side" ] || continue
			TUND_RUN_DIR=/run/wire/$i/run-$side /opt/tunctl -i $side status --json 2>/dev/null |
				jq -c --arg at "$i$side" '.instances[0] | {at: $at, drops, warnings: [.warnings[].message]}' | sed 's/^/    | /'
		done
	done
	return 0
}
