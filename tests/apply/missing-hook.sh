#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The series names a patch that is not there; a patch is not in the series.
. "$(dirname "$0")/mini.sh"
mini
mv "$HOOKS/second.patch" "$T/second.patch"
refused 'hook patch .*/second\.patch is missing' "$T/tree"
mv "$T/second.patch" "$HOOKS/second.patch"
cp "$HOOKS/second.patch" "$HOOKS/third.patch"
refused 'third\.patch is not in .*series' "$T/tree"
