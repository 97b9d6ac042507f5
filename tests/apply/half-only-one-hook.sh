#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# One of the hooks was applied by hand, nothing else.
. "$(dirname "$0")/mini.sh"
mini
(cd "$T/tree" && GIT_CEILING_DIRECTORIES=$T git apply "$HOOKS/core.patch")
refused 'half applied: hook core is in' "$T/tree"
