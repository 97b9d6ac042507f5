#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Positive controls: boots that must fail, each for its own reason. A control
# that passes, or fails for another reason, means that the test VM is blind.
#
# usage: KERNEL=bzImage tests/controls/run.sh >controls.ktap
#
# What is booted stands in tests/controls/boots; what each test of a list must
# report, in the list (expect=). Environment: lib.sh's and boot.sh's; OUT is the
# directory for the boots' logs, and for what is said of them: failures that are none are
# not for the log of a test run. stdout: KTAP, one result per control.

# shellcheck source=../../tools/build/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/build/lib.sh"

: "${KERNEL:?is not set, see the header of boot.sh}"
OUT=${OUT:-$BUILD/controls}
SCALE=${SCALE:-$([[ $CONFIG == debug ]] && echo 4 || echo 1)}
here=$REPO/tests/controls
mkdir -p "$OUT/bin"
need gcc
run gcc -O2 -static -Wall -Wextra -Werror -o "$OUT/bin/kuf_control" "$here/kuf_control.c"

# Read whole before the first boot, which could swallow what stdin still has.
mapfile -t boots < <(grep -v '^#' "$here/boots")
lists=()
for line in "${boots[@]}"; do
	read -r _ list _ <<<"$line"
	[[ ! -f $REPO/tests/lists/$list ]] || lists+=("$list")
done
initrd=$(BINS="$OUT/bin${BINS:+:$BINS}" "$KUF_BIN/initramfs.sh" "$OUT/controls.cpio.gz" "${lists[@]}")

nr=0
results=
# result WORD NAME [DIAGNOSTIC]
result()
{
	nr=$((nr + 1))
	[[ -z ${3:-} ]] || results+="# $3"$'\n'
	results+="$1 $nr control.$2"$'\n'
	say "$1 $nr control.$2${3:+	# $3}"
}

# said TEST REGEX FILE: do the diagnostics of TEST match REGEX?
said()
{
	sed -n "/^# init: $1\$/,/^\(not \)*ok /p" "$3" | grep -E -- "$2" >/dev/null
}

# Each line of LIST against what the VM reported for it.
check_tests()
{
	local list=$1 out=$2 name expect says line got want
	"$BUILD/initramfs/init" "$REPO/tests/lists/$list" >"$out/list"
	while IFS=$'\t' read -r name _ _ _ _ _ expect; do
		[[ $expect != - ]] || continue
		says=
		[[ $expect != *:* ]] || says=${expect#*:}
		expect=${expect%%:*}
		line=$(grep -E "^(not )?ok [0-9]+ $name #" "$out/result.ktap" || true)
		want="not ok [0-9]+ $name # $expect( |\$)"
		[[ $expect != OK ]] || want="ok [0-9]+ $name # time="
		got=${line:-no result}
		if [[ $line =~ ^$want ]] && said "$name" "$says" "$out/result.ktap"; then
			result ok "$list.$name"
		else
			result "not ok" "$list.$name" "wanted $expect ${says:-}, got: $got"
		fi
	done <"$out/list"
}

for line in "${boots[@]}"; do
	read -r name list reason limit pattern append <<<"$line"
	out=$OUT/$name
	say "== control $name: must fail with $reason"
	rc=0
	KERNEL=$KERNEL INITRD=$initrd LIST=$list TIMEOUT=$((limit * SCALE)) SCALE=$SCALE ONLY='' \
		APPEND=$append OUT=$out LABEL=control-$name "$KUF_BIN/boot.sh" >"$out.log" 2>&1 || rc=$?
	verdict=$(cat "$out/verdict" 2>/dev/null || true)
	first=${verdict%%:*}
	if ((rc == 0)); then
		result "not ok" "$name" "the boot passed"
	elif [[ $first != "$reason" ]]; then
		result "not ok" "$name" "failed for $first (status $rc), not for $reason"
	elif ! grep -q -E "$pattern" <<<"$verdict"; then
		result "not ok" "$name" "the verdict does not say '$pattern': ${verdict//$'\n'/; }"
	else
		result ok "$name"
	fi
	[[ $reason != failed-test ]] || check_tests "$list" "$out"
done

printf 'KTAP version 1\n1..%d\n%s' "$nr" "$results"
[[ $results != *"not ok"* ]]
