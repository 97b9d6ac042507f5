#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The tests: boots, positive controls, host-side results, and one verdict.
#
# usage: tools/build/runtests.sh WHAT [KTAP-FILE...]
#
# WHAT:
#	quick		lists quick and kuf with nested paging on and off, and the
#			positive controls
#	all		quick, lists long and kuf-long, and stock-compare
#	controls	only the positive controls
#	stock-compare	list stock on our kernel and on a pristine one: the same
#			results, test by test, in both paging modes
#	NAME		list tests/lists/NAME in both paging modes
# KTAP-FILE: results of host-side tests, judged along.
#
# Environment, beside lib.sh's, boot.sh's and initramfs.sh's:
#	KERNEL		bzImage ($BUILD/bzImage-$TREE_NAME-$CONFIG, from kernel.sh)
#	PRISTINE_KERNEL	bzImage of the unmodified tree; built if not given
#	NPTS		paging modes, "1 0"
#	OUT		logs and results ($BUILD/test-$WHAT-$CONFIG)
#	BESIDE		a command that is run meanwhile, and has ended when the results
#			of KTAP-FILE are looked at
#
# The last line is always "N passed, N failed, N skipped". Exit status 0 only if
# none failed.

# Functions are called through step.
# shellcheck disable=SC2317
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

what=${1:?which tests? see the header of runtests.sh}
shift
ktap=("$@")
NPTS=${NPTS:-1 0}
OUT=${OUT:-$BUILD/test-$what-$CONFIG}
SCALE=${SCALE:-$([[ $CONFIG == debug ]] && echo 4 || echo 1)}
KERNEL=${KERNEL:-$BUILD/bzImage-$TREE_NAME-$CONFIG}
export SCALE
[[ -f $KERNEL ]] || die "no kernel image $KERNEL; fix: make kernel"

rm -rf "$OUT"
mkdir -p "$OUT"
# The cache is shared: another checkout may build its kernel during our boots.
run cp "$KERNEL" "$OUT/bzImage"

# step NAME COMMAND...: what a failed step should have written is missed by the
# judge below, so nothing has to stop here.
broken=
step()
{
	local name=$1 rc=0 started=$SECONDS
	shift
	say "== $name"
	"$@" || rc=$?
	record "test.$what.$name" $((SECONDS - started))
	((rc == 0)) || broken+=" $name ($rc)"
}

# asks LIST WORD: is WORD in its "boot:" line (tests/lists/README)?
asks()
{
	sed -n 's/^# boot: //p' "$REPO/tests/lists/$1" | tr ' ' '\n' | grep -x "$2" >/dev/null
}

# initramfs LIST: packs it into OUT, once for all boots.
initramfs()
{
	local files=${FILES:-}
	! asks "$1" kuf || files+=" $BUILD/kuf/kuf=/tests/bin/kuf $OUT/bzImage=/tests/kuf/bzImage\
			$BUILD/kuf/kuf-guest-init=/tests/bin/kuf-guest-init"
	FILES=$files "$KUF_BIN/initramfs.sh" "$OUT/$1.cpio.gz" "$1" >/dev/null &&
		"$BUILD/initramfs/init" "$REPO/tests/lists/$1" >"$OUT/$1.list"
}

# boot LIST NPT KERNEL LABEL
boot()
{
	local limit smp=${SMP:-}
	! asks "$1" smp=1 || smp=1
	# Each test ends within its own timeout; what hangs beyond that is the VM.
	limit=$(awk -v scale="$SCALE" '{ s += $2 } END { print 60 * scale + s * scale }' \
		"$OUT/$1.list")
	env ${smp:+SMP="$smp"} KERNEL="$3" INITRD="$OUT/$1.cpio.gz" LIST="$1" NPT="$2" LABEL="$4" \
		OUT="$OUT/$4" TIMEOUT="${TIMEOUT:-$limit}" "$KUF_BIN/boot.sh"
}

run_list()
{
	local list=$1 npt
	step "initramfs.$list" initramfs "$list"
	for npt in $NPTS; do
		step "$list.npt$npt" boot "$list" "$npt" "$OUT/bzImage" "$list-npt$npt"
		ktap+=("$OUT/$list-npt$npt/result.ktap" "$OUT/$list-npt$npt/boot.ktap")
	done
}

judges()
{
	"$REPO/tests/controls/judge-test.sh" >"$OUT/judge.ktap"
}

controls()
{
	# The other paging mode would show nothing new.
	env KERNEL="$OUT/bzImage" OUT="$OUT/controls" NPT=1 \
		"$REPO/tests/controls/run.sh" >"$OUT/controls.ktap"
}

run_controls()
{
	step judges judges
	step controls controls
	ktap+=("$OUT/judge.ktap" "$OUT/controls.ktap")
}

compare()
{
	local npt=$1 may_fail
	may_fail=$(awk -F '\t' '$6 == "may-fail" { print $1 }' "$OUT/stock.list" | tr '\n' ' ')
	awk -f "$KUF_BIN/ktap-compare.awk" -v prefix="same.npt$npt" -v may_fail="$may_fail" \
		"$OUT/pristine-npt$npt/result.ktap" "$OUT/stock-npt$npt/result.ktap" \
		>"$OUT/compare-npt$npt.ktap"
}

pristine_kernel()
{
	local map=$KUF_OUT-pristine/System.map
	PRISTINE_KERNEL=$("$KUF_BIN/pristine.sh" | tail -n 1) || return 1
	# To compare a kernel with itself would always pass.
	grep -q ' kvm_arch_vcpu_ioctl$' "$map" || return 1
	if grep -q kvm_userfault "$map"; then
		say "the pristine kernel has KVM userfault in it, see $map"
		PRISTINE_KERNEL=
		return 1
	fi
}

run_stock_compare()
{
	local npt
	if [[ -z ${PRISTINE_KERNEL:-} ]]; then
		step pristine-kernel pristine_kernel
	fi
	step initramfs.stock initramfs stock
	for npt in $NPTS; do
		# A test that fails on both kernels fails these boots, but is the same:
		# of them count that they ran to the end and that the console is clean.
		step "stock.npt$npt" stock_boot "$npt" "$OUT/bzImage" "stock-npt$npt"
		step "pristine.npt$npt" stock_boot "$npt" "${PRISTINE_KERNEL:-}" "pristine-npt$npt"
		step "compare.npt$npt" compare "$npt"
		ktap+=("$OUT"/{stock,pristine}-npt"$npt"/boot.ktap "$OUT/compare-npt$npt.ktap")
	done
}

stock_boot()
{
	local rc=0
	boot stock "$@" || rc=$?
	((rc == 10)) || return "$rc"
	say "(what fails in this boot is compared, not judged)"
}

beside=
if [[ -n ${BESIDE:-} ]]; then
	# What fails there is in its results.
	bash -c "$BESIDE" &
	beside=$!
	trap 'kill "$beside" 2>/dev/null || true' EXIT
fi

case $what in
quick)
	run_list quick
	run_list kuf
	run_controls
	;;
all)
	run_list quick
	run_list kuf
	run_controls
	[[ ! -f $REPO/tests/lists/long ]] || run_list long
	run_list kuf-long
	run_stock_compare
	;;
controls)
	run_controls
	;;
stock-compare)
	run_stock_compare
	;;
*)
	[[ -f $REPO/tests/lists/$what ]] || die "there is no list tests/lists/$what"
	run_list "$what"
	;;
esac

if [[ -n $beside ]]; then
	wait "$beside" || true
	trap - EXIT
fi

rc=0
awk -f "$KUF_BIN/ktap.awk" "${ktap[@]}" >"$OUT/summary" || rc=$?
if ((rc == 0)) && [[ -n $broken ]]; then
	# A step failed, but no result shows it: a judge is wrong.
	printf 'KTAP version 1\n1..1\nnot ok 1 steps #%s\n' "$broken" \
		>"$OUT/broken.ktap"
	awk -f "$KUF_BIN/ktap.awk" "${ktap[@]}" "$OUT/broken.ktap" >"$OUT/summary" || rc=$?
fi
cat "$OUT/summary"
exit "$rc"
