#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The choice of the machine check that tells a guest of poison, as a table: the kernel's
# own file, compiled as a part of a process. Prints KTAP on stdout, one result a row.
# Exit status: 0 if none failed.
#
# usage: tests/mce/run.sh

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
repo=$here/../..
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
flags=(-std=gnu11 -O1 -g -Wall -Wextra -Werror -Wno-override-init
	-fsanitize=address -fsanitize=undefined -fno-sanitize-recover=all
	-include "$here/types.h" -I "$here" -I "$repo/arch/x86/kvm" -I "$repo/include/uapi")

if ! said=$(gcc "${flags[@]}" -o "$dir/mce_test" "$here/mce_test.c" \
	"$repo/arch/x86/kvm/userfault_mce.c" 2>&1); then
	echo "KTAP version 1"
	echo "1..1"
	awk '{ print "# " $0 }' <<<"$said"
	echo "not ok 1 mce.build"
	exit 1
fi
"$dir/mce_test"
