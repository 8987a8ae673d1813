#!/usr/bin/env bash
# Two container networks as one LAN: containers behind a bridge in Berlin and in Paris.
# shellcheck source=examples/lib.sh
. "$(dirname "$0")/../lib.sh"

site berlin paris
start berlin paris
container berlin web 10.7.0.1/24 fd07::1/64
container berlin db 10.7.0.2/24
container paris app 10.7.0.3/24 fd07::3/64
container paris cache 10.7.0.4/24

reaches web 10.7.0.3
reaches app 10.7.0.2
reaches cache 10.7.0.1
reaches web fd07::3
# Full-size frames cross although the tunnel is narrower, so no host has to lower its MTU.
reaches app 10.7.0.1 -s 1472 -M "do"
reaches web 10.7.0.2               # both in Berlin, without the tunnel
tunctl berlin fdb
