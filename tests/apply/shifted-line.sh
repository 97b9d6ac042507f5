#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# An unrelated line above shifts every hunk: accepted, in the right functions.
. "$(dirname "$0")/mini.sh"
mini
edit "$T/tree/virt/kvm/fault.c" 's/^#include.*/&\n\n#define UNRELATED 1/'
edit "$T/tree/virt/kvm/fault.c" 's/^static int fault_a/int unrelated;\n\n&/'
cp "$T/tree/virt/kvm/fault.c" "$T/want.c"
sed -i -e '/^static int fault_b/,/^}/ s/^\tif (r)$/\tr = r ?: hook(vm, gfn);\n&/' \
	-e 's/^#include.*/&\n#include <linux\/extra.h>/' \
	-e 's/^\tvm->users--;/\thook_destroy(vm);\n&/' "$T/want.c"
accepted "$T/tree"
said '2 hunks proven by the file, 3 by function'
same "$T/tree/virt/kvm/fault.c" "$T/want.c"
