#!/usr/bin/env bash
# deb.sh ARCH…: makes dist/tund_VERSION_ARCH.deb and dist/tund-agent_VERSION_ARCH.deb for each of
# amd64, arm64.
#
# What a package holds is what `make install` installs, plus manual pages, licences and what dpkg
# asks for, with the programs of the architecture. It needs Go, make, dpkg-deb and gzip, and no
# root. The same commit makes the same bytes: times are that of the commit, or SOURCE_DATE_EPOCH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
umask 022
export LC_ALL=C
go=${GO:-go}
commit=${VERSION:-$(git describe --tags --always --dirty)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
maintainer=${MAINTAINER:-$(git log -1 --format='%an <%ae>')}

# A version of Debian's begins with a digit. What has no tag yet sorts before the first that has
# one.
case $commit in
v[0-9]*.* | [0-9]*.*) version=$(sed -e 's/^v//' -e 's/-/+/g' <<<"$commit") ;;
*) version=0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d.%H%M%S).${commit//-/.} ;;
esac

root=dist/deb/root
rm -rf dist/deb
mkdir -p "$root"
make -s install DESTDIR="$PWD/$root" PREFIX=/usr SYSCONFDIR=/etc VERSION="$commit" GO="$go"
doc=$root/usr/share/doc/tund
rm "$doc/LICENSE" # part of copyright

manual() { # NAME SECTION FILE SUMMARY
	mkdir -p "$root/usr/share/man/man$2"
	VERSION=$version GO=$go packaging/man.sh "$@" | gzip -9n >"$root/usr/share/man/man$2/$1.$2.gz"
}
manual tund 8 docs/tund.md "userspace VPN tunnel daemon: WireGuard and Ethernet"
manual tunctl 8 docs/tunctl.md "ask and steer running instances of tund"
manual tund.toml 5 docs/config.md "configuration of an instance of tund"

# The programs are linked statically: the licences of all they are made of come along.
{
	cat LICENSE
	printf '\nIt holds parts under other free licences: licenses.gz beside this file has their texts.\n'
} >"$doc/copyright"
{
	"$go" list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/... | sort -u |
		while read -r module release dir; do
			printf '\n\n%s %s\n\n' "$module" "$release"
			find "$dir" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \) | sort | xargs cat
		done
	printf '\n\nGo %s\n\n' "$("$go" env GOVERSION)"
	cat "$("$go" env GOROOT)/LICENSE"
} | gzip -9n >"$doc/licenses.gz"
printf 'tund (%s) unstable; urgency=medium\n\n  * Commit %s. What changed for users: CHANGELOG.md\n\n -- %s  %s\n' \
	"$version" "$commit" "$maintainer" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.gz"
mkdir -p "$root/usr/share/lintian/overrides"
echo "tund: statically-linked-binary" >"$root/usr/share/lintian/overrides/tund"

# The agent for networks of many sites is a package of its own: few need it.
agent=dist/deb/agent
make -s install-agent DESTDIR="$PWD/$agent" PREFIX=/usr SYSCONFDIR=/etc VERSION="$commit" GO="$go"
mkdir -p "$agent/usr/share/man/man8" "$agent/usr/share/lintian/overrides"
VERSION=$version GO=$go packaging/man.sh tund-agent 8 docs/tund-agent.md "agent of tund for networks of many sites" |
	gzip -9n >"$agent/usr/share/man/man8/tund-agent.8.gz"
install -D -m 0644 -t "$agent/usr/share/doc/tund-agent" "$doc/copyright" "$doc/licenses.gz"
sed 's/^tund (/tund-agent (/' < <(gzip -dc "$doc/changelog.gz") | gzip -9n >"$agent/usr/share/doc/tund-agent/changelog.gz"
echo "tund-agent: statically-linked-binary" >"$agent/usr/share/lintian/overrides/tund-agent"
install -D -m 0755 packaging/debian/agent.postinst "$agent/DEBIAN/postinst"
install -D -m 0755 packaging/debian/agent.postrm "$agent/DEBIAN/postrm"

install -D -m 0755 -t "$root/DEBIAN" packaging/debian/{postinst,postrm,prerm}
(cd "$root" && find etc -type f -printf '/%p\n' | sort) >"$root/DEBIAN/conffiles"

for arch in "${@:?which architectures: amd64 arm64}"; do
	env CGO_ENABLED=0 GOOS=linux GOARCH="$arch" "$go" build -trimpath -ldflags "-s -w -X main.version=$commit" \
		-o dist/deb/bin/ ./cmd/tund ./cmd/tunctl ./cmd/tund-agent
	install -m 0755 dist/deb/bin/tund "$root/usr/sbin/tund"
	install -m 0755 dist/deb/bin/tunctl "$root/usr/bin/tunctl"
	cat >"$root/DEBIAN/control" <<CONTROL
Package: tund
Version: $version
Architecture: $arch
Maintainer: $maintainer
Section: net
Priority: optional
Depends: systemd (>= 247), passwd
Suggests: wireguard-tools
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f 1)
Description: userspace VPN tunnel daemon: WireGuard and Ethernet
 tund connects Linux gateways. It speaks WireGuard to anybody who does, and
 between two tunds it carries Ethernet as well: LANs, virtual machines and
 containers on both sides become one network. It moves packets in batches and
 installs its own addresses, routes and bridge, and takes them away again.
 .
 tunctl tells how it is doing and, when it is not well, why.
CONTROL
	(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
	find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	dpkg-deb --root-owner-group -Zxz --build "$root" "dist/tund_${version}_$arch.deb" >/dev/null
	echo "dist/tund_${version}_$arch.deb"

	install -m 0755 dist/deb/bin/tund-agent "$agent/usr/bin/tund-agent"
	cat >"$agent/DEBIAN/control" <<CONTROL
Package: tund-agent
Version: $version
Architecture: $arch
Maintainer: $maintainer
Section: net
Priority: optional
Depends: tund (= $version)
Installed-Size: $(du -sk --exclude=DEBIAN "$agent" | cut -f 1)
Description: agent of tund for networks of many sites
 tund-agent keeps the peers of a running tund as a registry of signed documents
 says, and publishes what its own site says of itself. It runs beside tund as a
 user of its own and without any capability.
CONTROL
	(cd "$agent" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$agent/DEBIAN/md5sums"
	find "$agent" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	dpkg-deb --root-owner-group -Zxz --build "$agent" "dist/tund-agent_${version}_$arch.deb" >/dev/null
	echo "dist/tund-agent_${version}_$arch.deb"
done
