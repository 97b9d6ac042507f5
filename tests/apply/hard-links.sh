#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A tree that shares its files with the pristine one by hard links: nothing is
# written in place, the pristine one stays.
. "$(dirname "$0")/mini.sh"
mini
cp -al "$T/tree" "$T/linked"
state "$T/tree" >"$T/one"
accepted "$T/linked"
state "$T/tree" >"$T/two"
same "$T/two" "$T/one"
