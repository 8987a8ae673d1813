#!/usr/bin/env bash
# The cases, one function each, and their order. Each begins in an empty guest: take_down follows
# it.
# guest-main.sh reads the lists; variables that are not set here come from it or from lib.sh.
# shellcheck disable=SC2034,SC2154
cases=(v4_subject_initiates v4_kernel_initiates v4_psk_subject v4_psk_kernel v6_subject_initiates v6_psk_kernel
	tcp fragments kernel_roams kernel_changes_port subject_roams subject_changes_port kernel_restarts
	subject_restarts loss psk_differs offload_off vrf vrf_v6)
long_cases=(rekey_by_the_clock)

# works FROM: both families inside; FROM speaks first.
works() {
	pings "$1" v4 4
	pings "$1" v6 2
	pings "$(other "$1")" v4 2
	pings "$(other "$1")" v6 4
}

case_v4_subject_initiates() { pair initiator=s && works s; }
case_v4_kernel_initiates() { pair initiator=k && works k; }
case_v4_psk_subject() { pair psk=yes initiator=s && works s; }
case_v4_psk_kernel() { pair psk=yes initiator=k && works k; }
case_v6_subject_initiates() { pair underlay=v6 initiator=s && works s; }
case_v6_psk_kernel() { pair underlay=v6 psk=yes initiator=k && works k; }

case_tcp() {
	local out back out6
	pair
	out=$(tcp s v4 2)
	back=$(tcp k v4 2)
	out6=$(tcp s v6 2)
	note "$out out, $back back, $out6 over v6 Mbit/s"
}

# Datagrams larger than any MTU are cut inside the tunnel and joined at the far side.
case_fragments() {
	pair
	pings s v4 3 0 -s 60000
	pings k v6 3 0 -s 60000
}

# The kernel's side moves to another address while it speaks: the subject answers there.
case_kernel_roams() {
	pair initiator=s
	pings s v4 2
	ip -n k addr add 192.0.2.11/24 dev ul
	ip -n k addr del 192.0.2.1/24 dev ul
	pings k v4 10 1
	await 20 "subject that follows to 192.0.2.11" sees s "192.0.2.11:$port_k"
	pings s v4 5
}

case_kernel_changes_port() {
	pair initiator=s
	pings s v4 2
	at k wg set wg0 listen-port 41820
	pings k v4 10 1
	await 20 "subject that follows to port 41820" sees s 192.0.2.1:41820
	pings s v4 5
}

# The subject's own address disappears under it: it must speak from the new one, and the kernel
# follows.
case_subject_roams() {
	pair initiator=s
	pings s v4 2
	ip -n s addr add 192.0.2.22/24 dev ul
	ip -n s addr del 192.0.2.2/24 dev ul
	pings s v4 10 1
	await 20 "kernel that follows to 192.0.2.22" sees k "192.0.2.22:$port_s"
	pings k v4 5
}

case_subject_changes_port() {
	pair initiator=s
	pings s v4 2
	if [ "$subject" = kernel ]; then
		at s wg set wg0 listen-port 41821
	else
		stop_tund
		port_s=41821
		subject_up "$psk"
	fi
	pings s v4 10 1
	await 20 "kernel that follows to port 41821" sees k 192.0.2.2:41821
	pings k v4 5
}

# Who restarts has forgotten the session and makes a new one with its first packet.
case_kernel_restarts() {
	pair initiator=k
	pings k v4 2
	ip -n k link del wg0
	kernel_up k "$key_k" "$port_k" "$public_s" 1 "$psk" "$(endpoint s)"
	pings k v4 10
	pings s v4 5
}

case_subject_restarts() {
	pair initiator=s
	pings s v4 2
	if [ "$subject" = kernel ]; then
		ip -n s link del wg0
		subject_up "$psk"
	else
		stop_tund
		start_tund
	fi
	pings s v4 10
	pings k v4 5
}

case_loss() {
	local out back
	pair
	# A lost handshake message is repeated after 5 s, for which ping does not wait.
	pings s v4 2
	for ns in k s; do at $ns tc qdisc add dev ul root netem loss 1%; done
	pings s v4 50 5 -i 0.05
	out=$(tcp s v4 3)
	back=$(tcp k v4 3)
	note "1 % of datagrams lost: $out out, $back back Mbit/s"
}

case_psk_differs() {
	pair psk=yes initiator=s subject_psk="$(wg genpsk)"
	! at s ping -n -q -c 3 -W 2 10.9.0.1 || fail "a ping crossed although the preshared keys differ"
	[ "$(at k wg show wg0 latest-handshakes | cut -f 2)" = 0 ] || fail "the kernel saw a handshake"
	[ "$subject" = kernel ] || grep -qi -e preshared -e psk /run/subject.log || fail "tund's log does not say why"
}

# The subject's uplink is in a VRF, and its tunnel in the main table. Datagrams go both ways only
# through the VRF, whose routes the main table lacks. The kernel's WireGuard cannot be bound.
case_vrf() { in_vrf underlay=v4; }
case_vrf_v6() { in_vrf underlay=v6; }

in_vrf() {
	[ "$subject" = tund ] || return 0
	pair vrf=red initiator=s "$1"
	! at s ip route get 192.0.2.1 2>/dev/null || fail "the main table knows the way to the peer"
	works s
	note "$(tcp s v4 2) out Mbit/s"
	kill "$(cat /run/tund.pid)"
	await 50 "end of tund" tund_gone
	start_tund
	works s
}

case_offload_off() {
	local out back
	pair offload=off
	works s
	out=$(tcp s v4 2)
	back=$(tcp k v4 2)
	note "$out out, $back back Mbit/s"
}

# Sessions are renewed every 120 s; nothing may be lost on the way.
case_rekey_by_the_clock() {
	local before after
	pair psk=yes initiator=s
	pings s v4 2
	before=$(at k wg show wg0 latest-handshakes | cut -f 2)
	pings k v4 700 0 -i 0.2 &
	pings s v6 700 0 -i 0.2 || fail "from the subject"
	wait $! || fail "from the kernel"
	after=$(at k wg show wg0 latest-handshakes | cut -f 2)
	[ "$after" -gt "$before" ] || fail "no new handshake in 140 s"
}
