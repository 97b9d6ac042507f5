#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The last hook alone is in, on files that the first one does not touch, so
# that all of the first one would still go in.
. "$(dirname "$0")/mini.sh"
mini
(cd "$T/tree" && GIT_CEILING_DIRECTORIES=$T git apply --include=virt/kvm/Makefile.kvm "$HOOKS/second.patch")
refused 'Makefile\.kvm' "$T/tree"
