#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests of the apply step: runs each case in this directory in a scratch
# directory of its own and prints KTAP on stdout.
#
# usage: tests/apply/run.sh [CASE...]
#
# A case passes with exit status 0, is skipped with 4 (its last line of output
# says why) and fails otherwise. Exit status here: 0 if none failed.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../ktap.sh
. "$here/../ktap.sh"
scratch=$(mktemp -d "${TMPDIR:-/tmp}/kuf-apply.XXXXXX")
trap 'rm -rf -- "$scratch"' EXIT
# Nothing that a caller set for the real thing may reach the cases.
unset HOOKS MANIFEST KSRC K TREE_NAME EXTRA_PATCHES BY_FUNCTION

cases=("$@")
if ((${#cases[@]} == 0)); then
	for f in "$here"/[a-z]*.sh; do
		case ${f##*/} in
		run.sh | mini.sh) ;;
		*) cases+=("$(basename "$f" .sh)") ;;
		esac
	done
fi

begin apply ${#cases[@]}
for c in "${cases[@]}"; do
	mkdir "$scratch/$c"
	rc=0
	T=$scratch/$c bash "$here/$c.sh" >"$scratch/$c.out" 2>&1 || rc=$?
	case $rc in
	0) result ok "$c" ;;
	4) result ok "$c" "SKIP $(tail -n 1 "$scratch/$c.out")" ;;
	*)
		sed 's/^/# /' "$scratch/$c.out"
		result "not ok" "$c"
		;;
	esac
done
end
