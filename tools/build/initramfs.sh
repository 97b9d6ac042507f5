#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Packs the test VM's initramfs: our init as PID 1, test lists, and of all
# programs only those that these lists run.
#
# usage: tools/build/initramfs.sh OUTFILE LIST...
#
# LIST is a name in tests/lists, or a path of a list anywhere. A list that is
# malformed, or a program that is not built, is an error here and not in the VM.
#
# Environment, beside lib.sh's:
#	BINS	directories with programs, colon separated; the first match counts.
#		Those of the selftests, kuf and libkuf are always looked at last.
#	SELFTESTS	the build of selftests.sh ($KUF_CACHE/build/selftests-$K)
#	FILES	further files to pack, words of the form SOURCE=/path/in/the/vm
#	TREE	kernel tree with usr/gen_init_cpio.c ($KUF_CACHE/tree/$K)
# stdout: OUTFILE. Nothing is packed again when no input has changed.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

TREE=${TREE:-$KUF_TREE}
SELFTESTS=${SELFTESTS:-$KUF_SELFTESTS}
BINS=${BINS:+$BINS:}$SELFTESTS/kvm:$BUILD/kuf:$BUILD/libkuf
(($# >= 2)) || die "usage: initramfs.sh OUTFILE LIST..."
out=$1
shift
work=$BUILD/initramfs
init=$work/init
cpio=$work/gen_init_cpio
mkdir -p "$work" "$(dirname "$out")"

need gcc
need strip binutils
exec {build_lock}>"$work/lock"
flock "$build_lock"
# Nobody else may be linking what is being packed.
lock "$(basename "$SELFTESTS")"

# stale TARGET SOURCE...: must TARGET be made again?
stale()
{
	local target=$1 src
	shift
	[[ -e $target ]] || return 0
	for src; do
		[[ $src -nt $target ]] && return 0
	done
	return 1
}

if stale "$init" "$KUF_BIN"/init.c "$KUF_BIN"/init/*.[ch]; then
	run gcc -O2 -static -Wall -Wextra -Werror -o "$init" \
		"$KUF_BIN"/init.c "$KUF_BIN"/init/*.c ||
		die "init does not build (static libc missing? package libc6-dev)"
fi
if stale "$cpio" "$TREE/usr/gen_init_cpio.c"; then
	[[ -f $TREE/usr/gen_init_cpio.c ]] ||
		die "no kernel tree in $TREE; fix: make tree"
	run gcc -O2 -o "$cpio" "$TREE/usr/gen_init_cpio.c"
fi

# find_program NAME LIST: its path.
find_program()
{
	local dir dirs
	IFS=: read -ra dirs <<<"$BINS"
	for dir in "${dirs[@]}"; do
		if [[ -x $dir/$1 ]]; then
			printf '%s\n' "$dir/$1"
			return
		fi
	done
	die "list $2: '$1' is not built; looked in ${BINS//:/ }"
}

scratch
spec=$KUF_TMP/spec
inputs=$KUF_TMP/inputs
declare -A packed=() dirs=()

# Directories have to be listed before what is in them.
pack_dirs()
{
	local path=${1%/*}
	[[ -n $path && -z ${dirs[$path]:-} ]] || return 0
	pack_dirs "$path"
	dirs[$path]=1
	printf 'dir %s 755 0 0\n' "$path" >>"$spec"
}

# pack FILE PATH-IN-VM MODE
pack()
{
	[[ -z ${packed[$2]:-} ]] || return 0
	packed[$2]=1
	pack_dirs "$2"
	printf 'file %s %s %s 0 0\n' "$2" "$1" "$3" >>"$spec"
	stat -L -c '%n %s %.9Y' "$1" >>"$inputs"
}

# A stripped copy: symbols are half of a test's size, and the VM unpacks slowly.
stripped()
{
	local copy=$work/stripped/${1//\//%}
	if stale "$copy" "$1"; then
		mkdir -p "$work/stripped"
		strip -o "$copy.new" "$1"
		mv "$copy.new" "$copy"
	fi
	printf '%s\n' "$copy"
}

pack "$init" /init 755
for list; do
	file=$list
	[[ $list == */* ]] || file=$REPO/tests/lists/$list
	"$init" "$file" >"$KUF_TMP/list" || die "list $list is not usable (see above)"
	pack "$file" "/tests/lists/$(basename "$file")" 644
	while IFS=$'\t' read -r _ _ program _; do
		# An absolute one comes with FILES.
		[[ $program != /* ]] || continue
		path=$(find_program "$program" "$list")
		path=$(stripped "$path")
		pack "$path" "/tests/bin/$program" 755
	done <"$KUF_TMP/list"
done
for word in ${FILES:-}; do
	[[ -f ${word%%=*} ]] || die "FILES: no file ${word%%=*}"
	pack "${word%%=*}" "${word#*=}" 755
done

cat "$spec" >>"$inputs"
if [[ -f $out ]] && cmp -s "$inputs" "$out.inputs"; then
	printf '%s\n' "$out"
	exit
fi
say "+ $cpio SPEC | gzip -1 >$out	# ${#packed[@]} files"
"$cpio" "$spec" | gzip -n -1 >"$out.new" || die "cannot write $out (disk full?)"
mv "$out.new" "$out"
cp "$inputs" "$out.inputs"
printf '%s\n' "$out"
