# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Reads what there is to apply: hooks/K/series, the hook patches, and
# overlay.manifest. Sourced after lib.sh.
#
# hooks_load fills
#	HOOK_NAMES	groups, in the order of the series
#	HOOK_FILES	kernel files that the hooks change, each once
#	HOOK_OF		first hook that changes a file
#	OVL_SRC OVL_DST OVL_GROUP	one entry an overlay file
# and stops with one line when they do not fit together.
#
# Environment: HOOKS and MANIFEST stand in for hooks/K and overlay.manifest;
# the paths in a manifest start at its own directory.
# LAST_HOOK=NAME leaves out all hooks after that one, and their overlay files.

HOOK_NAMES=()
HOOK_FILES=()
declare -A HOOK_OF=()
OVL_SRC=()
OVL_DST=()
OVL_GROUP=()

hook_patch()
{
	printf '%s\n' "$KUF_HOOKS/$1.patch"
}

# A path below a kernel tree, and nothing cleverer.
plain_path()
{
	[[ -n $1 && $1 != /* && $1 != *[[:space:]]* && "/$1/" != */../* && "/$1/" != */./* ]]
}

hooks_load_series()
{
	local name file rest list
	local -A seen=()

	[[ -f $KUF_HOOKS/series ]] || return 0
	while read -r name rest; do
		[[ -z $name || $name == '#'* ]] && continue
		name=${name%.patch}
		[[ -z $rest || $rest == '#'* ]] ||
			die "$KUF_HOOKS/series: more than a name in the line '$name $rest'"
		[[ -z ${seen[$name]:-} ]] ||
			die "$KUF_HOOKS/series names $name twice"
		seen[$name]=1
		[[ -f $(hook_patch "$name") ]] ||
			die "hook patch $(hook_patch "$name") is missing, $KUF_HOOKS/series names it"
		HOOK_NAMES+=("$name")
		list=$(awk -f "$KUF_BIN/hunks.awk" -v mode=list "$(hook_patch "$name")" 2>&1) ||
			die "$(hook_patch "$name"): $list"
		while read -r file _; do
			plain_path "$file" ||
				die "$(hook_patch "$name"): '$file' is no path below a kernel tree"
			[[ -n ${HOOK_OF[$file]:-} ]] || HOOK_FILES+=("$file")
			HOOK_OF[$file]=${HOOK_OF[$file]:-$name}
		done <<<"$list"
	done <"$KUF_HOOKS/series"

	for file in "$KUF_HOOKS"/*.patch; do
		[[ -e $file ]] || continue
		name=$(basename "$file" .patch)
		[[ -n ${seen[$name]:-} ]] ||
			die "$file is not in $KUF_HOOKS/series"
	done
}

hooks_load_manifest()
{
	local src dst group rest root
	local -A seen=()

	[[ -f $KUF_MANIFEST ]] || return 0
	root=$(cd "$(dirname "$KUF_MANIFEST")" && pwd -P)
	while read -r src dst group rest; do
		[[ -z $src || $src == '#'* ]] && continue
		[[ -n $group && -z $rest ]] ||
			die "$KUF_MANIFEST: the line of '$src' is not 'path path-in-kernel group'"
		{ plain_path "$src" && plain_path "$dst"; } ||
			die "$KUF_MANIFEST: '$src $dst': paths start at the top and have no .."
		[[ -f $root/$src ]] ||
			die "$KUF_MANIFEST names $src, which does not exist"
		[[ -z ${seen[$dst]:-} ]] ||
			die "$KUF_MANIFEST names $dst twice"
		[[ -z ${HOOK_OF[$dst]:-} ]] ||
			die "$dst is an overlay file and changed by hook ${HOOK_OF[$dst]} as well"
		[[ " ${HOOK_NAMES[*]} " == *" $group "* ]] ||
			die "$KUF_MANIFEST: $src is of group '$group', which is not in $KUF_HOOKS/series"
		seen[$dst]=1
		OVL_SRC+=("$root/$src")
		OVL_DST+=("$dst")
		OVL_GROUP+=("$group")
	done <"$KUF_MANIFEST"
}

# Leaves out what comes after the hook LAST_HOOK.
hooks_truncate()
{
	local i names=() keep_src=() keep_dst=() keep_group=()

	for i in "${!HOOK_NAMES[@]}"; do
		names+=("${HOOK_NAMES[i]}")
		[[ ${HOOK_NAMES[i]} != "$LAST_HOOK" ]] || break
	done
	[[ ${names[-1]} == "$LAST_HOOK" ]] ||
		die "LAST_HOOK=$LAST_HOOK is not in $KUF_HOOKS/series"
	for i in "${!OVL_DST[@]}"; do
		[[ " ${names[*]} " == *" ${OVL_GROUP[i]} "* ]] || continue
		keep_src+=("${OVL_SRC[i]}")
		keep_dst+=("${OVL_DST[i]}")
		keep_group+=("${OVL_GROUP[i]}")
	done
	HOOK_NAMES=("${names[@]}")
	OVL_SRC=("${keep_src[@]}")
	OVL_DST=("${keep_dst[@]}")
	OVL_GROUP=("${keep_group[@]}")
}

hooks_load()
{
	hooks_load_series
	# No hook at all: nothing calls the overlay, so it does not land either.
	((${#HOOK_NAMES[@]})) || return 0
	hooks_load_manifest
	[[ -z ${LAST_HOOK:-} ]] || hooks_truncate
}

# Git, with no repository or setting of the user's in sight: git apply skips
# what it takes to be outside of a repository, and says nothing.
# plain_git DIR ARG...
plain_git()
{
	local dir=$1
	shift
	env -u GIT_DIR -u GIT_WORK_TREE -u GIT_INDEX_FILE -u GIT_PREFIX -u GIT_NAMESPACE \
		-u GIT_OBJECT_DIRECTORY -u GIT_COMMON_DIR -u GIT_DEFAULT_HASH -u GIT_EXTERNAL_DIFF \
		GIT_CEILING_DIRECTORIES="$(dirname "$dir")" GIT_CONFIG_GLOBAL=/dev/null \
		GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_COUNT=0 git -C "$dir" "$@"
}

# hook_forward NAME DIR: apply one hook to the files below DIR, each hunk at its
# proven place. Prints "PROVEN PLACED", numbers of hunks; on failure one line,
# and DIR, which is a copy, is of no use any more. With BY_FUNCTION=1 blob names
# prove nothing.
hook_forward()
{
	local name=$1 dir=$2 patch file pre post n proven='' wants='' out
	local -i sure=0 placed=0

	patch=$(hook_patch "$name")
	while read -r file pre post n; do
		if [[ ! -f $dir/$file ]]; then
			echo "$patch: $file does not exist there"
			return 1
		fi
		if [[ ${BY_FUNCTION:-0} == 0 &&
		      $(plain_git "$dir" hash-object --no-filters "$file") == "$pre" ]]; then
			proven+=" $file"
			wants+=" $post"
			sure+=$n
		else
			placed+=$n
		fi
	done < <(awk -f "$KUF_BIN/hunks.awk" -v mode=list "$patch")

	out=$(awk -f "$KUF_BIN/hunks.awk" -v mode=place -v stage="$dir" -v proven="$proven" \
	      "$patch" 2>&1 >"$KUF_TMP/placed.patch") || {
		echo "$patch: $out"
		return 1
	}
	out=$(plain_git "$dir" apply -v -p1 --whitespace=nowarn "$KUF_TMP/placed.patch" 2>&1) || {
		echo "$patch: $(grep -m1 '^error' <<<"$out" || echo "$out")"
		return 1
	}
	if grep -q 'offset' <<<"$out"; then
		echo "$patch: landed somewhere else: $(grep -m1 offset <<<"$out")"
		return 1
	fi
	# What was made from the recorded file must be the recorded result.
	for file in $proven; do
		wants=${wants# }
		if [[ $(plain_git "$dir" hash-object --no-filters "$file") != "${wants%% *}" ]]; then
			echo "$patch: $file did not become what the patch records; make the patch anew (tools/build/refresh.sh)"
			return 1
		fi
		wants=${wants#"${wants%% *}"}
	done
	echo "$sure $placed"
}

# hook_reverse NAME DIR: take it out again; or fail, leave DIR as it is and
# print the file that it is not in.
hook_reverse()
{
	local out
	out=$(plain_git "$2" apply -R -p1 --whitespace=nowarn "$(hook_patch "$1")" 2>&1) && return
	sed -n 's/^error: patch failed: \(.*\):[0-9]*$/\1/p; s/^error: \([^:]*\): .*/\1/p' <<<"$out" |
		sed -n 1p
	return 1
}
