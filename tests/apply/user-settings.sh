#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Settings of the user's git (whitespace repair, line ends) change nothing.
. "$(dirname "$0")/mini.sh"
mini
mkdir "$T/home"
printf '[apply]\n\twhitespace = fix\n\tignoreWhitespace = change\n[core]\n\tautocrlf = true\n[diff]\n\tnoprefix = true\n' \
	>"$T/home/.gitconfig"
edit "$T/tree/virt/kvm/fault.c" 's/^static int fault_a/int trailing; \n\n&/'
HOME=$T/home accepted "$T/tree"
grep -q '^int trailing; $' "$T/tree/virt/kvm/fault.c" || fail "whitespace was changed"
grep -q 'r ?: hook(vm, gfn);$' "$T/tree/virt/kvm/fault.c" || fail "line ends changed"
