#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A directory that is no kernel source, and none at all.
. "$(dirname "$0")/mini.sh"
mini
mkdir "$T/other"
refused 'is no kernel source tree' "$T/other"
printf 'all:\n\tcc x.c\n' >"$T/other/Makefile"
refused 'is no kernel source tree' "$T/other"
! apply "$T/nowhere" || fail accepted
said 'is not a directory'
