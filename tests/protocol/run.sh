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

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
n=0 failed=0
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
	spin -a -DBREAK="$1" -DLIVE=$live -DCUTS="$3" "$here/ownership.pml" >/dev/null
	gcc -O2 -w -DMEMLIM=4096 -DVECTORSZ=512 -DNFAIR=3 -o pan pan.c
	./pan "${options[@]}"
}

# try NAME WANTED-ERRORS BREAK PROPERTY CUTS
try()
{
	local said states
	n=$((n + 1))
	said=$(explore "$3" "$4" "$5" 2>&1) || true
	states=$(awk '/states, stored/ { print $1; exit }' <<<"$said")
	# A search that was cut short shows nothing.
	if grep -q "errors: $2\$" <<<"$said" && ! grep -q 'max search depth too small' <<<"$said"; then
		echo "ok $n protocol.$1"
		echo "# $states states"
	else
		echo "not ok $n protocol.$1"
		awk '{ print "# " $0 }' <<<"$said"
		failed=$((failed + 1))
	fi
}

echo 'KTAP version 1'
echo "1..$((rules + 2))"
try one 0 0 one "${CUTS:-2}"
# In this one the state space is larger.
try live 0 0 live "$((${CUTS:-2} - 1))"
for ((rule = 1; rule < rules; rule++)); do
	try "without-rule-$rule" 1 $rule one 2
done
try "without-rule-$rules" 1 $rules live 1
((!failed))
