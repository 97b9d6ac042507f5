#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Takes one check at a time out of the kernel and sees the test fail that the
# mutation names. A test that goes on passing proves nothing about its rule.
#
# usage: tools/build/mutations.sh KTAP-FILE [NAME...]
#
# Each tests/mutations/NAME.patch begins with
#
#	Breaks: the rule, and what the mutated kernel does wrong
#	Fails: TEST [npt=0|1] [console]	or	Keeps: TEST [npt=0|1]
#
# TEST is a line of the list "userfault"; it has to fail on the mutated kernel
# (with nested paging if no npt= is given), or, with "console", bring the kernel
# to complain while it runs. With "Keeps" it must pass: of two checks that each
# suffice one is taken out. That the test passes without the mutation is seen by
# running the list as such.
#
# Environment: lib.sh's and boot.sh's. stdout: one line a mutation.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ktap=${1:?where to write the results? usage: mutations.sh KTAP-FILE [NAME...]}
shift
if (($# == 0)); then
	for patch in "$REPO"/tests/mutations/*.patch; do
		set -- "$@" "$(basename "$patch" .patch)"
	done
fi

out=$BUILD/mutations
# The tree is not as it should be in the meantime.
lock "tree-$TREE_NAME"
export VARIANT=mutation
rm -rf "$out"
mkdir -p "$out"
run_log "$out/initramfs.log" "$KUF_BIN/initramfs.sh" "$out/userfault.cpio.gz" userfault ||
	die "no initramfs"

# build PATCH DIR: the mutated kernel, DIR/bzImage; says what is wrong.
build()
{
	local patch=$1 dir=$2
	mkdir -p "$dir"
	EXTRA_PATCHES=$patch "$KUF_BIN/tree.sh" >"$dir/tree.log" 2>&1 ||
		{ echo "the patch does not apply, see $dir/tree.log"; return 1; }
	if ! "$KUF_BIN/config.sh" >"$dir/config.log" 2>&1 ||
		! "$KUF_BIN/kernel.sh" >"$dir/kernel.out" 2>"$dir/kernel.log"; then
		echo "does not build, see $dir/kernel.log"
		return 1
	fi
	# The next one takes its place while this one is booted.
	mv "$(tail -n 1 "$dir/kernel.out")" "$dir/bzImage"
}

# boot TEST NPT EXPECT DIR: says what happened.
boot()
{
	local test=$1 npt=$2 expect=$3 dir=$4 rc=0
	KERNEL=$dir/bzImage INITRD=$out/userfault.cpio.gz LIST=userfault ONLY=$test \
		NPT=$npt OUT=$dir "$KUF_BIN/boot.sh" >"$dir/boot.log" 2>&1 || rc=$?
	rm "$dir/bzImage"
	case $expect.$rc in
	keeps.0) echo "$test passed, as it must"; return 0 ;;
	test.10) grep -q "^not ok 1 $test " "$dir/result.ktap" &&
		{ echo "$test failed, as it must"; return 0; } ;;
	console.12) echo "the kernel complained, as it must"; return 0 ;;
	*.0) echo "nobody noticed: $test passed"; return 1 ;;
	esac
	echo "$test was to fail ($expect); the boot ended with $rc, see $dir"
	return 1
}

# finish: waits for the mutation that is being booted, if any, and tells its result.
booting=
finish()
{
	local result=ok
	[[ -n $booting ]] || return 0
	wait "$booting_pid" || result="not ok"
	[[ $result == ok ]] || failed=$((failed + 1))
	n=$((n + 1))
	printf '%s %d mutation.%s # %s\n' "$result" $n "$booting" "$(<"$out/$booting/said")" |
		tee -a "$ktap"
	booting=
}

printf 'KTAP version 1\n1..%d\n' $# >"$ktap"
n=0
failed=0
for name; do
	patch=$REPO/tests/mutations/$name.patch
	[[ -f $patch ]] || die "there is no $patch"
	read -r how test options < <(grep -m1 -E "^(Fails|Keeps): " "$patch")
	npt=1
	expect="test"
	[[ $how != Keeps: ]] || expect=keeps
	for option in $options; do
		case $option in
		npt=[01]) npt=${option#npt=} ;;
		console) expect=console ;;
		*) die "$patch: what is \"$option\" in its Fails: line?" ;;
		esac
	done
	# One is built while the one before is booted, which needs one CPU.
	rc=0
	said=$(build "$patch" "$out/$name") || rc=$?
	finish
	if ((rc)); then
		(echo "$said"; exit 1) >"$out/$name/said" &
	else
		boot "$test" "$npt" "$expect" "$out/$name" >"$out/$name/said" &
	fi
	booting=$name booting_pid=$!
done
finish

# Leaves the tree as it should be.
unset VARIANT EXTRA_PATCHES
"$KUF_BIN/tree.sh" >/dev/null
exit $((failed > 0))
