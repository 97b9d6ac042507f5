#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# On the tree that the hooks were made from, all is proven by blob names and
# the result is what the hooks' author had.
. "$(dirname "$0")/mini.sh"
mini
accepted "$T/tree"
said '2 hooks, 5 hunks proven by the file, 0 by function; 2 overlay files'
for f in virt/kvm/fault.c virt/kvm/Makefile.kvm include/linux/host.h; do
	same "$T/tree/$f" "$T/work/$f"
done
same "$T/tree/include/linux/extra.h" "$T/over/extra.h"
same "$T/tree/virt/kvm/new/dir/extra.c" "$T/over/virt/extra.c"
[[ -z $(find "$T/tree" -name '*.kuf-new') ]] || fail "left files behind"
