#!/usr/bin/env bash
# pure.sh: the packages that take bytes, values and the time, and return values, start no goroutine
# and have no channel.
#
# What they may import and that they read no clock is in .golangci.yml; no linter there sees
# goroutines.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if git grep -nE '^[[:space:]]*go (func\b|[[:alnum:]_.]+\()|^[^"`/]*(\bchan\b|<-)' -- \
	crypto/{keys,wire,noise,replay,session} tunnel/{timers,l2,l3,offload} internal/drop ':!*_test.go' ':!*.s' ':!*/testdata/*'; then
	echo "These packages start no goroutine and have no channel (docs/architecture.md, Boundaries)." >&2
	exit 1
fi
