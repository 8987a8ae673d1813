#!/usr/bin/env bash
# modules.sh GO: go.mod requires what the programs are made of, and nothing that only tests use.
#
# Who builds or packages tund has to trust and fetch what go.mod names. What tests need more belongs
# in test/go.mod.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go=${1:-go}

"$go" mod tidy -diff
"$go" -C test mod tidy -diff
superfluous=$(comm -23 <("$go" list -m -f '{{if not (or .Main .Indirect)}}{{.Path}}{{end}}' all | sed '/^$/d' | sort) \
	<("$go" list -deps -f '{{with .Module}}{{.Path}}{{end}}' ./cmd/... | sort -u))
[ -z "$superfluous" ] || {
	echo "go.mod requires what no program imports; a test that needs it belongs in the module test/: ${superfluous//$'\n'/ }" >&2
	exit 1
}
