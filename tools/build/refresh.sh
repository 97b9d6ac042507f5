#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The way back: makes hooks/K/*.patch from the commits of a git work tree, with
# the commits' messages as changelogs, and takes over the overlay files.
#
# usage: tools/build/refresh.sh [K] [REPO [NAME=COMMIT...]]
#
# REPO is build/series/K/git (made by make series) unless given. Without
# NAME=COMMIT, each commit after REPO's first one is the hook that has its subject;
# a new one is named that way, and then all have to be. With NAME=COMMIT, overlay
# files are taken from REPO's HEAD as well.
#
# Hooks get as little context as places each hunk in its function: one line, or
# more where lines repeat.

[[ ${1:-} != [0-9]*.[0-9]* ]] || { K=$1; shift; }
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=hooks.sh
. "$KUF_BIN/hooks.sh"

need git
scratch
hooks_load
repo=${1:-$BUILD/series/$K/git}
shift $(($# > 0))
[[ -e $repo/.git ]] || die "$repo is no git work tree; fix: make series"
repo=$(cd "$repo" && pwd -P)

g()
{
	plain_git "$repo" "$@"
}
# Function names in hunk headers are checked later on, so they must be right.
g check-attr diff -- virt/kvm/kvm_main.c | grep -q 'diff: cpp$' ||
	die "$repo has no .gitattributes with '*.[ch] diff=cpp', as kernel trees do"
[[ -z $(g status --porcelain --untracked-files=no) ]] ||
	die "$repo has changes that are not committed"

names=() commits=()
if (($#)); then
	for pair; do
		[[ $pair == ?*=?* ]] || die "'$pair' is not NAME=COMMIT"
		names+=("${pair%%=*}")
		commits+=("$(g rev-parse --verify -q "${pair#*=}^{commit}")") ||
			die "$repo has no commit ${pair#*=}"
	done
else
	declare -A of=()
	for name in "${HOOK_NAMES[@]}"; do
		subject=$(plain_git "$KUF_TMP" mailinfo /dev/null /dev/null <"$(hook_patch "$name")" |
			sed -n 's/^Subject: //p')
		of[$subject]=$name
	done
	while read -r commit subject; do
		[[ -n ${of[$subject]:-} ]] ||
			die "no hook has the subject '$subject'; name all commits: refresh.sh $repo ${HOOK_NAMES[0]}=COMMIT ..."
		names+=("${of[$subject]}")
		commits+=("$commit")
	done < <(g log --reverse --format='%H %s' "$(g rev-list --max-parents=0 HEAD | tail -n 1)..HEAD")
fi
((${#names[@]})) || die "$repo has no commit after its first one"

exclude=()
for dst in "${OVL_DST[@]}"; do
	exclude+=(":(exclude)$dst")
done
new=$KUF_TMP/hooks
mkdir "$new"
for i in "${!names[@]}"; do
	name=${names[i]}
	commit=${commits[i]}
	rm -rf "$KUF_TMP/stage"
	mkdir "$KUF_TMP/stage"
	for context in 1 2 3 4 6 8 12; do
		g format-patch -q -1 "-U$context" --full-index --no-signature --zero-commit -N \
			--stdout "$commit" -- . "${exclude[@]}" >"$new/$name.patch"
		# The files as they were before, to try it on.
		list=$(awk -f "$KUF_BIN/hunks.awk" -v mode=list "$new/$name.patch" 2>&1) ||
			die "$name ($commit): $list"
		while read -r file _; do
			mkdir -p "$KUF_TMP/stage/$(dirname "$file")"
			g show "$commit^:$file" >"$KUF_TMP/stage/$file"
		done <<<"$list"
		why=
		awk -f "$KUF_BIN/hunks.awk" -v mode=place -v stage="$KUF_TMP/stage" \
			"$new/$name.patch" >/dev/null 2>"$KUF_TMP/why" && break
		why=$(cat "$KUF_TMP/why")
	done
	[[ -z $why ]] || die "$name ($commit): $why, even with $context lines of it"
	if cmp -s "$new/$name.patch" "$(hook_patch "$name")"; then
		say "$name: unchanged"
	else
		say "$name: $(wc -l <<<"$list") files, context $context"
		cp "$new/$name.patch" "$(hook_patch "$name")"
	fi
done

# The series keeps its comments when its names have not changed.
if [[ "${names[*]}" != "${HOOK_NAMES[*]}" ]]; then
	{
		echo "# SPDX-License-Identifier: GPL-2.0"
		printf '%s.patch\n' "${names[@]}"
	} >"$KUF_HOOKS/series"
	say "$KUF_HOOKS/series: ${names[*]}"
	for patch in "$KUF_HOOKS"/*.patch; do
		[[ " ${names[*]} " == *" $(basename "$patch" .patch) "* ]] ||
			say "not in the series any more, delete it: $patch"
	done
fi
for i in "${!OVL_DST[@]}"; do
	g cat-file -e "HEAD:${OVL_DST[i]}" 2>/dev/null || continue
	g show "HEAD:${OVL_DST[i]}" >"$KUF_TMP/file"
	cmp -s "$KUF_TMP/file" "${OVL_SRC[i]}" && continue
	cp "$KUF_TMP/file" "${OVL_SRC[i]}"
	say "${OVL_SRC[i]#"$REPO"/}: taken over"
done
[[ ! -f $repo/.git/kuf-made ]] || g rev-parse HEAD >"$repo/.git/kuf-made"
