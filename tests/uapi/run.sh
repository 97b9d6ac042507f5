#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The uapi header as a VMM would use it: beside the distribution's <linux/kvm.h>,
# which knows nothing of it, for 64-bit and 32-bit processes, in C and C++. Prints
# KTAP on stdout. Exit status: 0 if none failed.
#
# usage: tests/uapi/run.sh

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
include=$here/../../include/uapi
# No C library for 32 bits is needed to look at types, only the kernel's headers.
flags=(-fsyntax-only -Wall -Wextra -Werror -isystem "/usr/include/$(gcc -print-multiarch)" -I "$include")

n=0 failed=0
try()
{
	local name=$1 rc=0 said
	shift
	n=$((n + 1))
	said=$("$@" "${flags[@]}" "$here/layout.c" 2>&1) || rc=$?
	if ((rc == 0)); then
		echo "ok $n uapi.$name"
	else
		echo "not ok $n uapi.$name"
		awk '{ print "# " $0 }' <<<"$said"
		failed=$((failed + 1))
	fi
}

# A wrong size has to be seen, or all of this proves nothing.
notices()
{
	local said
	n=$((n + 1))
	if said=$(sed 's/SIZE(kvm_userfault_fd, 32)/SIZE(kvm_userfault_fd, 28)/' "$here/layout.c" |
		gcc -m32 "${flags[@]}" -x c - 2>&1); then
		echo "not ok $n uapi.control # a wrong size was not noticed"
		failed=$((failed + 1))
	elif ! grep -q kvm_userfault_fd <<<"$said"; then
		echo "not ok $n uapi.control # failed for another reason"
		failed=$((failed + 1))
	else
		echo "ok $n uapi.control"
	fi
}

echo "KTAP version 1"
echo "1..5"
try c64 gcc -m64
try c32 gcc -m32
try gnu89 gcc -m64 -std=gnu89
try cxx g++ -x c++ -std=c++11
notices
exit $((failed > 0))
