#!/usr/bin/env bash
# release.sh GO VERSION: builds what a release consists of into dist/release:
#
#   tund-VERSION-linux-ARCH.tar.gz   static programs, licence, documents, service, examples
#   tund-VERSION-linux-ARCH.sbom     all modules with version and checksum (`go version -m`)
#   SHA256SUMS                       of all of these: sha256sum -c SHA256SUMS
#
# The same commit, built by the same Go, gives the same bytes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go=${1:?which go command?} version=${2:?which version?}
out=dist/release
rm -rf "$out"
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
date=$(git log -1 --format=%cI 2>/dev/null || echo 1970-01-01T00:00:00Z)

for arch in amd64 arm64; do
	name=tund-$version-linux-$arch
	mkdir -p "$work/$name"
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch GOFLAGS='' "$go" build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" \
		-o "$work/$name/" ./cmd/tund ./cmd/tunctl ./cmd/tund-agent
	(cd "$work/$name" && "$go" version -m tund tunctl tund-agent) >"$out/$name.sbom"
	cp -R README.md CHANGELOG.md LICENSE docs packaging examples "$work/$name/"
	rm -f "$work/$name"/packaging/*.go
	tar --sort=name --mtime="$date" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -C "$work" -cf - "$name" | gzip -n -9 >"$out/$name.tar.gz"
done
(cd "$out" && sha256sum -- *.tar.gz *.sbom >SHA256SUMS)
ls -l "$out"
