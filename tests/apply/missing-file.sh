#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A file that a hook changes does not exist in this tree.
. "$(dirname "$0")/mini.sh"
mini
rm "$T/tree/include/linux/host.h"
refused 'core\.patch: changes include/linux/host\.h, which is not in' "$T/tree"
