#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The function that is meant was rewritten, a lookalike keeps its old lines:
# git and patch hook the lookalike, we name the hunk and stop.
. "$(dirname "$0")/mini.sh"
mini
edit "$T/tree/virt/kvm/fault.c" '/^static int fault_b/,/^}/ s/^\tr = prepare(vm, gfn);/\tr = prepare_new(vm);/'
# The trap is one: git alone falls into it.
cp -r "$T/tree" "$T/naive"
(cd "$T/naive" && GIT_CEILING_DIRECTORIES=$T git apply "$HOOKS/core.patch") ||
	fail "this case proves nothing: git refused by itself"
sed -n '/^static int fault_a/,/^}/p' "$T/naive/virt/kvm/fault.c" | grep -q hook ||
	fail "this case proves nothing: git did not hook the lookalike"
refused 'core\.patch: virt/kvm/fault\.c: hunk 2 of 2 .*fault_b.*only elsewhere, at line 7 in "static int fault_a' "$T/tree"
