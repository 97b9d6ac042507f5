#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Puts the extension into a kernel source tree: the hook patches of hooks/K and
# the overlay files, or nothing at all.
#
# usage: tools/build/apply.sh TREE [-K 7.3] [--check|--revert|--by-function]
#        tools/build/apply.sh --files [-K 7.3]
#
#	--check		say what would happen, change nothing
#	--revert	take it out of TREE again, to the byte
#	--by-function	as --check, but take no file for the recorded one, so
#			that each hunk must be placed by its function's name
#	--files		print the kernel files that hooks change and the overlay
#			files, as "hook PATH" and "overlay PATH"
#
# TREE may hold only the files that hooks change, and Makefile. A file that is
# what a hook was made from is proof of the place (by its blob name); in any
# other, a hunk must find its lines exactly once in the function that its
# header names. Else TREE stays as it is and the hunk is named.
#
# Environment: HOOKS, MANIFEST: instead of hooks/K and overlay.manifest.

mode=apply
tree=
args=("$@")
for ((i = 0; i < ${#args[@]}; i++)); do
	case ${args[i]} in
	-K) K=${args[++i]:-} ;;
	--check | --revert | --by-function | --files) mode=${args[i]#--} ;;
	-*) echo "apply.sh: error: no option ${args[i]}; see the head of $0" >&2; exit 2 ;;
	*) tree=${args[i]} ;;
	esac
done

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=hooks.sh
. "$KUF_BIN/hooks.sh"

need git
scratch
hooks_load

if [[ $mode == files ]]; then
	((${#HOOK_FILES[@]})) && printf 'hook %s\n' "${HOOK_FILES[@]}"
	((${#OVL_DST[@]})) && printf 'overlay %s\n' "${OVL_DST[@]}"
	exit 0
fi

[[ -n $tree ]] || die "which tree? usage: apply.sh TREE [-K 7.3] [--check|--revert]"
[[ -d $tree ]] || die "$tree is not a directory"
tree=$(cd "$tree" && pwd -P)
version=$(kernel_version "$tree")
[[ -n $version ]] ||
	die "$tree is no kernel source tree (no VERSION and PATCHLEVEL in its Makefile)"
if ((${#HOOK_NAMES[@]} == 0)); then
	[[ -d $KUF_HOOKS ]] ||
		die "there are no hooks for $K; there are: $(cd "$REPO/hooks" && echo *)"
	say "no hooks in $KUF_HOOKS: nothing to apply"
	exit 0
fi
[[ -f $KUF_HOOKS/BASE ]] || die "$KUF_HOOKS/BASE is missing; it says 'version $K'"
base=$(awk '$1 == "version" { print $2; exit }' "$KUF_HOOKS/BASE")
[[ $version == "$base" || $version == "$base".* || $version == "$base"-* ]] ||
	die "$tree is Linux $version, the hooks in $KUF_HOOKS are for $base; fix: K=${version%%.*}.$(cut -d. -f2 <<<"$version") if hooks for it exist, or another tree"

# copy_files DIR: the files that hooks change, as they stand in the tree.
copy_files()
{
	local file
	for file in "${HOOK_FILES[@]}"; do
		[[ -f $tree/$file ]] ||
			die "$(hook_patch "${HOOK_OF[$file]}"): changes $file, which is not in $tree"
		mkdir -p "$1/$(dirname "$file")"
		cp "$tree/$file" "$1/$file"
	done
}

# forward DIR: all hooks; sets sure, placed; on failure why.
sure=0 placed=0 why=
forward()
{
	local name out
	sure=0 placed=0
	for name in "${HOOK_NAMES[@]}"; do
		if ! out=$(hook_forward "$name" "$1"); then
			why=$out
			return 1
		fi
		sure=$((sure + ${out% *}))
		placed=$((placed + ${out#* }))
	done
}

# backward DIR: all hooks out again; on failure missing says which is not in.
missing='a hook'
backward()
{
	local i out
	for ((i = ${#HOOK_NAMES[@]} - 1; i >= 0; i--)); do
		if ! out=$(hook_reverse "${HOOK_NAMES[i]}" "$1"); then
			missing="hook ${HOOK_NAMES[i]} in $out"
			return 1
		fi
	done
}

same_files()
{
	local file
	for file in "${HOOK_FILES[@]}"; do
		cmp -s "$1/$file" "$2/$file" || return 1
	done
}

now=$KUF_TMP/now
mkdir "$now"
copy_files "$now"

# What is there of the overlay?
ovl_same=() ovl_missing=() ovl_other=()
for i in "${!OVL_DST[@]}"; do
	dst=$tree/${OVL_DST[i]}
	if [[ ! -e $dst && ! -L $dst ]]; then
		ovl_missing+=("${OVL_DST[i]}")
	elif cmp -s "${OVL_SRC[i]}" "$dst"; then
		ovl_same+=("${OVL_DST[i]}")
	else
		ovl_other+=("${OVL_DST[i]}")
	fi
done

# Are all hooks in? Taking them out and putting them in must lead back here.
hooks_in=0
cp -r "$now" "$KUF_TMP/out"
if backward "$KUF_TMP/out"; then
	cp -r "$KUF_TMP/out" "$KUF_TMP/again"
	forward "$KUF_TMP/again" && same_files "$KUF_TMP/again" "$now" && hooks_in=1
fi

# Is one of them in? Asked only when not all are.
first_hook_in()
{
	local name
	for name in "${HOOK_NAMES[@]}"; do
		rm -rf "$KUF_TMP/one"
		cp -r "$now" "$KUF_TMP/one"
		if hook_reverse "$name" "$KUF_TMP/one" >/dev/null; then
			echo "$name"
			return
		fi
	done
}

((${#ovl_other[@]} == 0)) ||
	die "$tree has ${ovl_other[0]} with other content than the overlay's; tree not changed"
if ((hooks_in && ${#ovl_missing[@]})); then
	die "half applied: the hooks are in $tree, but ${ovl_missing[0]} is missing; tree not changed"
fi
if ((!hooks_in && ${#ovl_same[@]})); then
	die "half applied: $tree has ${ovl_same[0]}, but does not have $missing as the patch makes it; tree not changed"
fi

# Put all that was prepared into the tree, or nothing: first a new file beside
# each old one, where a full disk still harms nothing, then only renames.
# install_all DIR: hooked files from DIR; overlay in (apply) or out (revert).
install_all()
{
	local from=$1 file i tmp dst made=() src=() to=() dirs=() parts d

	for file in "${HOOK_FILES[@]}"; do
		cmp -s "$from/$file" "$tree/$file" && continue
		src+=("$from/$file")
		to+=("$tree/$file")
	done
	if [[ $mode == apply ]]; then
		src+=("${OVL_SRC[@]}")
		for i in "${!OVL_DST[@]}"; do
			to+=("$tree/${OVL_DST[i]}")
		done
	fi

	undo_prepare()
	{
		((${#made[@]})) && rm -f -- "${made[@]}"
		for ((d = ${#dirs[@]} - 1; d >= 0; d--)); do
			rmdir -- "${dirs[d]}" 2>/dev/null || true
		done
		die "cannot write $1; tree not changed"
	}

	# Only a file that nobody may replace (chattr +i) gets us here.
	undo_renames()
	{
		local bad=${to[$1]} j old
		for ((j = 0; j < $1; j++)); do
			old=$now/${to[j]#"$tree"/}
			if [[ -f $old ]]; then
				cp -- "$old" "${to[j]}"
			else
				rm -f -- "${to[j]}"
			fi
		done
		undo_prepare "$bad"
	}

	trap '' INT TERM HUP
	for i in "${!to[@]}"; do
		dst=${to[i]}
		tmp=$dst.kuf-new
		# Directories from the top down, each noted, to be undone.
		d=$tree
		IFS=/ read -ra parts <<<"$(dirname "${dst#"$tree"/}")"
		for file in "${parts[@]}"; do
			d=$d/$file
			[[ -d $d ]] && continue
			mkdir -- "$d" 2>/dev/null || undo_prepare "$d"
			dirs+=("$d")
		done
		made+=("$tmp")
		cp -- "${src[i]}" "$tmp" 2>/dev/null || undo_prepare "$tmp"
		if [[ -e $dst ]]; then
			chmod --reference="$dst" "$tmp"
			chown --reference="$dst" "$tmp" 2>/dev/null || true
		else
			chmod 644 "$tmp"
			chown --reference="$(dirname "$dst")" "$tmp" 2>/dev/null || true
		fi
	done
	for i in "${!to[@]}"; do
		mv -f -- "${to[i]}.kuf-new" "${to[i]}" 2>/dev/null || undo_renames "$i"
	done
	[[ $mode == revert ]] || return 0
	for file in "${OVL_DST[@]}"; do
		rm -- "$tree/$file"
		# A kernel tree has no empty directory, so these were made for us.
		d=$(dirname "$file")
		while [[ $d != . ]] && rmdir -- "$tree/$d" 2>/dev/null; do
			d=$(dirname "$d")
		done
	done
}

if ((hooks_in)); then
	case $mode in
	apply | check)
		say "already applied: ${#HOOK_NAMES[@]} hooks and ${#OVL_DST[@]} files in $tree"
		exit 0
		;;
	by-function)
		cp -r "$KUF_TMP/out" "$KUF_TMP/by"
		BY_FUNCTION=1 forward "$KUF_TMP/by" || die "$why"
		say "all $placed hunks are placed by their functions' names alone"
		exit 0
		;;
	revert)
		install_all "$KUF_TMP/out"
		say "reverted: ${#HOOK_NAMES[@]} hooks and ${#OVL_DST[@]} files taken out of $tree"
		exit 0
		;;
	esac
fi
if [[ $mode == revert ]]; then
	die "not applied, or changed since: $tree does not have $missing as the patch makes it; tree not changed"
fi

[[ $mode == by-function ]] && export BY_FUNCTION=1
cp -r "$now" "$KUF_TMP/new"
if ! forward "$KUF_TMP/new"; then
	one=$(first_hook_in)
	[[ -z $one ]] ||
		die "half applied: hook $one is in $tree, others are not ($why); tree not changed"
	die "$why; tree not changed"
fi
if ((placed)) && [[ $mode != by-function ]]; then
	one=$(first_hook_in)
	[[ -z $one ]] ||
		die "half applied: hook $one seems to be in $tree already; tree not changed"
fi

case $mode in
apply)
	install_all "$KUF_TMP/new"
	say "applied to $tree (Linux $version): ${#HOOK_NAMES[@]} hooks, $sure hunks proven by the file, $placed by function; ${#OVL_DST[@]} overlay files"
	;;
check)
	say "would apply to $tree (Linux $version): ${#HOOK_NAMES[@]} hooks, $sure hunks proven by the file, $placed by function; ${#OVL_DST[@]} overlay files"
	;;
by-function)
	say "all $placed hunks are placed by their functions' names alone"
	;;
esac
