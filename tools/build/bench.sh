#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make bench: what a page costs, in time and in instructions, against targets; what
# KVM userfault costs where it is not used; and what switching it on and off costs.
#
# usage: tools/build/bench.sh
#
# The matrix: demo.sh with the lists bench and bench-icount, so a boot that takes
# the time and one whose clock counts instructions.
#
# Idle cost: one static program runs plain faults in memslots without KVM
# userfault (tests/lists/bench-idle) on our kernel and on a pristine one in the
# same configuration, in turns, a fresh boot each, with the clock that counts
# instructions. From the means of all passes on either side: the difference, and
# what it is below with 95 % confidence (Welch; t = 2.23, for 10 degrees of freedom
# where there are more). Beside it, which functions of the MMU differ at all, in
# instructions in the object file, taken or not.
#
# Environment, beside lib.sh's and boot.sh's:
#	KERNEL	bzImage ($BUILD/bzImage-$TREE_NAME-$CONFIG)
#	PRISTINE_KERNEL	bzImage of the unmodified tree; built if not given
#	BOOTS	boots of each kernel for the idle cost (2)
#	PARTS	of it: matrix idle (both)
#	OUT	logs and numbers ($BUILD/bench)
#
# OUT gets demo.sh's files, idle/*/result.ktap, idle.txt, targets.txt, arm.txt and
# functions.txt. Exit status 0 only if all targets are met.

# Functions are called by the name of their part.
# shellcheck disable=SC2317
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export KERNEL=${KERNEL:-$BUILD/bzImage-$TREE_NAME-$CONFIG}
export OUT=${OUT:-$BUILD/bench}
boots=${BOOTS:-2}
parts=${PARTS:-matrix idle}
need objdump binutils
[[ -f $KERNEL ]] || die "no kernel image $KERNEL; fix: make kernel"
mkdir -p "$OUT"
rc=0

matrix()
{
	LISTS="bench bench-icount" MEMORY="anon shmem gmem" "$KUF_BIN/demo.sh" || rc=$?
	[[ -s $OUT/icount/result.ktap ]] || die "no instructions were counted, see $OUT/icount"
	awk -f "$KUF_BIN/plot/targets.awk" "$OUT/icount/result.ktap" >"$OUT/targets.txt" || rc=1
	awk -v arm=1 -f "$KUF_BIN/plot/targets.awk" "$OUT/icount/result.ktap" >"$OUT/arm.txt" || rc=1
	printf '\n'
	cat "$OUT/targets.txt"
	printf '\n'
	cat "$OUT/arm.txt"
}

# counts OBJECT: "FUNCTION INSTRUCTIONS", padding left out.
counts()
{
	objdump -d --no-show-raw-insn --no-addresses "$1" | awk '
		/^<.*>:$/ { f = substr($0, 2, length($0) - 3); next }
		f != "" && NF && $1 !~ /^(nop[wl]?|data16|cs|xchg)$/ { n[f]++ }
		END { for (f in n) print f, n[f] }' | sort
}

# Which functions of the MMU have other code than without the hooks.
functions()
{
	local object
	for object in mmu tdp_mmu; do
		join -a 1 -e 0 -o 0,1.2,2.2 \
			<(counts "$KUF_OUT/arch/x86/kvm/mmu/$object.o") \
			<(counts "$KUF_OUT-pristine/arch/x86/kvm/mmu/$object.o")
	done | awk '$2 != $3 { printf "  %-40s %5d %5d %+5d\n", $1, $3, $2, $2 - $3 }'
}

idle()
{
	local initrd i side kernel pristine=${PRISTINE_KERNEL:-}
	local ours=$KERNEL results=()
	[[ -n $pristine ]] || pristine=$("$KUF_BIN/pristine.sh" | tail -n 1)
	initrd=$(run "$KUF_BIN/initramfs.sh" "$OUT/idle.gz" bench-idle)
	for ((i = 1; i <= boots; i++)); do
		for side in ours pristine; do
			kernel=$ours
			[[ $side == ours ]] || kernel=$pristine
			say "== idle cost, $side, boot $i of $boots"
			ICOUNT=1 KERNEL=$kernel INITRD=$initrd LIST=bench-idle OUT=$OUT/idle/$side.$i \
				LABEL=idle-$side-$i "$KUF_BIN/boot.sh" ||
				die "boot $i of the $side kernel failed, see $OUT/idle/$side.$i"
			results+=("side=$side" "$OUT/idle/$side.$i/result.ktap")
		done
	done
	awk -f "$KUF_BIN/plot/idle.awk" "${results[@]}" >"$OUT/idle.txt" || rc=1
	printf '\n'
	cat "$OUT/idle.txt"
	if [[ -f $KUF_OUT-pristine/arch/x86/kvm/mmu/mmu.o && -f $KUF_OUT/arch/x86/kvm/mmu/mmu.o ]]; then
		functions >"$OUT/functions.txt"
		printf '\nfunctions of the MMU that differ: instructions without and with the hooks\n'
		cat "$OUT/functions.txt"
	fi
}

for part in $parts; do
	case $part in
	matrix | idle) "$part" ;;
	*) die "there is no part '$part'; see the header of bench.sh" ;;
	esac
done
printf '\nraw numbers: %s\n' "$OUT"
exit "$rc"
