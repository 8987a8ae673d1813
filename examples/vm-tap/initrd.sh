#!/usr/bin/env bash
# initrd.sh ADDRESS FILE: makes an initrd for a virtual machine that only answers at ADDRESS, for
# example 10.7.0.50/24: busybox, and the modules that its virtio network device needs.
#
#   KERNEL   the kernel that the machine will boot   (/boot/vmlinuz-RELEASE, the newest one there)
#   MODULES  where lib/modules/RELEASE is            (the root directory)
#
# Called with --kernel it prints which kernel that is. Needs busybox (Debian: busybox-static), cpio
# and modprobe.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

fail() {
	echo "initrd.sh: $*" >&2
	exit 1
}

kernel=${KERNEL:-$(find /boot -maxdepth 1 -name 'vmlinuz-*' | sort -V | tail -n 1)}
[ -r "$kernel" ] || fail "no kernel in /boot: install one (Debian: linux-image-cloud-amd64), or name it in KERNEL"
release=${kernel##*/vmlinuz-}
if [ "${1:-}" = --kernel ]; then
	echo "$kernel"
	exit 0
fi
address=${1:?an address with a length, for example 10.7.0.50/24}
file=${2:?the file to write}
for need in busybox cpio modprobe; do
	command -v "$need" >/dev/null || fail "there is no $need here (Debian: busybox-static, cpio, kmod)"
done
ldd "$(command -v busybox)" >/dev/null 2>&1 && fail "this busybox needs libraries, and the machine has none (Debian: busybox-static)"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,dev,modules,proc,sys}
cp -L "$(command -v busybox)" "$root/bin/busybox"
number=100 # modules are loaded in the order of their names
for module in virtio_pci virtio_net; do
	# One that is built into the kernel has no file.
	modprobe -d "${MODULES:-/}" -S "$release" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
done | awk '!seen[$0]++' | while read -r path; do
	number=$((number + 1))
	case $path in
	*.xz) xz -dc "$path" ;;
	*.zst) zstd -dcq "$path" ;;
	*.gz) gzip -dc "$path" ;;
	*) cat "$path" ;;
	esac >"$root/modules/$number.ko"
done
cat >"$root/init" <<INIT
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
for module in /modules/*.ko; do
	[ ! -e \$module ] || /bin/busybox insmod \$module
done
/bin/busybox ip link set lo up
while [ ! -e /sys/class/net/eth0 ]; do /bin/busybox sleep 0.1; done
/bin/busybox ip address add $address dev eth0
/bin/busybox ip link set eth0 up
echo "the machine is up at $address"
while :; do /bin/busybox sleep 3600; done
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$file"
