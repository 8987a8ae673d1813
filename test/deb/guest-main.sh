#!/usr/bin/env bash
# guest-main.sh: what test/deb/run.sh runs as a service in the guest, once per boot. /test holds it
# and the package. It prints a line per check, and ends the guest with its result.
set -uo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive
state=/test/state
mkdir -p "$state"
failed=0

ok() { echo "ok: $*"; }
bad() {
	echo "FAILED: $*"
	echo x >>"$state/failed"
	failed=1
}
# check WORDS COMMAND…: the command succeeds.
check() {
	local words=$1 out
	shift
	if out=$("$@" 2>&1); then ok "$words"; else bad "$words: $* ($?): $(tail -n 20 <<<"$out")"; fi
}
# refused CODE WORDS COMMAND…: the command fails with that exit code.
refused() {
	local code=$1 words=$2 out got=0
	shift 2
	out=$("$@" 2>&1) || got=$?
	if [ "$got" = "$code" ]; then ok "$words"; else bad "$words: exit code $got, want $code: $out"; fi
}
equal() { if [ "$2" = "$3" ]; then ok "$1"; else bad "$1: got $2, want $3"; fi; }
pid() { systemctl show -P MainPID "tund@$1"; }
pings() { ip netns exec paris ping -q -c 3 -i 0.2 -W 5 10.9.0.1; }
# eventually SECONDS COMMAND…
eventually() {
	local until=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$until" ] || return 1
		sleep 0.2
	done
}

# snapshot: every file of the system with mode, owner and contents, but those that live from change.
snapshot() {
	find / -xdev \( -path /test -o -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/log -o -path /var/tmp \
		-o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/systemd -o -path /root -o -path '/etc/*-' -o -path /lost+found \
		-o -path /etc/.pwd.lock \) -prune -o -printf '%p %y %m %u %g %l\n' | sort
	find /etc -xdev -type f ! -name '*-' ! -name .pwd.lock -exec sha256sum {} + | sort -k 2
	systemctl list-unit-files --no-legend 'tund*'
	ip -o link | sed 's/.*: \(.*\): .*/\1/'
	ip rule
	nft list ruleset
}

gateways() {
	# Paris is another host: a namespace of its own behind a wire, the same at each boot.
	cat >/etc/systemd/system/paris-net.service <<'UNIT'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'ip netns add paris; ip -n paris link set lo up; ip link add wire type veth peer name wire netns paris; \
  ip address add 192.0.2.1/24 dev wire; ip link set wire up; ip -n paris address add 192.0.2.2/24 dev wire; ip -n paris link set wire up; \
  ip -n paris route add default via 192.0.2.1'
UNIT
	mkdir -p /etc/systemd/system/tund@paris.service.d
	cat >/etc/systemd/system/tund@paris.service.d/net.conf <<'UNIT'
[Unit]
Requires=paris-net.service
After=paris-net.service
[Service]
NetworkNamespacePath=/run/netns/paris
UNIT
	systemctl daemon-reload
	# As README says.
	local name
	for name in berlin paris; do
		tunctl genkey | install -o tund -m 0400 /dev/stdin "/etc/tund/$name.key"
	done
	gateway berlin 10.9.0.1 paris 192.0.2.2 '10.9.0.2/32", "10.30.0.0/16'
	gateway paris 10.9.0.2 berlin 192.0.2.1 "0.0.0.0/0"
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
allowed_ips = ["$5"]
CONFIG
	chmod 0640 "/etc/tund/$1.toml"
}

# knows WORDS: resolved has these servers and domains for berlin.
knows() { [ "$(resolvectl dns berlin 2>/dev/null | sed 's/.*: *//') $(resolvectl domain berlin 2>/dev/null | sed 's/.*: *//')" = "$1" ]; }
said() { tunctl -i berlin status --json | tr -d " \n" | grep -o '"kind":"resolver","subject":"","message":"[^"]*"'; }
unsaid() { ! said; }
misses() { said | grep -q 'doesnotrun'; }

# names: systemd-resolved asks the servers of [tun] dns, for as long as the device is there.
names() {
	local before
	cp -a /etc/tund/berlin.toml /test/berlin.toml
	sed -i 's/^address = .*/&\ndns = ["10.9.0.2", "corp.example"]/' /etc/tund/berlin.toml
	check "reload with dns" systemctl reload tund@berlin
	if eventually 180 knows "10.9.0.2 corp.example"; then ok "resolved asks its server"; else
		bad "resolved has $(resolvectl dns berlin) $(resolvectl domain berlin): $(journalctl -o cat -n 20 -u 'tund-dns@*'; systemctl status tund-dns@berlin.path)"
	fi
	equal "tunctl dns" "$(tunctl -i berlin dns)" "berlin: berlin: 10.9.0.2 corp.example"
	sed -i 's/^dns = .*/dns = ["10.9.0.2"]/' /etc/tund/berlin.toml
	check "reload with another dns" tunctl -i berlin reload
	if eventually 180 knows "10.9.0.2 ~."; then ok "resolved asks it for all names"; else bad "resolved has $(resolvectl domain berlin)"; fi
	before=$(pid berlin)
	kill -9 "$before"
	if eventually 180 knows "10.9.0.2 ~."; then ok "also after SIGKILL"; else bad "not after SIGKILL"; fi
	check "restart" systemctl restart tund@berlin
	if eventually 180 knows "10.9.0.2 ~."; then ok "and after a restart"; else bad "not after a restart"; fi
	sleep 15 # three looks at the host
	if eventually 30 unsaid; then ok "status has nothing to say"; else bad "status says $(said)"; fi
	systemctl mask --quiet --runtime --now systemd-resolved # or D-Bus starts it again
	if eventually 60 misses; then ok "without resolved, status says: $(said)"; else bad "status does not miss resolved: $(said)"; fi
	systemctl unmask --quiet --runtime systemd-resolved
	systemctl start systemd-resolved
	if eventually 60 unsaid; then ok "and no longer"; else bad "status says $(said)"; fi
	cp -a /test/berlin.toml /etc/tund/berlin.toml
	check "reload without dns" systemctl reload tund@berlin
	if eventually 180 knows " "; then ok "resolved asks it no longer"; else bad "resolved has $(resolvectl dns berlin) $(resolvectl domain berlin)"; fi
	equal "failed units" "$(systemctl list-units --failed --no-legend --plain 'tund*')" ""
	# For the next boot.
	sed -i 's/^address = .*/&\ndns = ["10.9.0.2", "corp.example"]/' /etc/tund/berlin.toml
}

# exit_example: examples/full-tunnel as it is installed, with keys and with the addresses of this
# place. The client is a host behind a wire, and so is what it wants to reach, which knows no way
# back to addresses of the tunnel.
exit_example() {
	local from=/usr/share/doc/tund/examples/full-tunnel name
	cat >/etc/systemd/system/exit-net.service <<'UNIT'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'for n in cafe web; do ip netns add $n; ip -n $n link set lo up; ip link add $n type veth peer name wire netns $n; \
  ip link set $n up; ip -n $n link set wire up; done; \
  ip address add 198.51.100.1/24 dev cafe; ip -n cafe address add 198.51.100.2/24 dev wire; \
  ip address add 203.0.113.1/24 dev web; ip -n web address add 203.0.113.9/24 dev wire'
UNIT
	mkdir -p /etc/systemd/system/tund@client.service.d /etc/systemd/system/tund@exit.service.d
	printf '[Unit]\nRequires=exit-net.service\nAfter=exit-net.service\n' | tee /etc/systemd/system/tund@exit.service.d/net.conf \
		>/etc/systemd/system/tund@client.service.d/net.conf
	printf '[Service]\nNetworkNamespacePath=/run/netns/cafe\n' >>/etc/systemd/system/tund@client.service.d/net.conf
	systemctl daemon-reload
	for name in exit client; do tunctl genkey | install -o tund -m 0400 /dev/stdin "/etc/tund/$name.key"; done
	sed -e "s|PutThePublicKeyOfClientHere0*=|$(tunctl pubkey </etc/tund/client.key)|" -e 's/^listen_port.*/listen_port = 51821/' \
		-e 's/10\.9\.0/10.8.0/g; s/fd09/fd08/g' "$from/exit.toml" | install -o root -g tund -m 0640 /dev/stdin /etc/tund/exit.toml
	sed -e "s|PutThePublicKeyOfExitHere0*=|$(tunctl pubkey </etc/tund/exit.key)|" -e 's/^endpoint.*/endpoint = "198.51.100.1:51821"/; /^dns/d' \
		-e 's/^device.*/device = "client"/; s/10\.9\.0/10.8.0/g; s/fd09/fd08/g' "$from/client.toml" |
		install -o root -g tund -m 0640 /dev/stdin /etc/tund/client.toml
	check "the example of an exit, enabled and started" systemctl enable --now tund@exit tund@client
	if eventually 60 outside; then ok "a client of the exit reaches the Internet"; else
		bad "the exit does not work: $(tunctl -i exit status; tunctl -i client status; nft list ruleset)"
	fi
}
outside() { ip netns exec cafe ping -q -c 1 -W 5 203.0.113.9; }

exit_after_reboot() {
	if eventually 60 outside; then ok "and after the reboot, without a command by hand"; else
		bad "the exit does not work after the reboot: $(tunctl -i exit status; journalctl -b -n 30 -u tund@exit)"
	fi
	equal "what is wrong with it" "$(tunctl -i exit status --json | tr -d ' \n' | grep -o '"warnings":\[[^]]*\]')" '"warnings":[]'
	check "it stops" systemctl stop tund@exit tund@client
	equal "forwarding and rules after its stop" "$(sysctl -n net.ipv4.ip_forward) $(nft list ruleset | wc -l)" "0 0"
}

sandbox() {
	local main exposure
	main=$(pid berlin)
	equal "the daemon's user" "$(ps -o user= -p "$main")" tund
	equal "its one capability, effective and at most" "$(grep -E 'Cap(Eff|Bnd)' "/proc/$main/status" | cut -f 2 | sort -u)" 0000000000001000
	equal "new privileges" "$(sed -n 's/NoNewPrivs:\t//p' "/proc/$main/status")" 1
	exposure=$(systemd-analyze security --no-pager tund@berlin | sed -n 's/.*Overall exposure level.*: \([0-9.]*\) .*/\1/p')
	if awk -v e="$exposure" 'BEGIN { exit !(e != "" && e <= 1.7) }'; then ok "exposure $exposure"; else bad "exposure ${exposure:-unknown}, want at most 1.7"; fi
	refused 1 "its memory is closed to its own user" runuser -u tund -- head -c 0 "/proc/$main/mem"

	# Code that runs inside the service. The same line as root, without the service, shows that the
	# probe can find something.
	sleep 1000 &
	echo $! >/run/victim
	(umask 077; echo secret >/var/lib/private-of-root)
	touch /run/wireguard/other.sock
	mkdir -p /run/systemd/system/tund@probe.service.d
	printf '[Service]\nType=exec\nWatchdogSec=0\nRestart=no\nExecStart=\nExecStart=/bin/sh /test/probe.sh\nExecStopPost=\n' \
		>/run/systemd/system/tund@probe.service.d/probe.conf
	systemctl daemon-reload
	systemctl start tund@probe
	eventually 20 sh -c '! systemctl is-active -q tund@probe'
	local said
	said=$(journalctl -o cat -u tund@probe)
	equal "the probe ran inside the service" "$(grep -c '^probed' <<<"$said")" 1
	equal "what code inside the service can do and should not, or cannot and should" "$(grep '^CAN' <<<"$said")" ""
	equal "as root the probe finds" "$(sh /test/probe.sh 2>/dev/null | grep -c '^CAN [rswm]')" 9
	kill "$(cat /run/victim)"
	rm -rf /run/victim /var/lib/private-of-root /run/systemd/system/tund@probe.service.d /etc/tund/made-by-probe /usr/sbin/made-by-probe
	systemctl daemon-reload
}

people() {
	useradd -G tund ana
	check "a member of the group tund may look" runuser -u ana -- tunctl -i berlin status
	refused 77 "and not steer" runuser -u ana -- tunctl -i berlin reload
	refused 1 "and not read keys" runuser -u ana -- cat /etc/tund/berlin.key
	refused 77 "others may not even look" runuser -u nobody -- tunctl -i berlin status
	userdel ana
	check "wg(8) finds the device" wg show berlin latest-handshakes
	refused 1 "--cleanup sees that the instance runs" tund --cleanup berlin
}

changes() {
	local before
	before=$(pid berlin)
	sed -i 's/^listen_port.*/&\nfwmark = 77/' /etc/tund/berlin.toml
	check "reload" systemctl reload tund@berlin
	equal "the reload is in force" "$(wg show berlin fwmark)" 0x4d
	cp -a /etc/tund/berlin.toml /test/berlin.toml
	echo "nonsense = 1" >>/etc/tund/berlin.toml
	refused 1 "a reload of a faulty file fails" systemctl reload tund@berlin
	cp -a /test/berlin.toml /etc/tund/berlin.toml
	check "and the tunnel goes on" pings
	equal "in the same process" "$(pid berlin)" "$before"
	# Landlock: a directory that was not in use at the start is closed to the running daemon, and
	# open to the next.
	install -d /var/keys
	install -o tund -m 0400 /etc/tund/berlin.key /var/keys/berlin.key
	sed -i 's#^private_key_file.*#private_key_file = "/var/keys/berlin.key"#' /etc/tund/berlin.toml
	refused 1 "a reload cannot read in a directory that is new" systemctl reload tund@berlin
	if journalctl -o cat -u tund@berlin -n 20 | grep -q 'needs a restart'; then ok "and says what to do"; else bad "the reload does not say what to do: $(journalctl -o cat -u tund@berlin -n 20)"; fi
	cp -a /test/berlin.toml /etc/tund/berlin.toml
	rm -r /var/keys
	killed "$before"
	restarts
	chown root /etc/tund/berlin.key
	systemctl restart tund@berlin
	equal "a key of root's ends the start for good" "$(systemctl show -P ExecMainStatus tund@berlin)" 78
	if journalctl -u tund@berlin -p err -o cat | grep -q 'chown tund'; then ok "with what to do, as an error"; else bad "the journal does not say what to do: $(journalctl -u tund@berlin -n 5)"; fi
	chown tund /etc/tund/berlin.key
	check "and with the owner right it starts" systemctl restart tund@berlin
	systemctl stop tund@paris
	mkdir -p /etc/systemd/system/tund@paris.service.d
	mv /etc/tund/paris.key /test/paris.key && chown root: /test/paris.key
	printf '[Service]\nLoadCredential=private-key:/test/paris.key\n' >/etc/systemd/system/tund@paris.service.d/key.conf
	sed -i 's/^private_key_file.*/credential = "private-key"/' /etc/tund/paris.toml
	systemctl daemon-reload
	check "a key of root's by LoadCredential" systemctl start tund@paris
	if eventually 60 pings; then ok "and its tunnel"; else bad "no tunnel with it"; fi
}

# killed PID: how long the tunnel is away. The host itself says when it is back: what it sends
# begins the handshake.
killed() {
	local start=$EPOCHREALTIME
	kill -9 "$1"
	if ! eventually 60 ping -q -c 1 -W 1 10.9.0.2; then
		bad "killed, and not back: $(journalctl -n 30 -u tund@berlin)"
		return
	fi
	# Half a second until systemd starts it again; the rest is at the pace of an emulated processor.
	ok "killed, and back $(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }') s after SIGKILL"
	if eventually 60 pings; then ok "for the peer as well"; else bad "not for the peer"; fi
}

# replies: how many echo replies the kernel of paris has received. ping(8) itself loses some of a
# burst after a restart, which an emulated processor makes seconds long.
replies() {
	ip netns exec paris cat /proc/net/snmp | awk '
		/^IcmpMsg:/ && !n { for (i = n = 2; i <= NF; i++) at[$i] = i; next }
		/^IcmpMsg:/ { print $at["InType0"] + 0 }'
}

# restarts: `systemctl restart` under 1,000 pings a second, whose sessions, device and port stay.
restarts() {
	local index pinging before after handshakes
	index=$(cat /sys/class/net/berlin/ifindex)
	handshakes=$(wg show berlin latest-handshakes | cut -f 2)
	before=$(replies)
	ip netns exec paris ping -q -i 0.001 -c 4000 -W 10 10.9.0.1 >/tmp/pings 2>&1 &
	pinging=$!
	for _ in 1 2 3; do
		sleep 2
		check "restart" systemctl restart tund@berlin
	done
	wait "$pinging"
	for _ in $(seq 100); do
		[ $(($(replies) - before)) -lt 4000 ] || break
		sleep 0.2
	done
	after=$(replies)
	equal "replies to 4000 pings over three restarts" $((after - before)) 4000
	equal "the device after the restarts" "$(cat /sys/class/net/berlin/ifindex)" "$index"
	equal "continued sessions" "$(journalctl -b -o cat -u tund@berlin | grep -c '^INFO continuing where the last process ended {"sessions": 1}')" 3
	[ "$handshakes" -gt 0 ] || bad "no handshake with paris"
	mkdir -p /run/systemd/system/tund@berlin.service.d
	printf '[Service]\nFileDescriptorStoreMax=0\n' >/run/systemd/system/tund@berlin.service.d/store.conf
	systemctl daemon-reload
	check "restart without a store" systemctl restart tund@berlin
	if eventually 60 pings; then ok "and its tunnel"; else bad "and no tunnel: $(journalctl -n 30 -u tund@berlin)"; fi
	rm -r /run/systemd/system/tund@berlin.service.d
	systemctl daemon-reload
}

# networkd has a file that matches every device, and starts while a tunnel stands.
networkd() {
	printf '[Match]\nName=!wire\n[Network]\nLinkLocalAddressing=no\n' >/etc/systemd/network/90-all.network
	sed 's/^Name=.*/Name=berlin/' /usr/share/doc/tund/examples/host/10-office.network >/etc/systemd/network/10-berlin.network
	systemctl start systemd-networkd
	local link
	link=/run/systemd/netif/links/$(cat /sys/class/net/berlin/ifindex) # networkctl(1) wants a bus
	eventually 30 grep -q '^ADMIN_STATE=\(unmanaged\|configured\)' "$link"
	equal "systemd-networkd leaves the device alone" "$(sed -n 's/^ADMIN_STATE=//p' "$link")" unmanaged
	check "and the route" ip route show 10.30.0.0/16 proto 117
	equal "which nobody had to put back" "$(journalctl -b -o cat -u tund@berlin | grep -c 'has been restored')" 0
	systemctl stop systemd-networkd.socket systemd-networkd
	rm /etc/systemd/network/90-all.network /etc/systemd/network/10-berlin.network
}

first() {
	snapshot >"$state/before"
	check "dpkg -i" dpkg -i /test/tund.deb
	equal "instances that the installation started" "$(systemctl list-units --no-legend 'tund@*' | wc -l)" 0
	equal "/run/wireguard" "$(getfacl -p /run/wireguard 2>/dev/null | grep -E '^# (owner|flags)|^user:tund' | tr '\n' ' ')" "# owner: root # flags: --t user:tund:rwx "
	gateways
	check "a check with the eyes of the service" runuser -u tund -- tund --check -c /etc/tund/berlin.toml
	check "enable --now" systemctl enable --now tund@berlin tund@paris
	if eventually 60 pings; then ok "a tunnel"; else bad "no tunnel: $(journalctl -n 30 -u 'tund@*')"; fi
	sleep 3 # states are looked at every two seconds
	equal "warnings in the journal of an instance that is well" "$(journalctl -o cat -p warning -u tund@berlin)" ""
	equal "the right to make a socket for wg(8)" "$(getfacl -p /run/wireguard | grep '^user:tund')" "user:tund:rwx"
	equal "lines about its sessions" "$(journalctl -o cat -p info -u tund@berlin | grep -c '^INFO session up {"peer": "paris"}')" 1
	equal "STATUS=" "$(systemctl show -P StatusText tund@berlin)" "port 51820, 1 peer: 1 up"
	people
	sandbox
	changes
	names
	exit_example
	touch "$state/rebooted"
}

second() {
	eventually 300 sh -c 'systemctl is-active -q tund@berlin && systemctl is-active -q tund@paris'
	equal "both run after the reboot" "$(systemctl is-active tund@berlin tund@paris | sort -u)" active
	if eventually 60 pings; then ok "a tunnel"; else bad "no tunnel: $(journalctl -b -n 30 -u 'tund@*')"; fi
	if eventually 180 knows "10.9.0.2 corp.example"; then ok "resolved asks its server"; else
		bad "resolved has $(resolvectl dns berlin): $(journalctl -b -n 30 -u 'tund-dns@*' -u systemd-resolved)"
	fi
	exit_after_reboot
	networkd
	local berlin paris name
	berlin=$(pid berlin) paris=$(pid paris)
	check "the package again, as an upgrade does it" dpkg -i /test/tund.deb
	equal "which restarts nothing" "$(pid berlin) $(pid paris)" "$berlin $paris"
	check "remove" dpkg -r tund
	equal "stops the instances" "$(pgrep -c -x tund)" 0
	check "and keeps the configuration" test -s /etc/tund/berlin.toml
	check "purge" dpkg -P tund
	systemctl stop paris-net exit-net
	for name in paris cafe web; do ip netns delete "$name"; done
	rm -rf /etc/systemd/system/{paris,exit}-net.service
	systemctl daemon-reload
	snapshot >"$state/after"
	if diff "$state/before" "$state/after" >"$state/diff"; then ok "the root is as it was"; else bad "purge left: $(head -n 30 "$state/diff")"; fi
}

if [ -e "$state/rebooted" ]; then
	second
	[ ! -e "$state/failed" ] || failed=1
	echo "exit $failed" >/dev/ttyS2
	sync
	systemctl start --no-block --job-mode=replace-irreversibly poweroff.target
else
	first
	sync
	systemctl start --no-block --job-mode=replace-irreversibly reboot.target
fi
