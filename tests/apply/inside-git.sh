#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# In a subdirectory of a git repository, and called from a git hook with git's
# variables set: git apply would skip every file in silence there.
. "$(dirname "$0")/mini.sh"
mini
mkdir -p "$T/repo/sub"
cp -r "$T/tree" "$T/repo/sub/linux"
git -C "$T/repo" init -q
export GIT_DIR=$T/repo/.git GIT_WORK_TREE=$T/repo GIT_INDEX_FILE=$T/repo/.git/index
accepted "$T/repo/sub/linux"
same "$T/repo/sub/linux/virt/kvm/fault.c" "$T/work/virt/kvm/fault.c"
