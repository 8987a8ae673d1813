#!/usr/bin/env bash
# Cases of layer 2, for what the kernel of a build machine may lack. Each is a script of its own
# over examples/lib.sh, or an example itself, run as an administrator would.
# shellcheck disable=SC2034 # read by guest-main.sh
ethernet_cases=(ethernet_two_lans ethernet_vlan_trunk ethernet_macvlan ethernet_ipvlan ethernet_vlan_bridge ethernet_geneve)
long_cases+=(ethernet_bond)

# script FILE: runs it, and shows what it showed beside the result of the case.
script() {
	# shellcheck disable=SC2154 # subject comes from the settings
	[ "$subject" = tund ] || return 0 # the kernel's WireGuard has no layer 2
	TUND=/opt/tund TUNCTL=/opt/tunctl bash "$1"
}

case_ethernet_two_lans() { script /opt/examples/two-lans/run.sh; }
case_ethernet_vlan_trunk() { script /opt/examples/vlan-trunk/run.sh; }
case_ethernet_macvlan() { script /opt/examples/macvlan/run.sh; }
case_ethernet_ipvlan() { script /opt/ethernet/ipvlan.sh; }
case_ethernet_vlan_bridge() { script /opt/ethernet/vlan-bridge.sh; }
case_ethernet_geneve() { script /opt/ethernet/geneve.sh; }
case_ethernet_bond() { script /opt/ethernet/bond.sh; }
