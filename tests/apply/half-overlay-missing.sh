#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Hooks are in, an overlay file is not.
. "$(dirname "$0")/mini.sh"
mini
accepted "$T/tree"
rm "$T/tree/include/linux/extra.h"
refused 'half applied.*include/linux/extra\.h is missing' "$T/tree"
