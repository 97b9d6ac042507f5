#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make run, its end: a Linux guest that works on 64 MiB of memory and a disk is taken
# elsewhere in the middle of that by kuf, and gets its memory page by page; each word of
# it is checked by the guest. One boot (tests/lists/job).
#
# usage: tools/build/job.sh
#
# Environment, beside lib.sh's and those of boot.sh:
#	KERNEL	bzImage, of the test VM and of the guest
#		($KUF_CACHE/build/$K-$CONFIG/arch/x86/boot/bzImage)
#	OUT	directory for logs, numbers and plot ($BUILD/run/job)
#
# OUT gets: boot/ (logs), faults.trace, faults.png, summary.txt. Exit status 0 only if
# the job was done and the boot was clean.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

KERNEL=${KERNEL:-$KUF_CACHE/build/$K-$CONFIG/arch/x86/boot/bzImage}
OUT=${OUT:-$BUILD/run/job}
need gnuplot gnuplot-nox
[[ -f $KERNEL ]] || die "no kernel $KERNEL; fix: make kernel"
mkdir -p "$OUT"
rm -rf "${OUT:?}"/{boot,faults.trace,faults.png,summary.txt}

initrd=$(FILES="$BUILD/kuf/kuf=/tests/bin/kuf $KERNEL=/tests/kuf/bzImage \
	$BUILD/kuf/kuf-guest-init=/tests/bin/kuf-guest-init" \
	run "$KUF_BIN/initramfs.sh" "$OUT/initramfs.gz" job)
rc=0
# What both sides and the guest say, as it comes. The clock starts with the job.
run env KERNEL="$KERNEL" INITRD="$initrd" LIST=job LABEL="job-npt$NPT" OUT="$OUT/boot" SMP=1 \
	TIMEOUT=500 FOLLOW='^# \[|^(not ok|Bail out!) ' "$KUF_BIN/boot.sh" 2>&1 |
	sed -u 's/^# //' >&2 || rc=$?
result=$OUT/boot/result.ktap
[[ -s $result ]] || die "the VM has left no results; see $OUT/boot/console.log"

{
	echo '# time_us gpa kind latency_us'
	sed -n 's/^# DATA trace //p' "$result"
} >"$OUT/faults.trace"
run "$BUILD/kuf/kuf" plot "$OUT/faults.trace" "$OUT/faults.png" >&2 || rc=1

# What it came to: indented lines; the buckets of the lazily restored guest.
{
	sed -n 's/^# \(  [^ ].*\)/\1/p' "$result"
	echo '  how long the guest waited for a page, after it was migrated:'
	sed -n 's/^# \[.*\] dest      kuf: \( *\[ .*\)$/  \1/p' "$result"
} >"$OUT/summary.txt"
printf '\n'
cat "$OUT/summary.txt"
printf '  plot: %s\n' "$OUT/faults.png"
((rc == 0)) || die "the main job failed; see $result"
