#!/usr/bin/env bash
# [tun] and [tap] on one instance.
# shellcheck source=examples/lib.sh
. "$(dirname "$0")/../lib.sh"

site berlin paris
start berlin paris
container berlin web 10.7.0.1/24
container paris app 10.7.0.3/24

reaches berlin 10.9.0.2 # routed, through the TUN
reaches web 10.7.0.3    # bridged, through the TAP
tunctl berlin status
