#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# --check reports and writes nothing.
. "$(dirname "$0")/mini.sh"
mini
state "$T/tree" >"$T/one"
accepted "$T/tree" --check
said 'would apply'
accepted "$T/tree" --by-function
said 'all 5 hunks are placed by their functions. names alone'
state "$T/tree" >"$T/two"
same "$T/two" "$T/one"
