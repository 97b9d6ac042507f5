#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The disk fills up while the files are written: the tree stays as it was.
. "$(dirname "$0")/mini.sh"
mini
# A limit on file size stands for the full disk; it hits the largest file only.
head -c 300000 /dev/zero | tr '\0' 'x' >"$T/over/virt/extra.c"
state "$T/tree" >"$T/one"
if (ulimit -f 200; trap '' XFSZ; apply "$T/tree"); then
	fail "accepted: $(cat "$T/out")"
fi
said 'cannot write .*extra\.c.*tree not changed'
# The directories' dates may change, names and contents may not.
state "$T/tree" >"$T/two"
strip() { sed 's/ d \([0-9]*\) .*/ d \1/' "$1"; }
strip "$T/one" >"$T/one.s"
strip "$T/two" >"$T/two.s"
same "$T/two.s" "$T/one.s"
