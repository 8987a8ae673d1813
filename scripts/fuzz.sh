#!/usr/bin/env bash
# fuzz.sh GO FUZZTIME [PATTERN]: runs every fuzz target of the module, or those whose name PATTERN
# matches, one after the other for FUZZTIME each (a duration as of `go test -fuzztime`).
#
# An input that fails stays below testdata/fuzz of its package, from where `go test` runs it ever
# after: commit it with the fix. Every target runs even when one before it failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
go=${1:?which go command?} fuzztime=${2:?how long for each target?} pattern=${3:-.}
failed=()
while IFS=: read -r file name; do
	printf '=== %s %s\n' "$(dirname "$file")" "$name"
	"$go" test -run '^$' -fuzz "^$name\$" -fuzztime "$fuzztime" "./$(dirname "$file")" || failed+=("$name")
done < <(git grep -oE '^func Fuzz\w+' -- '*_test.go' ':!test' | sed 's/func //' | grep -E ":.*($pattern)")
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
