#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes the mail-ready patch series: for each hook one commit and one mail, the
# hook patch and the overlay files of its group, under the hook's changelog. The
# last commit is, byte for byte, what apply.sh makes.
#
# usage: tools/build/series.sh [K] [--build]
#
#	--build	also build after each patch, in the VARIANT "series": the kernel, or
#		the selftests where nothing else is touched
#
# build/series/K/*.patch are the mails, the text of the cover letter is
# hooks/K/cover (first line: subject). build/series/K/git is a repository of the
# touched files only: edit and commit there, then tools/build/refresh.sh.

[[ ${1:-} != [0-9]* ]] || { K=$1; shift; }
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=hooks.sh
. "$KUF_BIN/hooks.sh"

need git
scratch
hooks_load
((${#HOOK_NAMES[@]})) || die "there are no hooks in $KUF_HOOKS"
[[ -f $KUF_HOOKS/cover ]] || die "$KUF_HOOKS/cover, the cover letter's text, is missing"
out=$BUILD/series/$K
repo=$out/git
pristine=$("$KUF_BIN/fetch.sh" "$K" | tail -n 1)

g()
{
	plain_git "$repo" "$@"
}

# What somebody has done in there is not thrown away.
if [[ -d $repo/.git ]]; then
	[[ -z $(g status --porcelain) && $(g rev-parse HEAD) == "$(cat "$repo/.git/kuf-made" 2>/dev/null)" ]] ||
		die "$repo has changes; take them over with tools/build/refresh.sh, or delete it"
fi
rm -rf "$out"
mkdir -p "$repo"
export GIT_COMMITTER_NAME=kuf GIT_COMMITTER_EMAIL=kuf@localhost

say "+ git init $repo"
g init -q -b "kuf-$K"
for file in Makefile .gitattributes "${HOOK_FILES[@]}"; do
	[[ -e $pristine/$file ]] || continue
	mkdir -p "$repo/$(dirname "$file")"
	cp "$pristine/$file" "$repo/$file"
done
g add -A -f
GIT_AUTHOR_DATE='1970-01-01T00:00:00Z' GIT_COMMITTER_DATE='1970-01-01T00:00:00Z' \
	g commit -q --author="kuf <kuf@localhost>" \
	-m "Linux $(kernel_version "$pristine"), the files that are touched"
base=$(g rev-parse HEAD)

for name in "${HOOK_NAMES[@]}"; do
	patch=$(hook_patch "$name")
	why=$(hook_forward "$name" "$repo") || die "$why"
	for i in "${!OVL_DST[@]}"; do
		[[ ${OVL_GROUP[i]} == "$name" ]] || continue
		mkdir -p "$repo/$(dirname "${OVL_DST[i]}")"
		cp "${OVL_SRC[i]}" "$repo/${OVL_DST[i]}"
		chmod 644 "$repo/${OVL_DST[i]}"
	done
	plain_git "$KUF_TMP" mailinfo "$KUF_TMP/body" "$KUF_TMP/diff" <"$patch" >"$KUF_TMP/info"
	field()
	{
		sed -n "s/^$1: //p" "$KUF_TMP/info"
	}
	[[ -n $(field Subject) && -s $KUF_TMP/body ]] || die "$patch has no subject or no changelog"
	{ field Subject; echo; cat "$KUF_TMP/body"; } >"$KUF_TMP/message"
	g add -A -f
	GIT_AUTHOR_NAME=$(field Author) GIT_AUTHOR_EMAIL=$(field Email) GIT_AUTHOR_DATE=$(field Date) \
		GIT_COMMITTER_DATE=$(field Date) g commit -q -F "$KUF_TMP/message"
done
g rev-parse HEAD >"$repo/.git/kuf-made"

# The cover letter is from whom the last hook is from.
GIT_COMMITTER_NAME=$(field Author) GIT_COMMITTER_EMAIL=$(field Email)
show git -C "$repo" format-patch --cover-letter --no-signature -o "$out" "$base"
g format-patch -q --cover-letter --no-signature -o "$out" "$base"
grep -v '^#' "$KUF_HOOKS/cover" >"$KUF_TMP/cover"
subject=$(head -n 1 "$KUF_TMP/cover" | sed 's/[&|\\]/\\&/g')
tail -n +2 "$KUF_TMP/cover" | sed '/./,$!d' >"$KUF_TMP/blurb"
sed -i -e "s|\*\*\* SUBJECT HERE \*\*\*|$subject|" \
	-e "/\*\*\* BLURB HERE \*\*\*/{r $KUF_TMP/blurb
d}" "$out"/0000-cover-letter.patch

# The mails must lead where we are, and that must be what apply.sh makes.
mails=()
for mail in "$out"/*.patch; do
	[[ $mail == */0000-* ]] || mails+=("$mail")
done
mkdir "$KUF_TMP/mailed" "$KUF_TMP/applied"
g archive "$base" | tar -x -C "$KUF_TMP/mailed"
cp -r "$KUF_TMP/mailed/." "$KUF_TMP/applied"
for mail in "${mails[@]}"; do
	why=$(plain_git "$KUF_TMP/mailed" apply --whitespace=nowarn "$mail" 2>&1) ||
		die "$mail does not apply on the ones before: ${why%%$'\n'*}"
done
"$KUF_BIN/apply.sh" "$KUF_TMP/applied" -K "$K"
mkdir "$KUF_TMP/head"
g archive HEAD | tar -x -C "$KUF_TMP/head"
for tree in mailed head; do
	diff -r "$KUF_TMP/applied" "$KUF_TMP/$tree" >&2 ||
		die "the series does not end in the applied tree (see above, $tree)"
done
# As check.sh does with each file and hook, where the style of TRACE_EVENT() is
# known from the file's name; new files are covered by KVM's patterns in MAINTAINERS.
need perl
for mail in "${mails[@]}"; do
	(
		cd "$pristine"
		perl scripts/checkpatch.pl --strict --terse --no-summary --no-codespell --show-types \
			--ignore FILE_PATH_CHANGES,CAMELCASE,COMPLEX_MACRO,OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT,SPLIT_STRING \
			"$mail"
	) >&2 || die "checkpatch does not like $mail (see above)"
done
say "${#mails[@]} mails and a cover letter in $out; they end in the applied tree"

[[ ${1:-} == --build ]] || exit 0
lock "tree-$TREE_NAME"
# only_tests NAME: does the patch touch selftests only?
only_tests()
{
	local i
	! grep '^+++ ' "$(hook_patch "$1")" | grep -qv '^+++ b/tools/testing/selftests/' || return 1
	for i in "${!OVL_DST[@]}"; do
		[[ ${OVL_GROUP[i]} != "$1" || ${OVL_DST[i]} == tools/testing/selftests/* ]] || return 1
	done
}

for name in "${HOOK_NAMES[@]}"; do
	say "== up to $name"
	export LAST_HOOK=$name VARIANT=series
	if only_tests "$name"; then
		"$KUF_BIN/tree.sh" >/dev/null
		SELFTESTS=$KUF_SELFTESTS-series "$KUF_BIN/selftests.sh" >/dev/null
	else
		"$KUF_BIN/build.sh" kernel >/dev/null
	fi
done
unset LAST_HOOK VARIANT
"$KUF_BIN/tree.sh" >/dev/null
say "every patch builds"
