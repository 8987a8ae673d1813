#!/usr/bin/env bash
# tools.sh PURPOSE…: makes sure that the programs a purpose needs are there. PURPOSE: test arm64
# demo sites bench vm selftests soak deb testdeb lint.
#
# As root on Debian what is missing is installed; elsewhere it is named, with the packages that hold
# it, and the exit status is 1. Only unit tests as an ordinary user need none of it: `tools.sh test`
# then returns at once.
set -euo pipefail

# program:package. The arrays are reached by name, through the reference `tools`.
# shellcheck disable=SC2034
{
	test_tools=(ip:iproute2 ping:iputils-ping wg:wireguard-tools wireguard-go:wireguard-go iperf3:iperf3 nft:nftables
		ethtool:ethtool tcpdump:tcpdump sysctl:procps systemd-analyze:systemd dnsmasq:dnsmasq-base strace:strace wg-quick:wireguard-tools
		etcd:etcd-server etcdctl:etcd-client openssl:openssl man:man-db make:make ncat:ncat iptables:iptables ss:iproute2 ping6:iputils-ping zbarimg:zbar-tools
		tshark:tshark)
	arm64_tools=(qemu-aarch64:qemu-user)
	demo_tools=(ip:iproute2 ping:iputils-ping iperf3:iperf3)
	sites_tools=(ip:iproute2 ping:iputils-ping ss:iproute2 etcd:etcd-server etcdctl:etcd-client openssl:openssl)
	bench_tools=(ip:iproute2 ping:iputils-ping wg:wireguard-tools iperf3:iperf3 ethtool:ethtool sysctl:procps
		openvpn:openvpn tincd:tinc)
	soak_tools=(keepalived:keepalived)
	vm_tools=(qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio depmod:kmod ip:iproute2 tc:iproute2
		bridge:iproute2 ss:iproute2 wg:wireguard-tools iperf3:iperf3 ping:iputils-ping nft:nftables ethtool:ethtool)
	deb_tools=(dpkg-deb:dpkg)
	selftests_tools=(jq:jq mausezahn:netsniff-ng tcpdump:tcpdump bc:bc socat:socat)
	testdeb_tools=(mmdebstrap:mmdebstrap mke2fs:e2fsprogs)
	lint_tools=(shellcheck:shellcheck)
}

# sbin is not on every user's path, and the programs there can be found all the same.
PATH=$PATH:/usr/sbin:/sbin

purposes=("${@:?which purpose: test arm64 demo sites bench vm selftests soak deb testdeb lint}")
if [ "${purposes[*]}" = test ] && [ "$(id -u)" != 0 ]; then
	exit 0 # tests that need these programs skip themselves for want of root
fi

# have PROGRAM: whether it is there. What is started in a virtual machine without libraries has to
# be linked statically; Debian has another package with the same program that is not.
have() {
	local path
	path=$(command -v "$1") || return 1
	[ "$1" != busybox ] || ! ldd "$path" >/dev/null 2>&1
}

programs=()
packages=()
for purpose in "${purposes[@]}"; do
	declare -n tools="${purpose}_tools"
	for tool in "${tools[@]}"; do
		have "${tool%%:*}" && continue
		programs+=("${tool%%:*}")
		packages+=("${tool##*:}")
	done
done
[ ${#programs[@]} -gt 0 ] || exit 0

mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "Missing: ${programs[*]}. On Debian: apt-get install ${packages[*]}" >&2
	exit 1
fi

echo "Installing ${packages[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() { apt-get install -y -q --no-install-recommends "${packages[@]}" </dev/null >"$log" 2>&1; }
# The package lists of a new machine are empty or old: refresh them when the first try does not find
# everything.
if ! install && ! { apt-get update -q </dev/null >"$log" 2>&1 && install; }; then
	tail -n 15 "$log" >&2
	echo "Could not install ${packages[*]}" >&2
	exit 1
fi
