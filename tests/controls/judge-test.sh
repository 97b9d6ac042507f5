#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Positive controls that need no VM: the judges (ktap.awk, judge.sh,
# ktap-compare.awk, console.patterns, the test list parser) are given results
# with one thing wrong each and must say so.
#
# usage: tests/controls/judge-test.sh >judge.ktap

# shellcheck source=../../tools/build/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/build/lib.sh"

here=$REPO/tests/controls
scratch
nr=0
failed=0
# result STATUS NAME: STATUS 0 is a pass.
result()
{
	local word=ok
	nr=$((nr + 1))
	if (($1)); then
		word="not ok"
		failed=1
	fi
	printf '%s %d judge.%s\n' "$word" "$nr" "$2"
}

# ktap NAME SUMMARY: is stdin judged so? Only what has failures has status 1.
ktap()
{
	local name=$1 want=$2 got rc=0 want_rc=1
	cat >"$KUF_TMP/in.ktap"
	got=$(awk -f "$KUF_BIN/ktap.awk" "$KUF_TMP/in.ktap") || rc=$?
	[[ $want != *" 0 failed"* || $want == "0 passed"* ]] || want_rc=0
	if [[ ${got##*$'\n'} == "$want" && $rc == "$want_rc" ]]; then
		result 0 "ktap.$name"
	else
		printf '# wanted %s (status %d), got %s (status %d)\n' "$want" "$want_rc" \
			"${got##*$'\n'}" "$rc"
		result 1 "ktap.$name"
	fi
}

echo "KTAP version 1"

ktap good "2 passed, 0 failed, 1 skipped" <<'EOT'
KTAP version 1
1..3
# ok 7 a diagnostic
ok 1 a # time=0.1s
  ok 9 a subtest
ok 2 - b
ok 3 c # skip not here
EOT
ktap tap13-plan-last "1 passed, 0 failed, 0 skipped" <<'EOT'
TAP version 13
ok 1 a
1..1
EOT
ktap not-ok "1 passed, 1 failed, 0 skipped" <<'EOT'
KTAP version 1
1..2
not ok 1 a
ok 2 b
EOT
ktap not-ok-skip "0 passed, 1 failed, 0 skipped" <<'EOT'
KTAP version 1
1..1
not ok 1 a # SKIP
EOT
ktap missing-line "1 passed, 1 failed, 0 skipped" <<'EOT'
KTAP version 1
1..2
ok 2 b
EOT
ktap same-number "2 passed, 1 failed, 0 skipped" <<'EOT'
KTAP version 1
1..2
ok 1 a
ok 1 b
ok 2 c
EOT
ktap same-name "1 passed, 1 failed, 0 skipped" <<'EOT'
KTAP version 1
1..2
ok 1 a
ok 2 a
EOT
ktap beyond-plan "2 passed, 1 failed, 0 skipped" <<'EOT'
KTAP version 1
1..1
ok 1 a
ok 2 b
EOT
ktap no-plan "1 passed, 1 failed, 0 skipped" <<'EOT'
KTAP version 1
ok 1 a
EOT
ktap two-plans "1 passed, 1 failed, 0 skipped" <<'EOT'
KTAP version 1
1..1
1..1
ok 1 a
EOT
ktap no-version "1 passed, 1 failed, 0 skipped" <<'EOT'
1..1
ok 1 a
EOT
ktap bail-out "1 passed, 1 failed, 0 skipped" <<'EOT'
KTAP version 1
1..1
ok 1 a
Bail out! no more
EOT
ktap torn-line "1 passed, 1 failed, 0 skipped" <<'EOT'
KTAP version 1
1..2
ok 1 a
ok 2x
EOT
ktap only-skips "0 passed, 0 failed, 1 skipped" <<'EOT'
KTAP version 1
1..1
ok 1 a # SKIP
EOT
ktap empty "0 passed, 2 failed, 0 skipped" </dev/null
rc=0
awk -f "$KUF_BIN/ktap.awk" "$KUF_TMP/there-is-none" >/dev/null || rc=$?
result "$((rc != 1))" ktap.unreadable

# Every sample is seen, every pattern has a sample, and a clean log is clean.
clean()
{
	printf '%s\n' '[    0.1] Linux version 7.3.4' '[    0.2] kuf: test 1 start: a' \
		'[    0.3] kvm: exiting hardware virtualization'
}
grep -v '^#' "$KUF_BIN/console.patterns" >"$KUF_TMP/patterns"
blind=0
while IFS= read -r line; do
	if ! grep -q -E -f "$KUF_TMP/patterns" <<<"[    1.0] $line"; then
		printf '# not seen: %s\n' "$line"
		blind=1
	fi
done < <(grep -v '^#' "$here/console.samples")
result "$blind" console.samples
blind=0
while IFS= read -r pattern; do
	if ! grep -v '^#' "$here/console.samples" | grep -E -- "$pattern" >/dev/null; then
		printf '# no sample for: %s\n' "$pattern"
		blind=1
	fi
done <"$KUF_TMP/patterns"
result "$blind" console.patterns

# boot NAME QEMU-STATUS WANTED-STATUS: judges $KUF_TMP/boot.
boot()
{
	local rc=0
	"$KUF_BIN/judge.sh" "$KUF_TMP/boot" "$1" "$2" 2>"$KUF_TMP/judge.err" || rc=$?
	if [[ $rc != "$3" ]]; then
		printf '# wanted status %s, got %s\n' "$3" "$rc"
		sed 's/^/# /' "$KUF_TMP/judge.err"
	fi
	result "$((rc != $3))" "boot.$1"
}
# good_boot: the files of a boot that passed.
good_boot()
{
	mkdir -p "$KUF_TMP/boot"
	clean >"$KUF_TMP/boot/console.log"
	printf '%s\n' 'KTAP version 1' '1..2' 'ok 1 a' 'ok 2 b' '# init: complete' \
		>"$KUF_TMP/boot/result.ktap"
	echo 'qemu: something' >"$KUF_TMP/boot/qemu.log"
}
good_boot
boot passed 0 0
boot qemu-failed 1 14
boot qemu-killed 124 13
boot qemu-killed-hard 137 13
sed -i '$d' "$KUF_TMP/boot/result.ktap"
boot not-complete 0 14
good_boot
sed -i 's/^ok 2/not ok 2/' "$KUF_TMP/boot/result.ktap"
boot failed-test 0 10
good_boot
sed -i '/^ok 1/d' "$KUF_TMP/boot/result.ktap"
boot missing-line 0 11
good_boot
printf 'KTAP version 1\nBail out! no\n' >"$KUF_TMP/boot/result.ktap"
boot bail-out 0 11
good_boot
: >"$KUF_TMP/boot/result.ktap"
boot nothing 0 14
good_boot
echo '[    2.0] WARNING: suspicious RCU usage' >>"$KUF_TMP/boot/console.log"
boot dirty-console 0 12
# With a binary byte in it, grep would call the console a binary file.
good_boot
printf '\0\377\n[    2.0] Oops: 0002 [#1]\r\n' >>"$KUF_TMP/boot/console.log"
boot dirty-binary-console 0 12

# compare NAME WANTED-STATUS [MAY-FAIL]: $KUF_TMP/{a,b} against each other.
compare()
{
	local rc=0
	awk -f "$KUF_BIN/ktap-compare.awk" -v prefix=x -v may_fail="${3:-}" \
		"$KUF_TMP/a" "$KUF_TMP/b" >"$KUF_TMP/compare" || rc=$?
	[[ $rc == "$2" ]] || sed 's/^/# /' "$KUF_TMP/compare"
	result "$((rc != $2))" "compare.$1"
}
printf 'ok 1 a # time=1.0s\nok 2 b # SKIP time=2.0s\n' >"$KUF_TMP/a"
printf 'ok 1 b # SKIP time=3.0s\nok 2 a # time=4.0s\n' >"$KUF_TMP/b"
compare same 0
printf 'ok 1 b # time=3.0s\nok 2 a # time=4.0s\n' >"$KUF_TMP/b"
compare skip-differs 1
printf 'ok 1 b # SKIP time=3.0s\n' >"$KUF_TMP/b"
compare result-missing 1
printf 'not ok 1 a # EXIT 254 time=1.0s\n' | tee "$KUF_TMP/a" >"$KUF_TMP/b"
compare both-fail 1
compare both-may-fail 0 a
printf 'not ok 1 a # TIMEOUT time=1.0s\n' >"$KUF_TMP/b"
compare fail-differently 1 a
: >"$KUF_TMP/a"
: >"$KUF_TMP/b"
compare nothing 1

# list NAME LINE: a list with this line is refused.
gcc -O2 -Wall -Wextra -Werror -o "$KUF_TMP/init" "$KUF_BIN"/init.c "$KUF_BIN"/init/*.c
list()
{
	local rc=0
	printf '%s\n' "$2" >"$KUF_TMP/list"
	"$KUF_TMP/init" "$KUF_TMP/list" >"$KUF_TMP/list.out" 2>&1 || rc=$?
	[[ $rc == 1 ]] || sed 's/^/# /' "$KUF_TMP/list.out"
	result "$((rc != 1))" "list.$1"
}
list empty ''
list no-timeout 'a -- b'
list zero-timeout 'a 0 -- b'
list no-command 'a 1 --'
list no-dashes 'a 1 b'
list unknown-option 'a 1 may-skp -- b'
list bad-npt 'a 1 npt=2 -- b'
list bad-name 'a#b 1 -- b'
list same-name $'a 1 -- b\na 1 -- b'

printf '1..%d\n' "$nr"
exit "$failed"
