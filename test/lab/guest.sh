#!/usr/bin/env bash
# guest.sh --fetch: gets the kernel into the cache, and nothing else.
# guest.sh SCRIPT [FILE …]: runs SCRIPT as root under Debian's cloud kernel in qemu, and exits with
# its status.
#
# For what the kernel of the machine we stand on may lack: WireGuard, netem, VLAN-aware bridges,
# ipvlan, geneve. The guest has no disk and no network but what SCRIPT makes: a memory file system
# with busybox, bash, the programs listed below, and the FILEs in /opt, where SCRIPT starts. What
# SCRIPT prints appears here as it is printed.
#
#   TUND_LAB_CACHE    where kernel and base system are kept     (~/.cache/tund-lab)
#   TUND_LAB_SECONDS  the guest is killed after so long         (300)
#   TUND_LAB_MEMORY   of the guest, MiB                         (1536)
#   TUND_LAB_CPUS     processors of the guest                   (2)
#   TUND_LAB_PROGRAMS more programs of this machine, separated by spaces
#   TUND_LAB_MODULES  more modules of the kernel
#   TUND_LAB_ACCEL    qemu's -accel                             (tcg,thread=multi)
#
# Needs the programs of `test/tools.sh vm` and, the first time, apt's package lists for the kernel
# (no root for that). Exit status: SCRIPT's, or 70 when the guest could not be made or died before
# SCRIPT ended.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

cache=${TUND_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tund-lab}
seconds=${TUND_LAB_SECONDS:-300}
memory=${TUND_LAB_MEMORY:-1536}
processors=${TUND_LAB_CPUS:-2}
# Software emulation works everywhere; /dev/kvm inside a virtual machine may be there and refuse all
# the same.
accel=${TUND_LAB_ACCEL:-tcg,thread=multi}
programs=(bash ip tc bridge ss wg iperf3 ping nft ethtool)
modules=(wireguard tun veth vrf bridge br_netfilter 8021q vxlan geneve ipvlan macvlan macvtap dummy sch_netem
	nf_tables nft_numgen nft_fib_inet nft_ct nft_masq nft_chain_nat nft_limit nft_redir)

die() {
	echo "guest.sh: $*" >&2
	exit 70
}

# kernel sets $kernel and $release: Debian's newest cloud kernel of this release, unpacked in the
# cache.
fetch_kernel() {
	local unpacked package
	unpacked=$(find "$cache" -maxdepth 1 -name 'kernel-*' -type d | sort -V | tail -n 1)
	if [ -z "$unpacked" ]; then
		local work
		work=$(mktemp -d "$cache/download.XXXXXX")
		package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
		[ -n "$package" ] || die "apt knows no linux-image-cloud-amd64: run 'apt-get update' with a network, as root, once"
		echo "guest.sh: downloading $package" >&2
		(cd "$work" && apt-get download "$package" >log 2>&1) ||
			die "could not download $package (it is needed once, then kept in $cache): $(tail -n 3 "$work/log")"
		dpkg -x "$work/$package"_*.deb "$work/root"
		unpacked="$cache/kernel-${package#linux-image-}"
		mv "$work/root" "$unpacked"
		rm -rf "$work"
	fi
	kernel=$(find "$unpacked/boot" -name 'vmlinuz-*')
	release=${kernel##*/vmlinuz-}
	modules_root=$unpacked
	[ -d "$modules_root/lib/modules/$release" ] || modules_root=$unpacked/usr
	[ -s "$modules_root/lib/modules/$release/modules.dep" ] || depmod -b "$modules_root" "$release"
}

# take ROOT PROGRAM: copies a program of this machine and the libraries it needs.
take() {
	local root=$1 path library
	path=$(command -v "$2") || die "there is no $2 here: run test/tools.sh vm"
	cp -L "$path" "$root/usr/bin/$2"
	{ ldd "$path" 2>/dev/null | grep -o '/[^ ]*' || true; } | while read -r library; do
		mkdir -p "$root/$(dirname "$library")"
		cp -Ln "$library" "$root/$library" 2>/dev/null || true # several programs share most of them
	done
}

# module_files: the files of the modules and of all they depend on, in the order in which they load.
module_files() {
	local module
	for module in "${modules[@]}"; do
		# One that is built in, or that this kernel lacks, prints no file.
		modprobe -d "$modules_root" -S "$release" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }' || true
	done | awk '!seen[$0]++'
}

# make_base FILE: the part of the guest's system that is the same for every script.
make_base() {
	local root file
	root=$(mktemp -d "$cache/base.XXXXXX")
	mkdir -p "$root"/{bin,dev,etc,opt,proc,root,run,sys,tmp,usr/bin,var,lib/modules}
	ln -s /run "$root/var/run"
	cp -L "$(command -v busybox)" "$root/bin/busybox"
	for program in "${programs[@]}"; do take "$root" "$program"; done
	module_files | while read -r file; do
		cp "$file" "$root/lib/modules/"
		echo "/lib/modules/${file##*/}" >>"$root/lib/modules/order"
	done
	write_init "$root/init"
	(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$1.new"
	mv "$1.new" "$1"
	rm -rf "$root"
}

# write_init FILE: the guest's first process. The console is ours alone; the script prints to the
# second serial port, and its exit status goes to the third.
write_init() {
	cat >"$1" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/opt:/usr/bin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/net /dev/shm /run/netns
while read -r module; do
	case $module in
	*.xz) xz -dc "$module" >/tmp/module.ko && insmod /tmp/module.ko ;;
	*) insmod "$module" ;;
	esac || echo "module $module does not load"
done </lib/modules/order
rm -f /tmp/module.ko
[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
ip link set lo up
cd /opt
stty -F /dev/ttyS1 raw -echo 2>/dev/null
bash /opt/script </dev/null >/dev/ttyS1 2>&1
echo "exit $?" >/dev/ttyS2
sync
poweroff -f
INIT
	chmod +x "$1"
}

[ $# -ge 1 ] || die "usage: guest.sh --fetch | SCRIPT [FILE …]"
script=$1
shift
[ "$script" = --fetch ] || for file in "$script" "$@"; do [ -r "$file" ] || die "cannot read $file"; done
for need in qemu-system-x86_64 busybox cpio depmod modprobe; do
	command -v "$need" >/dev/null || die "there is no $need here: run test/tools.sh vm"
done

# The cache is filled by one at a time.
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
fetch_kernel
[ "$script" != --fetch ] || exit 0
# The base is made again whenever this script, the kernel or one of the programs is another.
key=$({
	cat "${BASH_SOURCE[0]}"
	echo "$release"
	for program in "${programs[@]}" busybox; do stat -L -c '%n %s %Y' "$(command -v "$program" || echo /dev/null)"; done
} | sha256sum | cut -c1-16)
base=$cache/base-$key.gz
if [ ! -s "$base" ]; then
	rm -rf "$cache"/base-* "$cache"/base.*
	make_base "$base"
fi
work=$(mktemp -d)
# A copy of our own, in case another run replaces the base meanwhile.
ln "$base" "$work/base.gz" 2>/dev/null || cp "$base" "$work/base.gz"
flock -u 9
qemu=
trap '[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true; rm -rf "$work"' EXIT

mkdir -p "$work/root/opt" "$work/root/usr/bin" "$work/root/lib/modules"
for program in ${TUND_LAB_PROGRAMS:-}; do take "$work/root" "$program"; done
if [ -n "${TUND_LAB_MODULES:-}" ]; then
	read -ra more <<<"$TUND_LAB_MODULES"
	modules+=("${more[@]}")
	module_files | while read -r file; do
		cp "$file" "$work/root/lib/modules/"
		echo "/lib/modules/${file##*/}" >>"$work/root/lib/modules/order"
	done
fi
cp -L "$script" "$work/root/opt/script"
[ $# -eq 0 ] || cp -L "$@" "$work/root/opt/"
# The kernel unpacks archives that stand one behind the other.
{ cat "$work/base.gz"; (cd "$work/root" && find . | cpio --quiet -o -H newc | gzip -1); } >"$work/initrd.gz"

: >"$work/output"
timeout --foreground "$seconds" qemu-system-x86_64 -accel "$accel" -cpu max -smp "$processors" -m "$memory" -nodefaults -no-user-config \
	-display none -no-reboot -kernel "$kernel" -initrd "$work/initrd.gz" \
	-append "console=ttyS0 8250.nr_uarts=4 panic=-1 quiet loglevel=4 no_timer_check" \
	-serial "file:$work/console" -serial stdio -serial "file:$work/status" </dev/null &
qemu=$!
wait "$qemu" && qemu_status=0 || qemu_status=$?
qemu=

grep 'does not load' "$work/console" >&2 || true
status=$(sed -n 's/^exit \([0-9]*\).*/\1/p' "$work/status" 2>/dev/null || true)
if [ -z "$status" ]; then
	tail -n 20 "$work/console" >&2 || true
	[ "$qemu_status" = 124 ] && die "the guest was stopped after $seconds s"
	die "the guest died before the script ended (qemu: $qemu_status)"
fi
exit "$status"
