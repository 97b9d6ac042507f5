#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The real hooks on the real source: exact, again, by function alone, and back.
. "$(dirname "$0")/mini.sh"
unset HOOKS MANIFEST
# shellcheck source=../../tools/build/lib.sh
. "$top/tools/build/lib.sh"
[[ -f $KUF_HOOKS/series ]] || { echo "no hooks/$K/series"; exit 4; }
src=$(find "$KUF_CACHE/src" -mindepth 1 -maxdepth 1 -name "$K.*" 2>/dev/null | sort -V | tail -n 1)
[[ -n $src ]] || { echo "no kernel source in the cache yet"; exit 4; }
mkdir "$T/tree"
cp "$src/Makefile" "$T/tree"
while read -r kind f; do
	[[ $kind == hook ]] || continue
	mkdir -p "$T/tree/$(dirname "$f")"
	cp "$src/$f" "$T/tree/$f"
done < <(bash "$top/tools/build/apply.sh" --files)
cp -r "$T/tree" "$T/orig"
accepted "$T/tree" --by-function
accepted "$T/tree"
cat "$T/out"
accepted "$T/tree"
said 'already applied'
accepted "$T/tree" --revert
diff -r "$T/tree" "$T/orig"
