#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The names that hunks are placed by are those that git writes into headers:
# a change at every 83rd line of real kernel files, one hunk each.
. "$(dirname "$0")/mini.sh"
# shellcheck source=../../tools/build/lib.sh
. "$top/tools/build/lib.sh"
src=$(find "$KUF_CACHE/src" -mindepth 1 -maxdepth 1 -name "$K.*" 2>/dev/null | sort -V | tail -n 1)
[[ -n $src ]] || { echo "no kernel source in the cache yet"; exit 4; }
mkdir -p "$T/work"
g init -q -b base
printf '%s\n' '*.[ch] diff=cpp' >"$T/work/.gitattributes"
for f in virt/kvm/kvm_main.c arch/x86/kvm/mmu/mmu.c include/linux/kvm_host.h \
	arch/x86/kvm/Kconfig Documentation/virt/kvm/index.rst; do
	mkdir -p "$T/work/$(dirname "$f")"
	cp "$src/$f" "$T/work/$f"
done
g add -A
g commit -qm base
cp -r "$T/work" "$T/stage"
find "$T/work" -type f -not -path '*/.git*' -exec sed -i '7~83s/$/ changed here/' {} +
g diff -U1 --full-index >"$T/p.patch"
hunks=$(grep -c '^@@' "$T/p.patch")
((hunks > 200)) || fail "only $hunks hunks: this case proves nothing"
# Every hunk as a patch of its own: the place must be where it came from.
awk -v dir="$T/one" '
	/^diff/ { head = $0; next } /^(index|---|\+\+\+)/ { head = head "\n" $0; next }
	/^@@/ { n++; close(f); f = sprintf("%s.%04d", dir, n); print head > f }
	{ print > f }' "$T/p.patch"
# Equal lines in one function are the rule to refuse, not a wrong name.
wrong=0 placed=0 equal=0
for p in "$T"/one.*; do
	if out=$(awk -f "$top/tools/build/hunks.awk" -v mode=place -v stage="$T/stage" "$p" 2>"$T/err"); then
		[[ $(grep '^@@' <<<"$out") == "$(grep -o '^@@ [^@]*@@' "$p")"* ]] || wrong=$((wrong + 1))
		placed=$((placed + 1))
	elif grep -q 'its context is too small' "$T/err"; then
		equal=$((equal + 1))
	else
		cat "$T/err"
		wrong=$((wrong + 1))
	fi
done
echo "$hunks hunks: $placed placed, $equal ambiguous, $wrong wrong"
((wrong == 0 && placed > hunks * 3 / 4))
