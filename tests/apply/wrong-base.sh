#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Another kernel series is named, with ours.
. "$(dirname "$0")/mini.sh"
mini
edit "$T/tree/Makefile" 's/^PATCHLEVEL = 3/PATCHLEVEL = 2/'
refused 'is Linux 7\.2\.4, .* are for 7\.3;' "$T/tree"
