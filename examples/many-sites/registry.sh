#!/usr/bin/env bash
# registry.sh: what whoever runs the registry of a network does, with tunctl, openssl and etcdctl.
#
#   registry.sh certificate NAME [ADDRESS…]  makes NAME.pem and NAME.pem.key, for a member of etcd
#                                            with its addresses, or for a client
#   registry.sh init                         makes the signer's key, prints what agents have to know
#                                            of it, publishes an empty list of revocations, and lets
#                                            nobody into etcd but users
#   registry.sh admit REQUEST                lets a site read the registry and write its own record:
#                                            a certificate, and a user of etcd
#   registry.sh grant REQUEST PREFIX…        signs what a site may claim, and publishes it; flags of
#                                            tunctl net grant may follow, as --vlan=0 or --new-agent
#   registry.sh revoke NAME…                 takes grants back
#
# REQUEST is a file with the output of "tund-agent --request" at the site. Everything is kept in the
# current directory: NETWORK.signer and ca.key, which belong on a computer that is not a part of the
# registry; and NETWORK/, the documents as they were signed, which is also the backup of the grants.
# NETWORK is "acme" unless it is set, and ETCDCTL_ENDPOINTS names the members.
set -euo pipefail
umask 077
network=${NETWORK:-acme}
below=/tund/v1/$network
export ETCDCTL_API=3 ETCDCTL_CACERT=ca.pem ETCDCTL_CERT=root.pem ETCDCTL_KEY=root.pem.key

# field NAME FILE: a string in a request.
field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$2"; }

# id KEY: the name of a site in the registry, which is its public key in base32.
id() { base64 -d <<<"$1" | base32 -w 0 | tr -d = | tr '[:upper:]' '[:lower:]'; }

# publish KEY: copies a signed document into etcd.
publish() { etcdctl put "$below/$1" <"$network/$1.json" >/dev/null; }

# refuse TEXT…: ends with an error.
refuse() {
	printf '%s\n' "$*" >&2
	exit 1
}

# quietly COMMAND…: with its output only if it fails.
quietly() {
	local said
	said=$("$@" 2>&1) && return
	printf '%s: %s\n' "$*" "$said" >&2
	return 1
}

certificate() {
	local name=$1 names='' address
	shift
	for address in "$@"; do names+="${names:+,}IP:$address"; done
	if [ ! -e ca.key ]; then
		quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
			-subj "/CN=registry of $network" -keyout ca.key -out ca.pem
	fi
	quietly openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
		-keyout "$name.pem.key" -out "$name.csr"
	# Members of etcd are clients of each other.
	quietly openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -out "$name.pem" \
		-extfile <(printf 'extendedKeyUsage=clientAuth%s\n' "${names:+,serverAuth
subjectAltName=$names}")
	rm "$name.csr"
}

init() {
	certificate root
	tunctl net init "$network"
	quietly tunctl net revoke --signer "$network.signer" --store . --network "$network"
	publish crl
	{
		etcdctl user add root --no-password
		etcdctl user grant-role root root
		etcdctl auth enable
	} >/dev/null
}

admit() {
	local name site
	name=$(field name "$1")
	site=$(id "$(field site "$1")")
	# Whoever has made the request has chosen the name, which is to be that of nobody else: not of
	# root, nor of a member, nor of another site.
	case $name in '' | root | .* | -* | *[!A-Za-z0-9_.-]*) refuse "$1: \"$name\" cannot name a site here: want letters, digits and _.-" ;; esac
	if [ -e "$name.pem" ] && openssl x509 -in "$name.pem" -noout -ext extendedKeyUsage | grep -q "Web Server"; then
		refuse "$1: $name is a member of etcd"
	fi
	if etcdctl user get "$name" >/dev/null 2>&1; then
		refuse "$1: there is a user $name already: \"certificate $name\" renews its certificate; if the site is set up again, delete user and role first"
	fi
	certificate "$name"
	{
		etcdctl role delete "site-$name" 2>&1 || true # of an attempt that was interrupted
		etcdctl role add "site-$name"
		etcdctl role grant-permission "site-$name" --prefix=true read "$below/"
		etcdctl role grant-permission "site-$name" --prefix=true readwrite "$below/site/$site/"
		etcdctl user add "$name" --no-password
		etcdctl user grant-role "$name" "site-$name"
	} >/dev/null
}

grant() {
	local request=$1 word options=()
	shift
	for word in "$@"; do
		case $word in
		-*) options+=("$word") ;;
		*) options+=(--prefix "$word") ;;
		esac
	done
	tunctl net grant "$request" --signer "$network.signer" --store . "${options[@]}"
	publish "grant/$(id "$(field site "$request")")"
}

revoke() {
	tunctl net revoke --signer "$network.signer" --store . --network "$network" "$@"
	publish crl
}

case ${1-} in
certificate | init | admit | grant | revoke) "$@" ;;
*)
	sed -n '2,/^set/ { /^#/ s/^# \{0,1\}//p }' "$0"
	exit 2
	;;
esac
