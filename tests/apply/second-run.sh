#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A second run says so and touches nothing; on a shifted tree as well.
. "$(dirname "$0")/mini.sh"
mini
cp -r "$T/tree" "$T/shifted"
edit "$T/shifted/virt/kvm/fault.c" 's/^static int fault_a/int unrelated;\n\n&/'
for t in "$T/tree" "$T/shifted"; do
	accepted "$t"
	state "$t" >"$T/one"
	accepted "$t"
	said 'already applied'
	state "$t" >"$T/two"
	same "$T/two" "$T/one"
	accepted "$t" --check
	said 'already applied'
done
