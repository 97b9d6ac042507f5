#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Two equal places in the one right function: the context does not say which.
. "$(dirname "$0")/mini.sh"
mini
edit "$T/tree/virt/kvm/fault.c" '/^static int fault_b/,/^}/ s/^\treturn map(vm, gfn);/\tr = prepare(vm, gfn);\n\tif (r)\n\t\treturn r;\n\n&/'
refused 'core\.patch: virt/kvm/fault\.c: hunk 2 of 2.*fault_b.*fits 2 places' "$T/tree"
