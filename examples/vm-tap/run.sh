#!/usr/bin/env bash
# A virtual machine at its TAP on the bridge in Berlin, and a container in Paris, on one LAN.
#
# The guest is qemu with the kernel and the initrd of initrd.sh; KERNEL and INITRD name others. Such
# an initrd is to give the first Ethernet device the address 10.7.0.50/24. GUEST replaces qemu by
# another program that opens the TAP $TAP and answers for 10.7.0.50.
# shellcheck source=examples/lib.sh
. "$(dirname "$0")/../lib.sh"

site berlin paris
start berlin paris
ip_at berlin tuntap add dev vmtap0 mode tap vnet_hdr
ip_at berlin link set vmtap0 master br0 up
container paris app 10.7.0.3/24

if [ -n "${GUEST:-}" ]; then
	behind berlin env TAP=vmtap0 MAC=52:54:00:12:34:56 "$GUEST" >"$work/guest.log" 2>&1
else
	command -v qemu-system-x86_64 >/dev/null || die "there is no qemu here (Debian: qemu-system-x86)"
	kernel=$("$here/initrd.sh" --kernel)
	if [ -z "${INITRD:-}" ]; then
		INITRD=$work/initrd.gz
		"$here/initrd.sh" 10.7.0.50/24 "$INITRD"
	fi
	behind berlin qemu-system-x86_64 -accel "${ACCEL:-tcg}" -m 256 -nographic -no-reboot -kernel "$kernel" \
		-initrd "$INITRD" -append "console=ttyS0 panic=-1 quiet" \
		-netdev tap,id=lan,ifname=vmtap0,script=no,downscript=no,vhost=off \
		-device virtio-net-pci,netdev=lan,mac=52:54:00:12:34:56 </dev/null >"$work/guest.log" 2>&1
fi

reaches app 10.7.0.50
reaches app 10.7.0.50 -s 1472 -M "do"
tunctl paris fdb
