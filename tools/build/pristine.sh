#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the kernel as Debian has its source, without hooks and overlay, in the
# same configuration: what our own is compared with.
#
# usage: tools/build/pristine.sh
#
# It is built at the same tree path, where ccache knows every object that hooks
# leave alone. stdout: the image, build/bzImage-*-pristine.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lock "tree-$TREE_NAME"
export VARIANT=pristine
image=$(PRISTINE=1 "$KUF_BIN/build.sh" kernel)
# Puts the tree right again; what is built from it is built apart from ours.
VARIANT='' "$KUF_BIN/tree.sh" >/dev/null
echo "$image"
