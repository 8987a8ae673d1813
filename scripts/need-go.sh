#!/usr/bin/env bash
# need-go.sh GO: succeeds when the go command GO can build this checkout.
#
# Without a go, or with one that is too old and may not download a newer toolchain, it says in one
# sentence what to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go=${1:?which go command?}
needed=$(sed -n 's/^go \([0-9.]*\)$/\1/p' go.mod)
remedy="install Go $needed or newer as https://go.dev/doc/install says, or name it: make GO=/path/to/go."

if ! command -v "$go" >/dev/null; then
	echo "There is no Go on the path nor in /usr/local/go/bin: $remedy" >&2
	exit 1
fi
# From Go 1.21 on this names the toolchain that go.mod selects, which Go downloads if it may;
# before, go's own version.
if ! version=$("$go" env GOVERSION 2>&1) || [ "$(printf '%s\n' "go$needed" "$version" | sort -V | head -n 1)" != "go$needed" ]; then
	echo "$go is $(GOTOOLCHAIN=local "$go" version 2>/dev/null | cut -d ' ' -f 3), too old for tund: $remedy" >&2
	exit 1
fi
