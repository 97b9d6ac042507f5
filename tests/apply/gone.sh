#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The lines that a hook changes are nowhere any more.
. "$(dirname "$0")/mini.sh"
mini
edit "$T/tree/virt/kvm/fault.c" 's/users--/refs--/'
refused 'second\.patch: virt/kvm/fault\.c: hunk 1 of 1 .*destroy.*are not there' "$T/tree"
