#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Explores all that can happen to a migration, by the model in ownership.pml, and then
# shows that each of its rules is needed: without it spin finds how the guest runs
# twice, or nowhere. Prints KTAP on stdout. Exit status: 0 if none failed.
#
# usage: tests/protocol/run.sh
#
# Needs spin and gcc. Environment: CUTS (2), connections that are cut.

# Functions are called through try.
# shellcheck disable=SC2317
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../ktap.sh
. "$here/../ktap.sh"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
CUTS=${CUTS:-2}
rules=8

# explore BREAK PROPERTY CUTS: prints what spin's verifier says.
explore()
{
	local live=0 options=(-a -N "$2" -m100000 -w24)
	if [[ $2 == live ]]; then
		live=1
		options+=(-f)
	fi
	cd "$dir"
	rm -f pan* ./*.trail
	spin -a -DBREAK="$1" -DLIVE="$live" -DCUTS="$3" "$here/ownership.pml" >/dev/null &&
		gcc -O2 -w -DMEMLIM=4096 -DVECTORSZ=512 -DNFAIR=3 -o pan pan.c &&
		./pan "${options[@]}"
}

# finds ERRORS BREAK PROPERTY CUTS
finds()
{
	local said
	said=$(explore "$2" "$3" "$4" 2>&1) || true
	echo "$said"
	# A search that was cut short shows nothing.
	grep -q "errors: $1\$" <<<"$said" && ! grep -q 'max search depth too small' <<<"$said"
}

begin protocol $((rules + 2))
try one finds 0 0 one "$CUTS"
# In this one the state space is larger.
try live finds 0 0 live $((CUTS - 1))
for ((rule = 1; rule < rules; rule++)); do
	try "without-rule-$rule" finds 1 "$rule" one 2
done
try "without-rule-$rules" finds 1 "$rules" live 1
end
