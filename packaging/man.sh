#!/usr/bin/env bash
# man.sh NAME SECTION FILE SUMMARY: turns a page of docs/ into a manual page for man(1), on standard
# output.
#
# The documents are the one place where things are described; this changes their form only. Tables
# become lists of terms, which man(1) can wrap to any width, and links between the pages become
# references such as tund(8). The output is the same for the same FILE, VERSION and
# SOURCE_DATE_EPOCH (seconds; today when it is not set).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name=$1 section=$2 file=$3 summary=$4
md2man=${MD2MAN:-github.com/cpuguy83/go-md2man/v2@v2.0.7}
day=$(LC_ALL=C date -u -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" +%Y-%m-%d)

# A page that has a manual page of its own is named as man(1) names it; any other by where it is
# installed.
references() {
	sed -E \
		-e 's#\[tund\.md\]\(tund\.md[^)]*\)#**tund**(8)#g' \
		-e 's#\[tund-agent\.md\]\(tund-agent\.md[^)]*\)#**tund-agent**(8)#g' \
		-e 's#\[tunctl\.md\]\(tunctl\.md[^)]*\)#**tunctl**(8)#g' \
		-e 's#\[config\.md\]\(config\.md[^)]*\)#**tund.toml**(5)#g' \
		-e 's#\[([^]]*)\]\(\#[^)]*\)#\1#g' \
		-e 's#\[([^]]*)\]\(\.\./([^)]*)\)#\1 (/usr/share/doc/tund/\2)#g' \
		-e 's#\[([^]]*)\]\(([a-z/-]+\.md)[^)]*\)#\1 (/usr/share/doc/tund/docs/\2)#g'
}

# A row "| a | b | c |" below the heads "| A | B | C |" becomes the term "a" and the text "B: b. c".
lists() {
	awk '
		function cells(row, cell,   n, i) {
			gsub(/\\\|/, "\001", row)
			sub(/^\| */, "", row); sub(/ *\|$/, "", row)
			n = split(row, cell, / *\| */)
			for (i = 1; i <= n; i++) gsub("\001", "|", cell[i])
			return n
		}
		/^```/ { code = !code }
		code || !/^\|/ { if (table) print ""; table = 0; print; next }
		!table { columns = cells($0, head); table = 1; next }
		/^\| *:?-+/ { next }
		{
			n = cells($0, cell)
			text = ""
			for (i = 2; i < n; i++) if (cell[i] != "") text = text head[i] ": " cell[i] ". "
			text = text cell[n]
			printf "\n%s\n: %s\n", (cell[1] == "" ? head[1] : cell[1]), (text == "" ? "-" : text)
		}
	'
}

{
	printf '%% "%s" "%s" "%s" "tund %s" "tund manual"\n\n# NAME\n\n%s - %s\n\n# DESCRIPTION\n' \
		"$name" "$section" "$day" "${VERSION:-unknown}" "$name" "$summary"
	# The title of the page is its name, and its sections are those of the manual page.
	sed -e 1d -e '/^## /{s/^## /# /;/\[/!s/.*/\U&/}' -e 's/^### /## /' "$file" | references | lists
} | "${GO:-go}" run "$md2man"
