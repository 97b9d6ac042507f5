#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The uapi header as a VMM would use it: beside the distribution's <linux/kvm.h>,
# which knows nothing of it, for 64-bit and 32-bit processes, in C and C++. Prints
# KTAP on stdout. Exit status: 0 if none failed.
#
# usage: tests/uapi/run.sh

# Functions are called through try.
# shellcheck disable=SC2317
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../ktap.sh
. "$here/../ktap.sh"
include=$here/../../include/uapi
# No C library for 32 bits is needed to look at types, only the kernel's headers.
flags=(-fsyntax-only -Wall -Wextra -Werror -isystem "/usr/include/$(gcc -print-multiarch)" -I "$include")

compiles()
{
	"$@" "${flags[@]}" "$here/layout.c"
}

# A wrong size has to be seen, or all of this proves nothing.
notices()
{
	local said
	if said=$(sed 's/SIZE(kvm_userfault_fd, 32)/SIZE(kvm_userfault_fd, 28)/' "$here/layout.c" |
		gcc -m32 "${flags[@]}" -x c - 2>&1); then
		echo "a wrong size was not noticed"
		return 1
	fi
	# It must not be for another reason.
	echo "$said"
	grep -q kvm_userfault_fd <<<"$said"
}

begin uapi 5
try c64 compiles gcc -m64
try c32 compiles gcc -m32
try gnu89 compiles gcc -m64 -std=gnu89
try cxx compiles g++ -x c++ -std=c++11
try control notices
end
