#!/usr/bin/env bash
# Three members of etcd, three sites that find each other, a fourth that joins by one command, an
# outage of the whole registry, and a site that is revoked. Needs etcd, etcdctl and openssl, too.
# shellcheck source=examples/lib.sh
. "$(dirname "$0")/../lib.sh"
agent=${TUND_AGENT:-$(dirname "$tund")/tund-agent}
[ -x "$agent" ] || { echo "no tund-agent beside $tund: run make build" >&2; exit 1; }
for program in etcd etcdctl openssl; do
	command -v $program >/dev/null || { echo "needs $program (Debian: etcd-server etcd-client openssl)" >&2; exit 1; }
done
PATH=$(dirname "$tunctl_program"):$PATH # for registry.sh
example=$here
here=$work/sites # where this run has its configurations
mkdir "$here" "$work/registry"

# The clock of this script, in ms.
now() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
heading() { printf '\n== %s\n' "$*"; }
# registry COMMAND…: what its operator does, in a namespace of the operator.
registry() { (cd "$work/registry" && at registry env ETCDCTL_ENDPOINTS="$endpoints" "$example/registry.sh" "$@"); }

heading "Three members of etcd, with certificates for members and clients"
site berlin paris rome oslo
# host NAME ADDRESS: a host of the registry. Members of etcd check that others call from the address
# in their certificates, so each has a namespace of its own.
host() {
	namespace "$1"
	ip link add "to-$1" netns "$(ns internet)" type veth peer name wan netns "$(ns "$1")"
	ip_at internet link set "to-$1" master net up
	ip_at "$1" address add "$2/24" dev wan
	ip_at "$1" link set wan up
}
host registry 192.0.2.250
endpoints=
cluster=
for n in 1 2 3; do
	host "etcd$n" "192.0.2.25$n"
	endpoints+=${endpoints:+,}https://192.0.2.25$n:2379
	cluster+=${cluster:+,}etcd$n=https://192.0.2.25$n:2380
	registry certificate "etcd$n" "192.0.2.25$n"
done
members=()
start_etcd() {
	local n own dir=$work/registry
	members=()
	for n in 1 2 3; do
		own=https://192.0.2.25$n
		behind "etcd$n" etcd --name "etcd$n" --data-dir "$work/etcd$n" --initial-cluster "$cluster" \
			--listen-client-urls "$own:2379" --advertise-client-urls "$own:2379" \
			--listen-peer-urls "$own:2380" --initial-advertise-peer-urls "$own:2380" \
			--client-cert-auth --trusted-ca-file "$dir/ca.pem" --cert-file "$dir/etcd$n.pem" --key-file "$dir/etcd$n.pem.key" \
			--peer-client-cert-auth --peer-trusted-ca-file "$dir/ca.pem" \
			--peer-cert-file "$dir/etcd$n.pem" --peer-key-file "$dir/etcd$n.pem.key" \
			--auto-compaction-retention 1h >>"$work/etcd$n.log" 2>&1
		members+=("${pids[-1]}")
	done
}
start_etcd
signer=$work/init.log
starts_up() { registry init >"$signer" 2>&1 || { rm -f "$work/registry/acme.signer"; false; }; }
await "etcd" starts_up
trust=$(sed -n 's/^trust = \["\(.*\)"\]$/\1/p' "$signer")
ok "etcd1, etcd2, etcd3 at 192.0.2.251 to .253; the network's signer is $trust"

heading "Three sites: a tund and an agent each"
# arrive NAME NUMBER: tund and its agent at a site that nobody knows yet, from the files of Oslo.
arrive() {
	local name=$1 number=$2 file=$here/agent/$1.toml
	local replace=(-e "s#oslo#$name#g" -e "s#10\.34\.#10.3$number.#g" -e "s#192\.0\.2\.4:#192.0.2.$number:#")
	mkdir -p "$here/agent"
	sed "${replace[@]}" -e 's#^\[agent\]#&\nuser = "root"#' "$example/oslo.toml" >"$here/$name.toml"
	start "$name"
	sed "${replace[@]}" -e "s#PutThePublicKeyOfTheSignerHere0*=#$trust#" \
		-e "s#PutThePublicKeyOf[A-Z][a-z]*Here0*=#$("$tunctl_program" pubkey <"$work/$name.key")#" \
		-e "s#/etc/tund/agent#$work/registry#" -e "1i state_dir = \"$work/state-$name\"" "$example/agent/oslo.toml" >"$file"
	"$agent" -c "$file" --request >"$work/registry/$name.request" || die "request of $name"
	registry admit "$name.request"
	behind "$name" "$agent" -c "$file" >"$work/$name-agent.log" 2>&1
}
number=0
for name in berlin paris rome; do
	number=$((number + 1))
	arrive "$name" $number
	registry grant "$name.request" "10.3$number.0.0/16"
done
reaches berlin 10.32.0.1
reaches paris 10.33.0.1
reaches rome 10.31.0.1

heading "A fourth site joins by one command: registry.sh grant oslo.request 10.34.0.0/16"
arrive oslo 4
await "connection of Oslo's agent to etcd" grep -q ready "$work/oslo-agent.log"
sleep 1
began=$(now)
registry grant oslo.request 10.34.0.0/16
for name in berlin paris rome; do
	until at "$name" ping -n -q -c 1 -W 1 10.34.0.1 >/dev/null 2>&1; do
		[ $(($(now) - began)) -lt 20000 ] || die "$name does not reach oslo"
		sleep 0.02
	done
done
took=$(($(now) - began))
ok "berlin, paris and rome reach it $took ms after the command was given"
[ $took -lt "${LIMIT:-2000}" ] || die "that is too long"

heading "All of etcd stops: nothing changes"
behind berlin ping -n -q -i 0.1 -w 5 10.34.0.1 >"$work/ping.out"
ping=${pids[-1]}
kill "${members[@]}"
for pid in "${members[@]}"; do wait "$pid" 2>/dev/null || true; done
reaches paris 10.34.0.1
reaches rome 10.32.0.1
wait "$ping" || true
lost=$(sed -n 's/.*received, \(.*\) packet loss.*/\1/p' "$work/ping.out")
[ "$lost" = 0% ] || die "ping from berlin to oslo meanwhile: $lost lost"
ok "berlin pings oslo through the outage: $(sed -n 's/ packets transmitted.*//p' "$work/ping.out") of them, none lost"

heading "etcd is back, and oslo is revoked: registry.sh revoke oslo"
start_etcd
follows() { [ "$(at "$1" ss -Htn state established dport = :2379 | wc -l)" -ge 3 ]; }
for name in berlin paris rome; do await "connection of $name to etcd" follows "$name"; done
sleep 1
began=$(now)
registry revoke oslo
for name in berlin paris rome; do
	while tunctl "$name" peer list | grep -q '^ *oslo '; do
		[ $(($(now) - began)) -lt 20000 ] || die "$name keeps oslo"
		sleep 0.02
	done
done
took=$(($(now) - began))
ok "it is gone everywhere $took ms after the command was given"
[ $took -lt "${LIMIT:-2000}" ] || die "that is too long"
unreached berlin 10.34.0.1
reaches berlin 10.33.0.1

heading "tunctl -i berlin status, and what the agent of Berlin knows"
tunctl berlin status
tunctl berlin sources
