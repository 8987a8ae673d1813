#!/usr/bin/env bash
# structure.sh GO: docs/architecture.md is true of the tree.
#
#   - Inside the engine imports point down, no package below tunnel imports tunnel, and none but
#     tunnel holds a *Tunnel.
#   - A package has at most 3,000 lines outside tests (tunnel/l2, the switch, is the one exception),
#     and a file has at most 400.
#   - Each package has a row in the codemap, and a rule of its own in .golangci.yml says what it may
#     import.
#   - Each file that the document names exists.
# shellcheck disable=SC2016 # $ and backquotes are those of awk, sed, Go and Markdown
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go=${1:?which go command?}
doc=docs/architecture.md
failed=0
fail() {
	printf '%s\n' "$@" >&2
	failed=1
}

packages=$("$go" list -f '{{.ImportPath}}' ./... | sed 's#^tund/##')
# Lines "IMPORTER IMPORTED", of packages of this module, as programs are built: tests may import
# more.
imports=$("$go" list -f '{{$p := .ImportPath}}{{range .Imports}}{{$p}} {{.}}{{"\n"}}{{end}}' ./... |
	sed -n 's#^tund/\([^ ]*\) tund/#\1 #p')

# The engine from its top to its bottom; packages of one row do not import one another. What is
# below the last row stands alone.
layers='tunnel
tunnel/ethernet tunnel/negotiate
tunnel/extension tunnel/handshake
tunnel/lane
tunnel/capture tunnel/peerlog
tunnel/peer
tunnel/timers tunnel/staged tunnel/datasession tunnel/udp tunnel/tundev tunnel/l2 tunnel/l3 tunnel/failover
tunnel/offload'
up=$(awk '
	NR == FNR { for (i = 1; i <= NF; i++) layer[$i] = NR; next }
	!($1 in layer) || !($2 in layer) { next }
	layer[$1] >= layer[$2] { print "  " $1 " imports " $2 }
' <(printf '%s\n' "$layers") <(printf '%s\n' "$imports"))
[ -z "$up" ] || fail "Imports inside the engine point down ($doc, Boundaries):" "$up"
unranked=$(comm -23 <(grep -E '^tunnel(/|$)' <<<"$packages" | grep -v 'test$' | sort) <(tr ' ' '\n' <<<"$layers" | sort))
[ -z "$unranked" ] || fail "Packages of the engine without a layer in scripts/structure.sh:" "$unranked"

held=$(git grep -nE '\*(tunnel\.)?Tunnel\b' -- 'tunnel/*/*.go' || true)
[ -z "$held" ] || fail "Only tunnel itself knows the whole of it:" "$held"

large=$(git ls-files -z '*.go' | grep -zvE '_test\.go$|^test/|^tunnel/l2/|/testdata/' | xargs -0 wc -l | awk '
	$2 == "total" { next }
	{ sub(/\/[^\/]*$/, "", $2); sum[$2] += $1 }
	END { for (p in sum) if (sum[p] > 3000) print "  " p ": " sum[p] " lines" }')
[ -z "$large" ] || fail "Packages of more than 3,000 lines:" "$large"
long=$(git ls-files -z '*.go' | xargs -0 wc -l | awk '$2 != "total" && $1 > 400 { print "  " $2 ": " $1 " lines" }')
[ -z "$long" ] || fail "Files of more than 400 lines:" "$long"

# What stands in backquotes in the document, one a line.
names=$(grep -oE '`[^`]+`' "$doc" | tr -d '`' | sort -u)

# Below the path of the first name of a row the following names may be relative to its directory, as
# in "`crypto/keys` `wire` `noise`".
rows=$(sed -n '/^## Codemap/,/^Where do I change/p' "$doc" | grep '^| `' | cut -d '|' -f 2 | while read -r row; do
	base=''
	for name in $(tr -d '`,' <<<"$row"); do
		name=${name%/}
		if [ -z "$base" ] || [ -e "$name" ]; then echo "$name"; else echo "${base%/*}/$name" "$base/$name" | tr ' ' '\n'; fi
		[ -n "$base" ] || base=$name
	done
done | sort -u)
missing=$(comm -23 <(grep -vE '^packaging$|test$' <<<"$packages" | sort) <(printf '%s\n' "$rows"))
[ -z "$missing" ] || fail "Packages without a row in the codemap of $doc:" "$missing"

# Directories that a rule names in its files, without those that only except something from it. What
# puts the parts together, and what only tests import, may import anything.
ruled=$(grep -oE '"\$\{config-path\}/[^"*]+' .golangci.yml | sed 's#^"\${config-path}/##; s#/$##' | sort -u)
while read -r package; do
	dir=$package
	while [ -n "$dir" ]; do
		if grep -qxF "$dir" <<<"$ruled"; then continue 2; fi
		case $dir in */*) dir=${dir%/*} ;; *) dir='' ;; esac
	done
	fail "No rule in .golangci.yml says what $package may import."
done < <(grep -vxE 'cmd/tund|internal/daemon|internal/testnet|packaging' <<<"$packages")

# Files are named from the top, or from below tunnel.
while read -r name; do
	case $name in
	*.go | *.sh | *.md) ;;
	*) continue ;;
	esac
	compgen -G "$name" >/dev/null || compgen -G "tunnel/$name" >/dev/null || compgen -G "tunnel/handshake/$name" >/dev/null ||
		fail "$doc names $name, which does not exist."
done <<<"$names"
exit $failed
