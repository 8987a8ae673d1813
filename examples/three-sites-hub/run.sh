#!/usr/bin/env bash
# Three sites on one LAN, two of which know only the third, the hub.
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
tunctl paris fdb # the host of Rome is behind berlin
