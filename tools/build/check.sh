#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Static checks of everything in the repository. Any finding fails.
#
# usage: tools/build/check.sh [PART...]
#
# PART: spdx size shell hooks docs accessors mutations checkpatch sparse; all unless given.
# The last four need the applied tree, which is made; sparse compiles KVM if need be.
# stdout: the findings, and a last line that counts them.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=hooks.sh
. "$KUF_BIN/hooks.sh"

parts=("$@")
((${#parts[@]})) || parts=(spdx size shell hooks docs accessors mutations checkpatch sparse)
scratch
hooks_load
found=0

# Reads findings, one a line, and counts them.
findings()
{
	local line
	while IFS= read -r line; do
		[[ -n $line ]] || continue
		printf '%s: %s\n' "$1" "$line"
		found=$((found + 1))
	done
}

# Files of the repository, also those not yet added; nothing that is ignored.
cd "$REPO"
mapfile -t all < <(git ls-files -co --exclude-standard | sort -u |
	while IFS= read -r f; do [[ ! -f $f ]] || echo "$f"; done)

check_spdx()
{
	local f
	for f in "${all[@]}"; do
		case $f in
		# Mails, whose diffs are of files with a line of their own.
		*.patch | COPYING | LICENSE | LICENSES/* | *.png) continue ;;
		esac
		head -n 3 "$f" | grep -q 'SPDX-License-Identifier: ' ||
			echo "$f: no SPDX-License-Identifier in its first lines"
	done
}

check_size()
{
	local f n
	for f in "${all[@]}"; do
		case $f in
		*.patch | COPYING | LICENSE | LICENSES/* | *.png) continue ;;
		esac
		n=$(wc -l <"$f")
		((n <= 600)) || echo "$f: $n lines; one concept a file, at most 600"
	done
}

check_shell()
{
	local f scripts=()
	for f in "${all[@]}"; do
		case $f in
		*.patch) continue ;;
		*.sh) scripts+=("$f") ;;
		*) ! head -n 1 "$f" | grep -aqE '^#!.*\b(ba)?sh\b' || scripts+=("$f") ;;
		esac
	done
	shellcheck -x -P SCRIPTDIR -f gcc "${scripts[@]}" || true
}

# Each hook must be placed by its function's name alone, so that it survives the
# next point release; and on the release that it was made from, exactly.
check_hooks()
{
	local pristine=$1 file out
	((${#HOOK_NAMES[@]})) || return 0
	mkdir -p "$KUF_TMP/subset"
	cp "$pristine/Makefile" "$KUF_TMP/subset/"
	for file in "${HOOK_FILES[@]}"; do
		mkdir -p "$KUF_TMP/subset/$(dirname "$file")"
		cp "$pristine/$file" "$KUF_TMP/subset/$file"
	done
	"$KUF_BIN/apply.sh" "$KUF_TMP/subset" --by-function 2>&1 | grep error || true
	if [[ $(awk '$1 == "debian" { print $2 }' "$KUF_HOOKS/BASE") == "${pristine##*/}" ]]; then
		out=$("$KUF_BIN/apply.sh" "$KUF_TMP/subset" --check 2>&1) || { echo "$out"; return; }
		grep -q ' 0 by function' <<<"$out" || echo "not proven on the recorded base: $out"
	fi
}

# A mutation that does not apply proves nothing, and neither does one that names a
# test that is not there.
check_mutations()
{
	local tree=$1 patch test said
	for patch in "$REPO"/tests/mutations/*.patch; do
		said=$(cd "$tree" && git apply --check -p1 "$patch" 2>&1) ||
			printf '%s: %s\n' "${patch#"$REPO"/}" "${said%%$'\n'*}"
		grep -q '^Breaks: .' "$patch" || echo "${patch#"$REPO"/}: no Breaks: line"
		test=$(sed -nE 's/^(Fails|Keeps): ([^ ]+).*/\2/p' "$patch")
		awk -v test="$test" '$1 == test { found = 1 } END { exit !found }' \
			"$REPO/tests/lists/userfault" ||
			echo "${patch#"$REPO"/}: there is no test \"$test\" in tests/lists/userfault"
	done
}

check_docs()
{
	local f dir
	for f in "${OVL_SRC[@]}" "$REPO"/Documentation/virt/kvm/{libkuf,kuf-stream}.rst; do
		[[ $f == *.rst ]] || continue
		dir=$KUF_TMP/docs/$(basename "$f" .rst)
		mkdir -p "$dir"
		cp "$f" "$dir/index.rst"
		printf "project = 'kuf'\nroot_doc = 'index'\nhighlight_language = 'none'\n" >"$dir/conf.py"
		sphinx-build -q -n -W --keep-going -b html "$dir" "$dir/out" 2>&1 |
			sed "s|$dir/index.rst|${f#"$REPO"/}|; /^WARNING: dot command/d" || true
	done
	for f in "${all[@]}"; do
		[[ $f != *.[1-9] ]] || mandoc -Tlint -W warning "$f" || true
	done
}

check_checkpatch()
{
	local tree=$1 i f ignore files=() own=()
	local options=(--strict --terse --no-summary --no-codespell --show-types)
	for i in "${!OVL_DST[@]}"; do
		case ${OVL_DST[i]} in
		*.c | *.h | *.rst | */Makefile* | *Kconfig*) files+=("${OVL_DST[i]}") ;;
		esac
	done
	for f in "${all[@]}"; do
		[[ $f != *.[ch] || " ${OVL_SRC[*]} " == *" $REPO/$f "* ]] || own+=("$REPO/$f")
	done
	(
		cd "$tree"
		for f in "${files[@]}"; do
			ignore=SPLIT_STRING
			# What TRACE_EVENT() needs is written in another style everywhere.
			[[ $f != include/trace/events/* ]] ||
				ignore+=,COMPLEX_MACRO,OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT
			# And so are KVM's lists of statistics.
			[[ $f != include/linux/kvm_userfault_types.h ]] || ignore+=,COMPLEX_MACRO
			# The kernel's names of MSRs, and an instruction with its operands as a macro.
			[[ $f != */x86/userfault_poison_*_test.c ]] || ignore+=,CAMELCASE,COMPLEX_MACRO
			perl scripts/checkpatch.pl "${options[@]}" --ignore "$ignore" -f "$f" || true
		done
		for f in "${HOOK_NAMES[@]}"; do
			perl scripts/checkpatch.pl "${options[@]}" "$(hook_patch "$f")" || true
		done
		# Programs of ours: what the kernel's headers have is not there.
		for f in "${own[@]}"; do
			perl scripts/checkpatch.pl "${options[@]}" --no-tree \
				--ignore PREFER_DEFINED_ATTRIBUTE_MACRO,STRCPY,ARRAY_SIZE,EMBEDDED_FUNCTION_NAME,QUOTED_WHITESPACE_BEFORE_NEWLINE -f "$f" || true
		done
	) 2>&1 | sed "s|$REPO/||"
}

check_sparse()
{
	local pristine=$1 f check=sparse

	# Debian 12's sparse does not know the keyword, and the kernel then leaves
	# sparse out without failing; nor does it take strlen("") for a constant, and
	# after that error it looks at nothing else in the file.
	[[ $(sh "$KUF_TREE/scripts/checker-valid.sh" sparse) == 1 ]] ||
		check+=" -D__typeof_unqual__=__typeof__ '-D__builtin_strlen(x)=(sizeof(x)-1)'"
	"${KMAKE[@]}" "-j$(nproc)" C=2 CHECK="$check" arch/x86/kvm/ >"$KUF_TMP/sparse" 2>&1 || {
		grep -m 5 -E "error: .*\[-W|fatal error|\*\*\*" "$KUF_TMP/sparse"
		return
	}
	# What others' lines have is theirs: of a hooked file only ours count.
	for f in "${HOOK_FILES[@]}"; do
		[[ $f == *.[ch] ]] || continue
		{ diff -U0 "$pristine/$f" "$KUF_TREE/$f" || true; } | awk -v file="$f" '
			/^@@/ { split($3, at, "[+,]"); line = at[2]; next }
			/^\+[^+]/ || /^\+$/ { print file ":" line++ ":" }'
	done >"$KUF_TMP/ours"
	printf '%s:\n' "${OVL_DST[@]}" >>"$KUF_TMP/ours"
	# An error, in whatever line, keeps sparse from looking further.
	grep -E "/($(printf '%s\n' "${HOOK_FILES[@]}" | paste -sd '|')):[0-9:]+ error: " "$KUF_TMP/sparse" || true
	sed -n "s|^$KUF_TREE/||; s|arch/x86/kvm/\\.\\./\\.\\./\\.\\./||; /: \\(warning\\|error\\): /p" "$KUF_TMP/sparse" |
		grep -F -f "$KUF_TMP/ours" | sort -u || true
	# Silence must not come from sparse not having run at all.
	for f in "${OVL_DST[@]}"; do
		[[ $f == arch/x86/kvm/*.c || $f == virt/kvm/*.c ]] || continue
		grep -q "CHECK .*$f" "$KUF_TMP/sparse" || echo "$f was not looked at"
	done
}

for part in "${parts[@]}"; do
	say "== $part"
	case $part in
	spdx | size) "check_$part" >"$KUF_TMP/found" ;;
	shell)
		need shellcheck
		check_shell >"$KUF_TMP/found"
		;;
	hooks)
		pristine=$("$KUF_BIN/fetch.sh" | tail -n 1)
		check_hooks "$pristine" >"$KUF_TMP/found"
		;;
	docs)
		need sphinx-build python3-sphinx
		check_docs >"$KUF_TMP/found"
		;;
	accessors)
		"$KUF_BIN/accessors.sh" "$("$KUF_BIN/tree.sh" | tail -n 1)" >"$KUF_TMP/found" || true
		;;
	mutations)
		need git
		check_mutations "$("$KUF_BIN/tree.sh" | tail -n 1)" >"$KUF_TMP/found"
		;;
	checkpatch)
		need perl
		check_checkpatch "$("$KUF_BIN/tree.sh" | tail -n 1)" >"$KUF_TMP/found"
		;;
	sparse)
		need sparse
		lock "tree-$TREE_NAME"
		"$KUF_BIN/tree.sh" >/dev/null
		"$KUF_BIN/config.sh"
		check_sparse "$("$KUF_BIN/fetch.sh" | tail -n 1)" >"$KUF_TMP/found"
		;;
	*) die "there is no part '$part'; see the header of check.sh" ;;
	esac
	findings "$part" <"$KUF_TMP/found"
done

echo "check: $found findings in ${#all[@]} files (${parts[*]})"
((found == 0))
