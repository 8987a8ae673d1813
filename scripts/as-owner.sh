#!/usr/bin/env bash
# as-owner.sh COMMAND…: runs COMMAND in the checkout as the user who owns it, when root calls it.
#
# So `sudo make install` builds with the user's own caches and leaves nothing behind that the user's
# next `make build` may not replace. Anybody else, and root in a checkout of its own, runs COMMAND
# as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps runuser
owner=$(stat -c %U .)
if [ "$(id -u)" != 0 ] || [ "$owner" = root ] || [ "$owner" = UNKNOWN ]; then
	exec "$@"
fi
exec runuser -u "$owner" -- env HOME="$(getent passwd "$owner" | cut -d : -f 6)" USER="$owner" LOGNAME="$owner" "$@"
