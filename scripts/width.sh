#!/usr/bin/env bash
# width.sh: comments and documents have lines of at most 100 columns, with a tab counted as 4.
#
# golangci-lint's lll would hold code to the same width. Rows of Markdown tables cannot be wrapped,
# and directives (//go:, //nolint) must not be; a line without a space, such as a URL, has no place
# to be broken.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck disable=SC2016 # $0 is awk's
git ls-files -z -- '*.go' '*.s' '*.h' '*.md' '*.sh' '*.toml' '*.yml' '*.conf' '*.service' Makefile .ci/run \
	packaging/debian ':!*/testdata/*' | LC_ALL=C xargs -0 awk '
	function columns(line) {
		gsub(/\t/, "    ", line)
		gsub(/[\200-\277]/, "", line) # all bytes of a character in UTF-8 but the first
		return length(line)
	}
	columns($0) <= 100 { next }
	{ sub(/^[ \t]+/, "", $0) }
	FILENAME ~ /\.md$/ { if (/^\|/ || !/ /) next }
	FILENAME ~ /\.(go|s|h)$/ { if (!/(^|[ \t])\/\/ [^ ]* / || /\/\/(go:|nolint)/) next }
	FILENAME !~ /\.(md|go|s|h)$/ { if (!/^##? / && !/[ \t]##? [a-z][^"|]*$/) next }
	{
		printf "%s:%d: more than 100 columns: %.60s\n", FILENAME, FNR, $0
		found = 1
	}
	END { exit found }
'
