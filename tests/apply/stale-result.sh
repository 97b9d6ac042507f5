#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A hook whose lines were edited by hand, so that it no longer makes what its
# blob names record, is refused rather than applied on a false proof.
. "$(dirname "$0")/mini.sh"
mini
edit "$HOOKS/core.patch" 's/hook(vm, gfn)/hook(vm, 0)/'
refused 'core\.patch: virt/kvm/fault\.c did not become what the patch records' "$T/tree"
