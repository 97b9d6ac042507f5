#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make run: shows guests whose memory is paged in on demand, by userfaultfd and by
# KVM userfault, every page checked by guest and host. Two boots: one takes the
# time (tests/lists/demo), one counts instructions (tests/lists/demo-icount).
#
# usage: tools/build/demo.sh
#
# Environment, beside lib.sh's and those of boot.sh and initramfs.sh:
#	KERNEL	bzImage ($KUF_CACHE/build/$K-$CONFIG/arch/x86/boot/bzImage)
#	OUT	directory for logs, numbers and plot ($BUILD/run)
#	LISTS	the two test lists, as initramfs.sh takes them (demo demo-icount)
#	MEMORY	the kinds of memory that they have (anon gmem)
#
# OUT gets: time/ and icount/ (the boots' logs), table.txt, histograms.txt,
# paging.png. Exit status 0 only if every cell of the matrix has a result, no page
# was wrong and both boots were clean.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

KERNEL=${KERNEL:-$KUF_CACHE/build/$K-$CONFIG/arch/x86/boot/bzImage}
OUT=${OUT:-$BUILD/run}
read -r time_list icount_list <<<"${LISTS:-demo demo-icount}"
plot=$KUF_BIN/plot
memory=${MEMORY:-anon gmem}

need gnuplot gnuplot-nox
[[ -f $KERNEL ]] || die "no kernel $KERNEL; fix: make kernel"
mkdir -p "$OUT"
rm -rf "$OUT"/{time,icount,table.txt,histograms.txt,paging.png} "$OUT"/*.dat

# Drops the mark that KTAP puts before a test's output. On a terminal, progress
# stays on one line.
show_progress()
{
	local line
	while IFS= read -r line; do
		line=${line#\# }
		if [[ ! -t 2 ]]; then
			printf '%s\n' "$line"
		elif [[ $line =~ ^\ +[0-9]+\ %\  ]]; then
			printf '\r%s\033[K' "$line"
		else
			printf '\r\033[K%s\n' "$line"
		fi
	done >&2
}

# boot NAME LIST: leaves its logs in OUT/NAME; sets failed.
failed=
boot()
{
	local follow='^# (\[|  |WRONG PAGE|FAILED|page )|^(not ok|Bail out!) ' rc=0
	run env KERNEL="$KERNEL" INITRD="$initrd" LIST="$(basename "$2")" \
		LABEL="run-$1-npt$NPT" OUT="$OUT/$1" FOLLOW="$follow" \
		"$KUF_BIN/boot.sh" 2>&1 | show_progress || rc=$?
	[[ -s $OUT/$1/result.ktap ]] ||
		die "the VM has left no results; see $OUT/$1/console.log"
	if ((rc)); then
		failed+=" $OUT/$1 (status $rc: $(head -n 1 "$OUT/$1/verdict" 2>&1))"
	fi
}

# Sets others to the CPU seconds that all other programs on this machine used so
# far: all there were, less those of this script's children (which times only
# tells in the shell itself).
count_others()
{
	times >"$OUT/times"
	others=$(awk -v hz="$(getconf CLK_TCK)" '
		/^cpu / { s += ($2 + $3 + $4 + $7 + $8 + $9) / hz }
		!/^cpu/ && NF { s -= 60 * ($1 + $3) + $2 + $4 }
		END { printf "%d", s }' FS=' ' <(grep '^cpu ' /proc/stat) FS='[ms ]+' "$OUT/times")
	rm -f "$OUT/times"
}

initrd=$(run "$KUF_BIN/initramfs.sh" "$OUT/initramfs.gz" "$time_list" "$icount_list")
started=$SECONDS
count_others
before=$others
boot time "$time_list"
count_others
# Other work slows an emulated guest down by any factor.
busy=$((100 * (others - before) / (SECONDS - started)))
say "Once more, counting instructions instead of time:"
ICOUNT=1 boot icount "$icount_list"

emulated=1
if grep -q -- '-accel kvm' "$OUT/time/command"; then
	emulated=0
fi
timed=$OUT/time/result.ktap
release=$(sed -n '/^# init: \([^ ]*\) .*, list .*/{s//\1/p;q}' "$timed")
title="Guest memory paged in on demand, Linux $release"
if ((emulated)); then
	title+=", emulated CPU"
fi

awk -v memory="$memory" -f "$plot/cells.awk" -f "$plot/histogram.awk" "$timed" >"$OUT/histograms.txt"
awk -v dir="$OUT" -f "$plot/cells.awk" -f "$plot/series.awk" "$timed"
verdict=0
awk -v emulated="$emulated" -v busy="$busy" -v memory="$memory" -f "$plot/cells.awk" -f "$plot/table.awk" \
	"$timed" icount=1 "$OUT/icount/result.ktap" >"$OUT/table.txt" || verdict=$?
run gnuplot -e "dir='$OUT'; out='$OUT/paging.png'; what='$title'" "$plot/paging.gp" ||
	die "gnuplot failed on $OUT/*.dat"

printf '\n'
awk -v only=1 -f "$plot/cells.awk" -f "$plot/histogram.awk" "$timed"
printf 'plot: %s\nall histograms: %s\n\n' "$OUT/paging.png" "$OUT/histograms.txt"
cat "$OUT/table.txt"

[[ -z $failed ]] || die "a boot failed:$failed"
exit "$verdict"
