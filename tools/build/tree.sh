#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Keeps the applied tree: the pristine source with hooks and overlay, at a fixed
# path, since ccache knows objects by their absolute paths. Only files whose
# content changes are written, so make rebuilds only what depends on them.
#
# usage: tools/build/tree.sh [K]
#
# Environment, beside lib.sh's:
#	EXTRA_PATCHES	patches (-p1) on top, for mutation tests
#	PRISTINE	1: no hooks and no overlay, for comparisons
# stdout: the tree's path, as the last line.
#
# With EXTRA_PATCHES or PRISTINE give VARIANT a name as well, so that the kernel
# is built in a directory of its own: same tree path, hence with ccache's help.
# The next plain run puts the tree right again.

[[ $# == 0 ]] || K=$1
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tree=$KUF_TREE
state=$KUF_CACHE/tree/$TREE_NAME.state
[[ $KUF_CACHE != *[[:space:]:]* ]] ||
	die "KUF_CACHE=$KUF_CACHE: the kernel cannot be built below a path with blanks or colons"
[[ -z ${EXTRA_PATCHES:-}${PRISTINE:-} || -n $VARIANT || $TREE_NAME != "$K" ]] ||
	die "EXTRA_PATCHES and PRISTINE need a VARIANT=name, to be built apart"
need git
lock "tree-$TREE_NAME"
scratch
pristine=$("$KUF_BIN/fetch.sh" "$K" | tail -n 1)
[[ -n $pristine ]] || exit 1
mkdir -p "$KUF_CACHE/tree"

# What is to be different from the pristine source.
stage=$KUF_TMP/stage
mkdir "$stage"
cp -p "$pristine/Makefile" "$stage/"
if [[ ${PRISTINE:-0} != 1 ]]; then
	files=$("$KUF_BIN/apply.sh" --files -K "$K")
	while read -r kind file; do
		[[ $kind == hook && -f $pristine/$file ]] || continue
		mkdir -p "$stage/$(dirname "$file")"
		cp -p "$pristine/$file" "$stage/$file"
	done <<<"$files"
	# Errors name the source, not the copy that is tried on.
	rc=0
	"$KUF_BIN/apply.sh" "$stage" -K "$K" 2>"$KUF_TMP/said" || rc=$?
	sed "s|$stage|$pristine|g; s|^applied to $pristine|applied|" "$KUF_TMP/said" >&2
	((rc == 0)) || exit 1
fi
# Kconfig options, and with them the sets of objects, may depend on files that
# an extra patch brings along, so new files are allowed here.
for patch in ${EXTRA_PATCHES:-}; do
	[[ -f $patch ]] || die "EXTRA_PATCHES: $patch does not exist"
	patch=$(realpath "$patch")
	list=$(cd / && git apply --numstat -p1 "$patch" 2>&1) || die "$patch: ${list%%$'\n'*}"
	while read -r _ _ file; do
		[[ -e $stage/$file || ! -f $pristine/$file ]] && continue
		mkdir -p "$stage/$(dirname "$file")"
		cp -p "$pristine/$file" "$stage/$file"
	done <<<"$list"
	out=$(env GIT_CEILING_DIRECTORIES="$KUF_TMP" git -C "$stage" apply -p1 "$patch" 2>&1) ||
		die "$patch does not apply: $(grep -m1 error <<<"$out")"
done
(cd "$stage" && find . -type f -printf '%P\n' | sort) >"$KUF_TMP/files"

# put SRC DST: never in place, since DST may be a hard link to the pristine file,
# and never with SRC's date: make must see that an older file came back.
put()
{
	mkdir -p "$(dirname "$2")"
	cp -- "$1" "$2.kuf-new"
	chmod --reference="$1" "$2.kuf-new"
	mv -f -- "$2.kuf-new" "$2"
}

# differ LISTER: files below tree and pristine, or of one only, for which LISTER
# prints another line "KEY PATH".
differ()
{
	comm -3 <("$1" "$pristine" | sort) <("$1" "$tree" | sort) |
		sed 's/^\t*[^ ]*  *//' | sort -u
}

inodes()
{
	(cd "$1" && find . -type f -printf '%i %P\n')
}

sums()
{
	(cd "$1" && xargs -r -d '\n' -a "$KUF_TMP/suspects" sha1sum 2>/dev/null) || true
}

# stamp of the source: KSRC may change under us, Debian's trees do not.
old_base=
[[ ! -f $state ]] || old_base=$(sed -n 's/^base //p' "$state")
: >"$KUF_TMP/before"

if [[ -n $KSRC ]]; then
	copy_ksrc()
	{
		if [[ -e $KSRC/.git ]] && git -C "$KSRC" rev-parse 2>/dev/null; then
			git -C "$KSRC" ls-files -co -z --exclude-standard
		else
			[[ ! -e $KSRC/include/config && ! -e $KSRC/.config ]] ||
				die "KSRC=$KSRC has been built in; fix: make -C '$KSRC' mrproper, or a git work tree"
			(cd "$KSRC" && find . \( -type f -o -type l \) -print0)
		fi >"$KUF_TMP/ksrc.files"
		# Dates count here as in any source tree; what we put is left out.
		rsync -lpt --from0 --files-from="$KUF_TMP/ksrc.files" --delete-missing-args \
			--exclude-from=<(sed 's|^|/|' "$KUF_TMP/ours") "$KSRC/" "$tree/"
		(cd "$tree" && find . \( -type f -o -type l \) -print0) |
			tr '\0' '\n' | sed 's|^\./||' | sort >"$KUF_TMP/have"
		tr '\0' '\n' <"$KUF_TMP/ksrc.files" | sed 's|^\./||' |
			sort - "$KUF_TMP/ours" | comm -13 - "$KUF_TMP/have" |
			while IFS= read -r file; do
				rm -- "$tree/$file"
			done
	}
	need rsync
	[[ -z $old_base || $old_base == "$pristine" ]] || rm -rf "$tree"
	mkdir -p "$tree"
	[[ ! -f $state ]] || sed -n 's/^file //p' "$state" >"$KUF_TMP/before"
	sort -u "$KUF_TMP/before" "$KUF_TMP/files" >"$KUF_TMP/ours"
	say "copying $KSRC to $tree, which is what gets hooked and built"
	copy_ksrc
elif [[ ! -d $tree || ( -n $old_base && $old_base != "$pristine" ) ]]; then
	say "+ cp -al $pristine $tree"
	rm -rf "$tree.new"
	cp -al "$pristine" "$tree.new" || die "cannot make $tree.new (disk full? df -h $KUF_CACHE)"
	rm -rf "$tree"
	mv "$tree.new" "$tree"
elif [[ -n $old_base ]]; then
	sed -n 's/^file //p' "$state" >"$KUF_TMP/before"
else
	# A tree without a state: all that is no hard link, and has other content,
	# has been put there.
	differ inodes >"$KUF_TMP/suspects"
	differ sums >"$KUF_TMP/before"
fi

# Files of another release may be older than objects built from this one, and
# make would then keep those.
if [[ -n $old_base && $old_base != "$pristine" ]]; then
	say "the source is now $pristine: what was built from $old_base goes"
	rm -rf "$KUF_CACHE/build/$TREE_NAME"-{fast,debug}{,-*} "$KUF_SELFTESTS"{,-series}
fi

# Written before the first file is: if this run is interrupted, the next one
# must know of all that may be different.
{
	echo "base $pristine"
	sort -u "$KUF_TMP/before" "$KUF_TMP/files" | sed 's/^/file /'
} >"$state.new"
mv "$state.new" "$state"

written=0
while IFS= read -r file; do
	cmp -s "$stage/$file" "$tree/$file" && continue
	put "$stage/$file" "$tree/$file"
	written=$((written + 1))
done <"$KUF_TMP/files"
while IFS= read -r file; do
	if [[ -f $pristine/$file ]]; then
		cmp -s "$pristine/$file" "$tree/$file" && continue
		put "$pristine/$file" "$tree/$file"
	else
		[[ -e $tree/$file ]] || continue
		rm -- "$tree/$file"
	fi
	written=$((written + 1))
done < <(comm -23 "$KUF_TMP/before" "$KUF_TMP/files")

{
	echo "base $pristine"
	sed 's/^/file /' "$KUF_TMP/files"
} >"$state.new"
mv "$state.new" "$state"

say "$tree: $written files changed of $(wc -l <"$KUF_TMP/files")${EXTRA_PATCHES:+, with $EXTRA_PATCHES}$([[ ${PRISTINE:-0} != 1 ]] || echo ', pristine')"
echo "$tree"
