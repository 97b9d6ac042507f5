#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The overlay is in, one hooked file was put back.
. "$(dirname "$0")/mini.sh"
mini
cp "$T/tree/include/linux/host.h" "$T/host.h"
accepted "$T/tree"
cp "$T/host.h" "$T/tree/include/linux/host.h"
refused 'half applied.*hook core in include/linux/host\.h' "$T/tree"
