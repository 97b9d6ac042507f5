#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The kernel has a file of that name already.
. "$(dirname "$0")/mini.sh"
mini
echo 'int something_else;' >"$T/tree/include/linux/extra.h"
refused 'include/linux/extra\.h with other content' "$T/tree"
