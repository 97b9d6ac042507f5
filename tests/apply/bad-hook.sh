#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Patches that are no hooks: a new file, a short blob name, only removals.
. "$(dirname "$0")/mini.sh"
mini
cp -r "$HOOKS" "$T/good"
restore()
{
	rm -rf "$HOOKS"
	cp -r "$T/good" "$HOOKS"
}
echo 'int x;' >"$T/work/virt/kvm/x.c"
g add -A
commit bad
refused 'bad\.patch: .*new files belong into the overlay' "$T/tree"
restore
edit "$HOOKS/core.patch" 's/^index \([0-9a-f]\{12\}\)[0-9a-f]*\.\.\([0-9a-f]\{12\}\)[0-9a-f]*/index \1..\2/'
refused 'core\.patch: .*--full-index' "$T/tree"
restore
edit "$T/work/include/linux/host.h" '/int flags/d'
commit bad
refused 'bad\.patch: it only removes lines' "$T/tree"
