#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# From nothing to a bootable kernel, its selftests, kuf and libkuf: fetch, apply, configure,
# build, each step by its own script. One run at a time works on a tree and what
# is built from it, so that no other checkout changes it in between.
#
# usage: tools/build/build.sh [kernel]
#
#	kernel	nothing but that
#
# Environment: lib.sh's, tree.sh's. stdout: the image, build/bzImage-*. The
# seconds of each step go to build/times.txt.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

what=${1:-all}
[[ $what == all || $what == kernel ]] || die "build.sh $what: there is 'kernel', or no argument"
lock "tree-$TREE_NAME"

# Scripts that record more than their total (kernel.sh) do so themselves.
step()
{
	local name=$1 started=$SECONDS
	shift
	say "== $name"
	"$@" || { say "build.sh: stopped at step '$name'"; exit 1; }
	[[ $name == kernel || $name == selftests ]] || record "$name" $((SECONDS - started))
}

quiet()
{
	"$@" >/dev/null
}

step fetch quiet "$KUF_BIN/fetch.sh"
step tree quiet "$KUF_BIN/tree.sh"
step config "$KUF_BIN/config.sh"
step kernel "$KUF_BIN/kernel.sh"
[[ $what == all ]] || exit 0
step selftests quiet env TREE="$KUF_TREE" OUT="$KUF_SELFTESTS" "$KUF_BIN/selftests.sh"
step kuf run_log "$BUILD/kuf.log" make -s -C "$REPO/tools/kuf" O="$BUILD/kuf" LDFLAGS=-static
step libkuf run_log "$BUILD/libkuf.log" make -s -C "$REPO/tools/lib/kuf" O="$BUILD/libkuf" vm
