#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the KVM selftests, the kernel's own and ours, as static programs.
# Nothing is run, and nothing is rebuilt that did not change.
#
# usage: tools/build/selftests.sh
#
# Environment, beside lib.sh's:
#	TREE		kernel tree to build from ($KUF_CACHE/tree/$K)
#	SELFTESTS	where to build ($KUF_CACHE/build/selftests-$K)
# stdout: the directory with the programs, SELFTESTS/kvm.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

TREE=${TREE:-$KUF_TREE}
out=${SELFTESTS:-$KUF_SELFTESTS}
kvm=$TREE/tools/testing/selftests/kvm

[[ -f $kvm/Makefile ]] ||
	die "no kernel tree in $TREE; fix: make tree"
need gcc
need make
cc=gcc
if command -v ccache >/dev/null; then
	cc="ccache gcc"
	export CCACHE_DIR=${CCACHE_DIR:-$KUF_CACHE/ccache}
fi

lock "$(basename "$out")"
mkdir -p "$out/headers" "$out/kvm"
started=$SECONDS

# "headers" is headers_install without its copy, which would give every header
# a new date and so rebuild every test.
run_log "$out/headers.log" make -C "$TREE" O="$out/headers" ARCH=x86 -s \
	-j"$(nproc)" headers ||
	die "the kernel's user headers do not build"

# The kernel's own way, but static, since the test VM has no libraries. All
# warnings are kept in the log; those of our tests are looked at by make check.
run_log "$out/build.log" make -C "$kvm" ARCH=x86 OUTPUT="$out/kvm" -j"$(nproc)" \
	CC="$cc" INSTALL_HDR_PATH="$out/headers/usr" \
	KHDR_INCLUDES="-isystem $out/headers/usr/include" \
	LDFLAGS="-static -pthread" ||
	die "the KVM selftests do not build"

record selftests $((SECONDS - started))
printf '%s\n' "$out/kvm"
