#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What of kuf can be tested without KVM: its tests, plain and with sanitizers, and the
# commands that need no guest. Prints KTAP on stdout. Exit status: 0 if none failed.
#
# usage: tests/kuf/run.sh
#
# Environment: ROUNDS (some dozens), moves of each kind that are cut, or damaged, or whose
# sides are killed, at random; with sanitizers a third of them.
# TEST_TIMEOUT (1200), seconds after which a test has failed that does not end; and 20 more
# for each of ROUNDS.

# Functions are called through try.
# shellcheck disable=SC2317
set -euo pipefail
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../ktap.sh
. "$here/../ktap.sh"
repo=$here/../..
# The tests have fixed names in /tmp, so another run on this machine is waited for. Not /tmp
# itself is locked: that is what kuf pager does when it listens there.
exec {lock}>>/tmp/kuf-tests.lock
flock -w 1200 "$lock" || { echo "run.sh: another run of the tests of kuf does not end" >&2; exit 2; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
kuf=$out/plain/kuf
limit=$((${TEST_TIMEOUT:-1200} + ${ROUNDS:-0} * 20))

# fails STATUS TEXT COMMAND...: with that status, saying that.
fails()
{
	local want=$1 text=$2 rc=0 said
	shift 2
	said=$("$@" 2>&1) || rc=$?
	echo "$said"
	((rc == want)) && grep -q -- "$text" <<<"$said"
}

# A command of kuf's that the manual does not describe, or the other way round.
check_manual()
{
	local commands described
	commands=$("$kuf" --help | sed -n 's/^  \([a-z]*\) .*/\1/p' | sort)
	described=$(sed -n 's/^\.Ss kuf //p' "$repo"/tools/kuf/man/*.1 | sort)
	diff <(echo "$commands") <(echo "$described")
}

# Each option in --help is in the manual.
check_options()
{
	local command option missing=0
	for command in $("$kuf" --help | sed -n 's/^  \([a-z]*\) .*/\1/p'); do
		while IFS= read -r option; do
			grep -q -- "Fl -$option\b" "$repo"/tools/kuf/man/*.1 ||
				grep -q -- "-$option\b.*\(,\|$\)" "$repo"/tools/kuf/man/*.1 ||
				{ echo "kuf $command --$option"; missing=1; }
		done < <("$kuf" "$command" --help | sed -n 's/^  --\([a-z-]*\).*/\1/p')
	done
	return "$missing"
}

draw()
{
	local i
	{
		echo '# time_us gpa kind latency_us'
		for ((i = 0; i < 300; i++)); do
			echo "$((i * 500)) $(printf '0x%x' $((i * 7919 % 4096 * 4096))) demand $((60 + i))"
			echo "$((i * 500 + 7)) $(printf '0x%x' $((i * 4096))) background-zero -"
		done
	} >"$out/trace"
	"$kuf" plot "$out/trace" "$out/it's a.png" && [[ $(head -c 4 "$out/it's a.png") == *PNG* ]]
}

tests=(arrival_test cuts_test frame_test handover_test hostile_test journal_test kills_test
	lobby_test migrate_host_test pager_test pagerd_test pagerd_kills_test pause_test
	poison_host_test report_test resume_test status_test stream_test trace_test)
begin kuf $((2 * ${#tests[@]} + $(grep -c '^try ' "${BASH_SOURCE[0]}")))
try build make -s -C "$repo/tools/kuf" O="$out/plain" -j2
try build-sanitized make -s -C "$repo/tools/kuf" O="$out/san" -j2 \
	CFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all" \
	LDFLAGS="-fsanitize=address,undefined"
for t in "${tests[@]}"; do
	args=()
	[[ $t != hostile_test ]] || args=("$here/corpus")
	[[ $t != cuts_test && $t != kills_test ]] || args=(${ROUNDS:+"$ROUNDS"})
	# These take a second or two each.
	[[ $t != pagerd_kills_test ]] || args=(${ROUNDS:+"$((ROUNDS / 4 + 1))"})
	try "$t" timeout -k 5 "$limit" "$out/plain/kuf_$t" "${args[@]}"
	# Slower, and the same rounds.
	[[ $t != cuts_test && $t != kills_test ]] || args=(${ROUNDS:+"$(((ROUNDS + 2) / 3))"})
	try "$t-sanitized" timeout -k 5 "$limit" "$out/san/kuf_$t" "${args[@]}"
done

# What nobody should say is made by a program; what it makes is what is there.
corpus()
{
	mkdir "$out/corpus"
	"$out/plain/kuf_corpus" "$out/corpus" && diff -r "$here/corpus" "$out/corpus"
}
try corpus corpus

# A pager that lets one VM have all before others have a look must be noticed.
unfair()
{
	local said
	said=$("$out/plain/kuf_pagerd_unfair_test" fairness) && return 1
	echo "$said"
	grep -q '^not ok .* fairness-background' <<<"$said" &&
		(($(sed -n 's/^# .* each before \([0-9]*\) others.*/\1/p' <<<"$said" | head -n 1) > 95))
}
try pagerd-unfair-control unfair

try manual-commands check_manual
try manual-options check_options
try plot draw
echo "12 0x1000 demand many" >"$out/bad"
try plot-refuses-other-files fails 1 'line 1 is not of a trace' "$kuf" plot "$out/bad" "$out/bad.png"
echo "# nothing" >"$out/bad"
try plot-refuses-empty-files fails 1 'no pages' "$kuf" plot "$out/bad" "$out/bad.png"
try plot-says-what-is-missing fails 1 'apt-get install gnuplot' env PATH=/none "$kuf" plot "$out/trace" "$out/bad.png"
# Nobody reads what it says any more.
reader_gone()
{
	local rc=0
	mkfifo "$out/fifo"
	exec 8<>"$out/fifo"
	exec 9>"$out/fifo"
	exec 8<&-
	"$kuf" status "$out/none" 2>&9 || rc=$?
	exec 9>&-
	((rc == 1))
}
try reader-gone reader_gone
# No file may have any bytes.
limited()
{
	(ulimit -f 0 && exec "$@")
}
try file-limit fails 1 'File too large' limited "$kuf" run --kernel=/x --journal="$out/limited"
try status-of-nobody fails 1 'No such file' "$kuf" status "$out/none"
try recover-of-nobody fails 1 'No such file' "$kuf" recover "$out/none"
try poison-of-nobody fails 1 'No such file' "$kuf" poison "$out/none" 0x1000
try poison-usage fails 2 'usage: kuf poison' "$kuf" poison "$out/none"
try poison-pages fails 2 'GPA and LEN are multiples of 4096' "$kuf" poison "$out/none" 0x1000 0x1001
try poison-number fails 2 'GPA=-4096: a number' "$kuf" poison "$out/none" -- -4096
try recover-usage fails 2 'SOCKET is needed' "$kuf" recover
try recover-revoke-alone fails 2 'only with --to-another' "$kuf" recover "$out/none" --revoke=/
try recover-no-journal fails 2 'No such file' "$kuf" recover "$out/none" --to-another=unix:/x --revoke="$out/none"
try recover-another-twice fails 2 'no other ADDRESS' "$kuf" recover "$out/none" unix:/y --to-another=unix:/x
try mem-path-backing fails 2 'only with --backing=shmem' "$kuf" run --kernel=x --mem-path="$out/none"
try mem-path-journal fails 2 'needs --journal' "$kuf" recv --listen=unix:/x --backing=shmem --mem-path="$out/none"
try recover-files-both fails 2 'only of use together' "$kuf" recover --mem-path="$out/none" unix:/x
try recover-files-none fails 1 'No such file' "$kuf" recover --journal="$out/none" --mem-path="$out/none" unix:/x
try recover-address fails 2 'tcp:HOST:PORT' "$kuf" recover "$out/none" nowhere
echo "no journal" >"$out/bad"
try journal-of-others fails 1 'name another file' "$kuf" recv --listen=unix:"$out/at" --journal="$out/bad"
try status-usage fails 2 'usage: kuf status' "$kuf" status
try pager-usage fails 2 'listen=SOCKET is needed' "$kuf" pager
try pager-bandwidth fails 2 'bandwidth=1: bytes a second' "$kuf" pager --listen=/none --bandwidth=1
try pager-max-vms fails 2 'max-vms=0: a number from 1 to 1024' "$kuf" pager --listen=/none --max-vms=0
try pager-nowhere fails 1 'listen=/none/at: its directory' "$kuf" pager --listen=/none/at
try pager-no-socket fails 1 'something that is no socket' "$kuf" pager --listen="$out/bad"
try pager-locked fails 1 "somebody has locked $out" flock "$out" "$kuf" pager --listen="$out/pager"
# What is wrong, which setting it is, and what to do.
try restore-directory fails 1 'a file that kuf save wrote is needed' "$kuf" restore /tmp
try restore-missing fails 1 'the saved VM /none: No such file' "$kuf" restore /none
head -c 5000 /dev/zero >"$out/bad"
try restore-half fails 1 'not written to its end' "$kuf" restore "$out/bad"
try restore-half-next fails 1 'cannot be restored: use another copy' "$kuf" restore "$out/bad"
try restore-eager-record fails 2 'the default: say --policy=lazy' "$kuf" restore /x --record=/x
try restore-uffd-record fails 2 'not with recordings: --policy=lazy' "$kuf" restore /x --policy=lazy --engine=uffd --record=/x
try restore-pager-nowhere fails 2 'process, thread or unix:PATH' "$kuf" restore /x --policy=lazy --pager=unix:
try restore-pager-timeout fails 2 'only with --pager=unix:PATH' "$kuf" restore /x --policy=lazy --pager-timeout=5
try restore-pager-trace fails 2 'use --pager=process' "$kuf" restore /x --policy=lazy --pager=unix:/x --trace=/x
try restore-uffd-unix fails 2 'not with --pager=unix: only thread' "$kuf" restore /x --policy=lazy --pager=unix:/x --engine=uffd
try run-own fails 2 'only with --lazy: no page is absent' "$kuf" run --kernel=/x --features=own
try run-mem fails 2 'from 64M to 64G, a multiple of 4K' "$kuf" run --kernel=/x --mem=100000001
try run-kernel fails 2 'is needed: a Linux bzImage' "$kuf" run
# A machine with a KVM of ours is not to be expected here, and one without must be told so.
doctor()
{
	local rc=0 said
	said=$("$kuf" doctor) || rc=$?
	echo "$said"
	if ((rc == 0)); then
		[[ $said == *"kuf will work here" ]] && ! grep -q ^problem <<<"$said"
	else
		((rc == 1)) && [[ $said == *"kuf will not work here" ]] &&
			(($(grep -c ^problem <<<"$said") <= $(grep -c '^ *fix: .' <<<"$said")))
	fi
}
try doctor doctor
try doctor-usage fails 2 'usage: kuf doctor' "$kuf" doctor all
end
