#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# --revert restores every byte, of an exact and of a shifted tree.
. "$(dirname "$0")/mini.sh"
mini
cp -r "$T/tree" "$T/shifted"
edit "$T/shifted/virt/kvm/fault.c" 's/^static int fault_a/int unrelated;\n\n&/'
for t in tree shifted; do
	cp -r "$T/$t" "$T/$t.orig"
	accepted "$T/$t"
	! diff -r "$T/$t" "$T/$t.orig" >/dev/null || fail "nothing was applied"
	accepted "$T/$t" --revert
	diff -r "$T/$t" "$T/$t.orig" || fail "not restored"
	[[ ! -e $T/$t/virt/kvm/new ]] || fail "left an empty directory"
	refused 'not applied' "$T/$t" --revert
done
