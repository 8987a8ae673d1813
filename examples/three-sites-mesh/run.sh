#!/usr/bin/env bash
# Three sites on one LAN, each of which knows the others.
# shellcheck source=examples/lib.sh
. "$(dirname "$0")/../lib.sh"

site berlin paris rome
start berlin paris rome
container berlin a 10.7.0.1/24
container paris b 10.7.0.2/24
container rome c 10.7.0.3/24

reaches a 10.7.0.2
reaches b 10.7.0.3
reaches c 10.7.0.1
! at a ping -n -c 3 -i 0.2 10.7.0.3 | grep DUP || die "an answer came twice"
ok "no answer comes twice"
tunctl berlin fdb
