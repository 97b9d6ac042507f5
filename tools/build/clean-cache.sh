#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Deletes what fetching and building have put into the cache, and nothing else
# that may be there.
#
# usage: tools/build/clean-cache.sh

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[[ -d $KUF_CACHE ]] || exit 0
lock "tree-$TREE_NAME"
for d in apt build ccache deb series src tree lock; do
	[[ -e $KUF_CACHE/$d ]] || continue
	run rm -rf "$KUF_CACHE/$d"
done
rmdir "$KUF_CACHE" 2>/dev/null || true
