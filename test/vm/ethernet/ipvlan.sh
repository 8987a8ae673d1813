#!/usr/bin/env bash
# ipvlan children of the bridge: several addresses behind one MAC.
EXAMPLE=two-lans
# shellcheck source=examples/lib.sh
. /opt/examples/lib.sh

site berlin paris
start berlin paris
container paris app 10.7.0.3/24
for i in 1 2; do
	namespace "child$i"
	ip_at berlin link add link br0 name "iv$i" netns "$(ns "child$i")" type ipvlan mode l2
	ip_at "child$i" address add "10.7.0.1$i/24" dev "iv$i"
	ip_at "child$i" link set "iv$i" up
done
reaches child1 10.7.0.3
reaches child2 10.7.0.3
reaches app 10.7.0.11
reaches app 10.7.0.12
reaches child1 10.7.0.12
reaches app 10.7.0.11 -s 1472 -M "do"
