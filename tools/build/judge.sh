#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The verdict on one boot, from what it left on disk. boot.sh calls it; by hand
# it judges an old boot again.
#
# usage: tools/build/judge.sh OUT LABEL QEMU-STATUS [SECONDS]
#
# OUT has console.log, result.ktap, qemu.log. Writes OUT/boot.ktap (result lines
# boot, plan-complete, console-clean) and OUT/verdict ("passed", or each reason
# with its evidence). Exit status: see boot.sh.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

(($# >= 3)) || die "usage: judge.sh OUT LABEL QEMU-STATUS [SECONDS]"
out=$1 label=$2 status=$3 seconds=${4:-}
console=$out/console.log
result=$out/result.ktap

# In order of what explains what: a splat explains a lost VM, that a missing line.
reasons=()
messages=()
reason()
{
	reasons+=("$1")
	messages+=("$1: $2")
}

[[ -r $console && -r $result ]] || die "no console.log and result.ktap in $out"
dirty=$(grep -v '^#' "$KUF_BIN/console.patterns" |
	grep -a -n -m 5 -E -f - "$console" | tr -d '\r' || true)
if [[ -n $dirty ]]; then
	# "cut here" says less than the line after it.
	dirty=$(grep -v 'cut here' <<<"$dirty" || echo "$dirty")
	dirty=${dirty%%$'\n'*}
	during=$(head -n "${dirty%%:*}" "$console" | tr -d '\r' |
		sed -n 's/.*kuf: test [0-9]* start: //p' | tail -n 1)
	reason dirty-console "$console:$dirty (during ${during:-boot})"
fi

bail=$(grep -a -m 1 '^Bail out!' "$result" || true)
if [[ $status == 124 || $status == 137 ]]; then
	reason timeout "QEMU had to be killed; the last result: $(
		grep -a -E '^(not )?ok ' "$result" | tail -n 1)"
elif [[ $status != 0 ]]; then
	reason lost-vm "QEMU failed with status $status: $(tail -n 1 "$out/qemu.log")"
elif [[ -z $bail && $(tail -n 1 "$result") != '# init: complete' ]]; then
	# A panic, reset or triple fault ends QEMU with status 0, too.
	# So it does when somebody kills it, but then it says so.
	said=$(tail -n 1 "$out/qemu.log")
	reason lost-vm "the VM ended without '# init: complete'; the last result: $(
		grep -a -E '^(not )?ok ' "$result" | tail -n 1)${said:+; $said}"
fi

failed=0
summary=$(awk -f "$KUF_BIN/ktap.awk" "$result") || failed=1
hole=$(grep -a -m 1 -E '^FAILED .*: (no result, though planned|no plan|no KTAP version line)$' \
	<<<"$summary" || true)
if [[ -n $bail || -n $hole ]]; then
	reason incomplete-plan "${bail:-${hole#FAILED }}"
fi
if ((failed)); then
	reason failed-test "${summary##*$'\n'}"
fi

# check NUMBER NAME REASON...: one result line; not ok for any of these reasons.
check()
{
	local nr=$1 name=$2 word=ok r m
	shift 2
	for r in "${!reasons[@]}"; do
		for m; do
			[[ ${reasons[r]} == "$m" ]] || continue
			printf '# %s\n' "${messages[r]}"
			word="not ok"
		done
	done
	printf '%s %d %s.%s\n' "$word" "$nr" "$label" "$name"
}
{
	printf 'KTAP version 1\n1..3\n'
	check 1 boot timeout lost-vm
	check 2 plan-complete incomplete-plan
	check 3 console-clean dirty-console
} >"$out/boot.ktap"

if ((${#reasons[@]} == 0)); then
	echo passed >"$out/verdict"
	say "boot $label: passed${seconds:+ in $seconds s}: $summary; logs in $out"
	exit 0
fi
printf '%s\n' "${messages[@]}" >"$out/verdict"
say "boot $label: FAILED (${reasons[0]})${seconds:+ after $seconds s}; logs in $out"
while IFS= read -r line; do
	say "    $line"
done <<<"$summary"
printf '    %s\n' "${messages[@]}" >&2
case ${reasons[0]} in
dirty-console) exit 12 ;;
timeout) exit 13 ;;
lost-vm) exit 14 ;;
incomplete-plan) exit 11 ;;
*) exit 10 ;;
esac
