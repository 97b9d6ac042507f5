#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What somebody changed after applying is not thrown away by --revert.
. "$(dirname "$0")/mini.sh"
mini
accepted "$T/tree"
cp -r "$T/tree" "$T/two"
edit "$T/tree/virt/kvm/new/dir/extra.c" 's/return 0/return 1/'
refused 'extra\.c with other content' "$T/tree" --revert
edit "$T/two/virt/kvm/fault.c" 's/hook(vm, gfn)/hook(vm, 1)/'
refused 'hook core in virt/kvm/fault\.c' "$T/two" --revert
