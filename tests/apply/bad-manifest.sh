#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Lines of a manifest that would leave the tree, hit a hook or name nothing.
. "$(dirname "$0")/mini.sh"
mini
cp "$MANIFEST" "$T/good"
bad()
{
	cp "$T/good" "$MANIFEST"
	echo "$2" >>"$MANIFEST"
	refused "$1" "$T/tree"
}
bad 'have no \.\.' 'extra.h ../outside.h core'
bad 'have no \.\.' 'extra.h /etc/outside.h core'
bad 'twice' 'extra.h include/linux/extra.h core'
bad 'changed by hook core as well' 'extra.h virt/kvm/fault.c core'
bad "group 'none'" 'extra.h include/linux/b.h none'
bad 'does not exist' 'gone.h include/linux/b.h core'
bad 'is not .path path-in-kernel group' 'extra.h include/linux/b.h'
