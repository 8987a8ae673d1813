#!/usr/bin/env bash
# root.sh: prints the path of a Debian root as a tar archive, which it makes with mmdebstrap the
# first time.
#
#   TUND_LAB_CACHE  where it is kept       (~/.cache/tund-lab)
#   TUND_DEB_SUITE  the release of Debian  (bookworm)
set -euo pipefail
cache=${TUND_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tund-lab}
suite=${TUND_DEB_SUITE:-bookworm}
include=systemd,systemd-sysv,udev,iproute2,iputils-ping,nftables,wireguard-tools,procps,kmod,acl,passwd,dbus,systemd-resolved

base=$cache/debian-$suite-$(sha256sum <<<"$include" | cut -c1-8).tar
if [ ! -s "$base" ]; then
	echo "root.sh: making a Debian $suite root" >&2
	mkdir -p "$cache"
	mmdebstrap --quiet --variant=minbase --include="$include" "$suite" "$base.new.tar"
	mv "$base.new.tar" "$base"
fi
echo "$base"
