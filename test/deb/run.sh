#!/usr/bin/env bash
# run.sh PACKAGE: installs a Debian package of tund in a Debian system in qemu, and tries there what
# its users do.
#
#   TUND_LAB_CACHE    where kernel and root are kept            (~/.cache/tund-lab)
#   TUND_DEB_SECONDS  the guest is killed after so long         (900)
#   TUND_LAB_ACCEL    qemu's -accel                             (tcg,thread=multi)
#
# Needs root, for the files of the guest's system, and the programs of `test/tools.sh vm testdeb`.
set -euo pipefail
package=$(realpath "${1:?which package}")
cd "$(dirname "${BASH_SOURCE[0]}")"
PATH=$PATH:/usr/sbin:/sbin
cache=${TUND_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tund-lab}
accel=${TUND_LAB_ACCEL:-tcg,thread=multi}
die() {
	echo "run.sh: $*" >&2
	exit 70
}
[ "$(id -u)" = 0 ] || die "needs root, for the files of the guest's system"

../lab/guest.sh --fetch
tree=$(find "$cache" -maxdepth 1 -name 'kernel-*' -type d | sort -V | tail -n 1)
kernel=$(find "$tree/boot" -name 'vmlinuz-*')
release=${kernel##*/vmlinuz-}
modules=$(find "$tree" -path "*/lib/modules/$release" -type d)

base=$(./root.sh) || die "no Debian root"

work=$(mktemp -d)
qemu=
trap '[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true; rm -rf "$work"' EXIT

# The disk: the root, the kernel's modules, and the test as a service of its own.
root=$work/root
mkdir "$root"
tar -C "$root" -xf "$base"
mkdir -p "$root/usr/lib/modules" "$root/test"
cp -a "$modules" "$root/usr/lib/modules/"
cp "$package" "$root/test/tund.deb"
cp guest-main.sh probe.sh "$root/test/"
cat >"$root/etc/systemd/system/test.service" <<'UNIT'
[Unit]
[Service]
Type=idle
ExecStart=/bin/bash /test/guest-main.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
TimeoutStopSec=5
[Install]
WantedBy=multi-user.target
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../test.service "$root/etc/systemd/system/multi-user.target.wants/test.service"
# An emulated processor may take a minute for what takes a second.
mkdir -p "$root/usr/lib/systemd/system/tund@.service.d"
printf '[Service]\nTimeoutStartSec=300\nTimeoutStopSec=120\nWatchdogSec=120\n' >"$root/usr/lib/systemd/system/tund@.service.d/emulated.conf"
mkdir -p "$root/usr/lib/systemd/system/tund-dns@.service.d"
printf '[Service]\nTimeoutStartSec=120\n' >"$root/usr/lib/systemd/system/tund-dns@.service.d/emulated.conf"
echo guest >"$root/etc/hostname"
for unit in getty@tty1 serial-getty@ttyS0 apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
	systemd-timesyncd.service systemd-hwdb-update.service systemd-journal-catalog-update.service; do
	case $unit in *.*) ;; *) unit=$unit.service ;; esac
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mke2fs -q -F -t ext4 -O ^has_journal -L root -d "$root" "$work/disk" "$(($(du -sm "$root" | cut -f 1) + 300))M"
rm -rf "$root"

# The initrd only finds the disk.
mkdir -p "$root"/{bin,dev,proc,sys,mnt,modules}
cp -L "$(command -v busybox)" "$root/bin/busybox"
# The libraries of a busybox that is not static.
{ ldd "$root/bin/busybox" 2>/dev/null | grep -o '/[^ ]*' || true; } | while read -r library; do
	mkdir -p "$root/$(dirname "$library")"
	cp -L "$library" "$root/$library"
done
for module in virtio_pci virtio_blk ext4; do
	modprobe -d "${modules%/lib/modules/*}" -S "$release" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }' || true
done | awk '!seen[$0]++' | while read -r file; do
	cp "$file" "$root/modules/"
	echo "/modules/${file##*/}" >>"$root/modules/order"
done
cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
[ ! -e /modules/order ] || while read -r module; do
	case $module in
	*.xz) xz -dc "$module" >/module.ko && insmod /module.ko ;;
	*) insmod "$module" ;;
	esac
done </modules/order
while [ ! -e /dev/vda ]; do sleep 0.1; done
mount -t ext4 -o rw /dev/vda /mnt
mount --move /dev /mnt/dev
umount /proc
exec switch_root /mnt /lib/systemd/systemd
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/initrd.gz"
rm -rf "$root"

# Each boot is a qemu of its own, which ends when the guest reboots, powers off or panics.
for _ in first second; do
	timeout --foreground "${TUND_DEB_SECONDS:-900}" qemu-system-x86_64 -accel "$accel" -cpu max -smp 2 -m 1024 -nodefaults -no-user-config \
		-display none -no-reboot -kernel "$kernel" -initrd "$work/initrd.gz" -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe" \
		-append "console=ttyS0 8250.nr_uarts=4 panic=-1 no_timer_check quiet systemd.show_status=no" \
		-serial "file:$work/console" -serial stdio -serial "file:$work/status" </dev/null &
	qemu=$!
	wait "$qemu" && qemu_status=0 || qemu_status=$?
	qemu=
	if [ "$qemu_status" != 0 ] || grep -q 'Kernel panic' "$work/console"; then break; fi
done
status=$(sed -n 's/^exit \([0-9]*\).*/\1/p' "$work/status" 2>/dev/null | tail -n 1 || true)
if [ -z "$status" ]; then
	tail -n 30 "$work/console" >&2 || true
	die "the guest ended before the test did (qemu: $qemu_status)"
fi
exit "$status"
