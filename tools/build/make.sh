#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What stands behind make run, test, test-all, bench and check.
#
# usage: tools/build/make.sh run|test|test-all|bench|check|host
#
# host: what runtests.sh runs beside the boots of make test, which need one CPU.
#
# Environment: lib.sh's, and ROUNDS, of moves that go wrong at random (300 in test-all;
# tests/kuf/run.sh). The seconds of every step go to build/times.txt. The
# tests' last line is "N passed, N failed, N skipped".

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

goal=${1:?which goal? see the header of make.sh}
mkdir -p "$BUILD"
[[ $goal == host ]] || : >"$BUILD/times.txt"
trap 'record "total.$goal" $SECONDS' EXIT

# kernel CONFIG: builds it, and sets what the test VM's scripts take from the
# environment, so that they see this tree's results also with KSRC=.
kernel()
{
	export CONFIG=$1
	KERNEL=$("$KUF_BIN/build.sh" | tail -n 1)
	export KERNEL TREE=$KUF_TREE BINS=$KUF_SELFTESTS/kvm
}

# as_ktap FILE NAME CMD...: a whole run as one result.
as_ktap()
{
	local file=$1 name=$2 result=ok
	shift 2
	"$@" || result='not ok'
	printf 'KTAP version 1\n1..1\n%s 1 %s\n' "$result" "$name" >"$file"
}

host_suites=(apply uapi accessors libkuf kuf protocol mce)
host_results=("${host_suites[@]/#/$BUILD/host-}")
host_results=("${host_results[@]/%/.ktap}")

host_tests()
{
	local started=$SECONDS name
	say "== host tests"
	for name in "${host_suites[@]}"; do
		# A failure counts in the end, by its KTAP; nothing else depends on it.
		"$REPO/tests/$name/run.sh" >"$BUILD/host-$name.ktap" || true
		grep -vE '^(ok|# ( |ok|Subtest|KTAP|1\.\.))' "$BUILD/host-$name.ktap" >&2 || true
	done
	record host-tests $((SECONDS - started))
}

# What needs no boot, only compilers; each records its own time. Results count by
# their KTAP.
static_checks()
{
	local started=$SECONDS
	as_ktap "$BUILD/check.ktap" static-checks "$KUF_BIN/check.sh"
	record static-checks $((SECONDS - started))
	"$KUF_BIN/same-code.sh" "$BUILD/same-code.ktap" || true
	"$KUF_BIN/all-options.sh" "$BUILD/all-options.ktap" || true
	started=$SECONDS
	as_ktap "$BUILD/series.ktap" series-builds "$KUF_BIN/series.sh" --build
	record series $((SECONDS - started))
	more+=("$BUILD"/{check,same-code,all-options,series}.ktap)
}

case $goal in
run)
	kernel "$CONFIG"
	rc=0
	"$KUF_BIN/demo.sh" || rc=$?
	"$KUF_BIN/job.sh"
	exit "$rc"
	;;
bench)
	kernel "$CONFIG"
	"$KUF_BIN/bench.sh"
	;;
test)
	kernel "$CONFIG"
	rm -f "${host_results[@]}"
	BESIDE="$KUF_BIN/make.sh host" "$KUF_BIN/runtests.sh" quick "${host_results[@]}"
	;;
test-all)
	kernel debug
	ROUNDS=${ROUNDS:-300} host_tests
	started=$SECONDS
	for list in quick debug; do
		as_ktap "$BUILD/debug-$list.ktap" "debug-kernel.$list" "$KUF_BIN/runtests.sh" "$list"
	done
	record debug-tests $((SECONDS - started))
	kernel fast
	more=("${host_results[@]}" "$BUILD"/debug-{quick,debug}.ktap)
	static_checks
	if compgen -G "$REPO/tests/mutations/*.patch" >/dev/null; then
		started=$SECONDS
		# Its results count by its KTAP.
		"$KUF_BIN/mutations.sh" "$BUILD/mutations.ktap" || true
		record mutations $((SECONDS - started))
		more+=("$BUILD/mutations.ktap")
	fi
	"$KUF_BIN/runtests.sh" all "${more[@]}"
	;;
host)
	host_tests
	;;
check)
	"$KUF_BIN/check.sh"
	;;
*) die "no goal $goal" ;;
esac
