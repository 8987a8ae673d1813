#!/usr/bin/env bash
# native.sh PACKAGE: how long a gateway under systemd is away when it is killed, and that it loses
# nothing when it is restarted. The systemd of a Debian root runs as process 1 of namespaces of its
# own, with cgroup v2, on the processor as it is: times say something here, which those of an
# emulated guest do not. It prints each time.
#
#   TUND_NATIVE_KILLS     how often the gateway is killed       (10)
#   TUND_NATIVE_RESTARTS  how often it is restarted             (5)
#
# Needs root, a cgroup v2 hierarchy anywhere, and the programs of `test/tools.sh testdeb`.
set -euo pipefail
package=$(realpath "${1:?which package}")
cd "$(dirname "${BASH_SOURCE[0]}")"
PATH=$PATH:/usr/sbin:/sbin

die() {
	echo "native.sh: $*" >&2
	exit 70
}
[ "$(id -u)" = 0 ] || die "needs root, for namespaces"
hierarchy=$(findmnt -t cgroup2 -n -o TARGET | head -n 1)
[ -n "$hierarchy" ] || die "no cgroup v2 hierarchy is mounted"
base=$(./root.sh) || die "no Debian root"

work=$(mktemp -d)
group=$hierarchy/tund-native.$$
first=
cleanup() {
	if [ -n "$first" ]; then
		kill -KILL "$first" 2>/dev/null || true # and with it all that it has started
		wait "$unshare" 2>/dev/null || true
	fi
	# A group can be removed when its last process has been buried.
	for _ in $(seq 50); do
		find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
		[ -d "$group" ] || break
		sleep 0.1
	done
	rm -rf "$work"
}
trap cleanup EXIT

root=$work/root
mkdir "$root"
tar -C "$root" -xf "$base"
mkdir "$root/test"
cp "$package" "$root/test/tund.deb"
cp native-main.sh "$root/test/"
echo native >"$root/etc/hostname"
for unit in systemd-networkd systemd-resolved systemd-udevd systemd-timesyncd systemd-logind getty@tty1 console-getty e2scrub_reap; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
done
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer dev-hugepages.mount dev-mqueue.mount; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# What runs before systemd, in its namespaces.
cat >"$work/init" <<'INIT'
set -e
cd "$1"
mount --bind . .
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm dev/net
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
while read -r name major minor; do mknod -m 666 "dev/$name" c "$major" "$minor"; done <<DEVICES
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
net/tun 10 200
DEVICES
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir .old
pivot_root . .old
umount -l /.old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --show-status=no --log-target=journal
INIT

mkdir -p "$group/all"
(
	echo "$BASHPID" >"$group/all/cgroup.procs"
	exec unshare --pid --fork --kill-child --mount --propagation private --net --uts --ipc --cgroup bash "$work/init" "$root"
) </dev/null >"$work/boot" 2>&1 &
unshare=$!
inside() { nsenter -t "$first" -m -p -n -u -i -C -r -w "$@"; }
booted() {
	first=$(pgrep -P "$unshare" | head -n 1) || return 1
	inside systemctl is-system-running 2>/dev/null | grep -qE '^(running|degraded)'
}
for _ in $(seq 300); do
	kill -0 "$unshare" 2>/dev/null || die "systemd ended: $(cat "$work/boot")"
	booted && break
	sleep 0.1
done
booted || die "systemd is not up after 30 s: $(cat "$work/boot")"
inside env TUND_NATIVE_KILLS="${TUND_NATIVE_KILLS:-10}" TUND_NATIVE_RESTARTS="${TUND_NATIVE_RESTARTS:-5}" bash /test/native-main.sh
