#!/bin/sh
# probe.sh: code that has taken over tund. It runs in the place of tund, in all that tund@.service
# puts around it, and prints what it can do that a program with no task but a tunnel should not.
# /run/victim holds the process id of an ordinary process of root's with every capability.
can() { echo "CAN $*"; }
head -c 1 /etc/shadow >/dev/null 2>&1 && can "read /etc/shadow"
head -c 1 /var/lib/private-of-root >/dev/null 2>&1 && can "read a file of root's with mode 0600"
kill -CONT "$(cat /run/victim)" 2>/dev/null && can "send a signal to a process of root's"
kill -0 1 2>/dev/null && can "send a signal to systemd"
(true >/etc/tund/made-by-probe) 2>/dev/null && can "write to /etc/tund"
(true >/usr/sbin/made-by-probe) 2>/dev/null && can "write to /usr"
rm -f /run/wireguard/other.sock 2>/dev/null && [ ! -e /run/wireguard/other.sock ] && can "remove another program's WireGuard socket"
[ "$(id -u)" = 0 ] && can "show the user id of root to services that ask who connects"
unshare -U true 2>/dev/null && can "make a user namespace"
# What it is for stays possible.
touch /run/wireguard/probe.sock 2>/dev/null || echo "CANNOT make a socket for wg(8)"
rm -f /run/wireguard/probe.sock
[ -r /etc/tund/berlin.key ] || echo "CANNOT read its key"
(true <>/dev/net/tun) || echo "CANNOT open /dev/net/tun"
(echo 0 >/proc/sys/net/ipv4/conf/all/src_valid_mark) || echo "CANNOT set src_valid_mark"
grep CapEff /proc/self/status
echo "probed"
