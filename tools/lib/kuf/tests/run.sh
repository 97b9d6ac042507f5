#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Runs libkuf's test programs. Prints KTAP on stdout, each program's as subtests.
#
# usage: tests/run.sh DIRECTORY NAME...

set -euo pipefail
dir=$1
shift
n=0 failed=0

result()
{
	n=$((n + 1))
	[[ $1 == ok ]] || failed=$((failed + 1))
	echo "$1 $n $2"
}

echo "KTAP version 1"
echo "1..$(($# + 1))"
for name; do
	echo "# Subtest: $name"
	out=$("$dir/$name" 2>&1) && rc=0 || rc=$?
	awk '{ print "  " $0 }' <<<"$out"
	# A program that ends too early has not passed.
	plan=$(sed -n 's/^1\.\.//p' <<<"$out")
	oks=$(grep -c '^ok ' <<<"$out" || true)
	if ((rc == 0)) && [[ -n $plan && $plan == "$oks" ]]; then
		result ok "$name"
	else
		echo "# exit status $rc, $oks of ${plan:-?} passed"
		result 'not ok' "$name"
	fi
done

# A library without claims must be noticed.
if out=$("$dir/test_claim_broken" 2>&1); then
	result 'not ok' claim_control
elif grep -q '^# .*filled more than once' <<<"$out"; then
	result ok claim_control
else
	awk '{ print "# " $0 }' <<<"$out"
	result 'not ok' claim_control
fi
exit $((failed > 0))
