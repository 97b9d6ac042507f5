#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# libkuf on the host: its tests, plain and with sanitizers, and what it installs, as a
# program that is built against it sees it. Prints KTAP on stdout. Exit status: 0 if
# none failed.
#
# usage: tests/libkuf/run.sh

# Functions are called through try.
# shellcheck disable=SC2317
set -euo pipefail
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../ktap.sh
. "$here/../ktap.sh"
repo=$here/../..
lib=$repo/tools/lib/kuf
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
prefix=/opt/kuf
root=$out/root

make_lib()
{
	make -s -C "$lib" -j"$(nproc)" "$@"
}

# Each test program is a result of its own, its lines are diagnostics.
check()
{
	local name=$1 line rc=0
	shift
	make_lib "$@" check >"$out/$name.ktap" 2>"$out/$name.err" || rc=$?
	while IFS= read -r line; do
		case $line in
		ok\ * | not\ ok\ *) result "${line%% [0-9]*}" "$name.${line##* }" ;;
		KTAP\ * | 1..*) ;;
		*) printf '# %s\n' "${line#\# }" ;;
		esac
	done <"$out/$name.ktap"
	# It may have failed without a result that says so: it did not build.
	try "$name.complete" complete "$name" "$rc"
}

complete()
{
	local plan oks
	cat "$out/$1.err"
	plan=$(sed -n 's/^1\.\.//p' "$out/$1.ktap")
	oks=$(grep -cE '^(not )?ok ' "$out/$1.ktap" || true)
	echo "exit status $2, $oks of ${plan:-?} results"
	[[ -n $plan && $plan == "$oks" ]]
}

installs()
{
	make_lib O="$out/build" DESTDIR="$root" PREFIX="$prefix" install
}

exports_only_its_own()
{
	local name
	# Of the shared one all with a version, and nothing else in either.
	nm -D --defined-only "$root$prefix/lib/libkuf.so" | awk '$2 != "A" { print $3 }' |
		sort >"$out/shared"
	nm -g --defined-only "$root$prefix/lib/libkuf.a" | awk 'NF == 3 { print $3 "@@KUF_0.1" }' |
		sort >"$out/static"
	[[ $(wc -l <"$out/shared") -gt 30 ]] || return 1
	! grep -v '^kuf_.*@@KUF_0\.1$' "$out/shared" || return 1
	diff "$out/shared" "$out/static" || return 1
	# What the headers declare is what there is.
	sed 's/@.*//' "$out/shared" >"$out/names"
	while IFS= read -r name; do
		grep -qE "\\b$name\\(" "$root$prefix/include/kuf/"*.h || {
			echo "$name is in no header"
			return 1
		}
	done <"$out/names"
}

needs_nothing_but_libc()
{
	local needed
	needed=$(readelf -d "$root$prefix/lib/libkuf.so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
	echo "needs: $needed"
	[[ $needed == libc.so.6 ]] || return 1
	readelf -d "$root$prefix/lib/libkuf.so" | grep -q 'SONAME.*\[libkuf.so.0\]' || return 1
	# Nothing that prints, ends the process or makes threads.
	! nm -D --undefined-only "$root$prefix/lib/libkuf.so" |
		grep -E ' (printf|fprintf|puts|abort|_?exit|perror|signal|sigaction|pthread_)'
}

# program WAY FLAG...: builds the example with pkg-config alone, and runs it.
program()
{
	local way=$1 flags rc=0
	shift
	flags=$(PKG_CONFIG_PATH=$root$prefix/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root \
		pkg-config --cflags --libs "$@" kuf) || return 1
	read -ra flags <<<"$flags"
	gcc -Wall -Wextra -Werror ${1:+-static} -o "$out/$way" "$lib/example.c" "${flags[@]}" ||
		return 1
	LD_LIBRARY_PATH=$root$prefix/lib "$out/$way" >"$out/$way.out" 2>&1 || rc=$?
	cat "$out/$way.out"
	# No KVM here, or none with userfault, is no fault of the library's.
	((rc == 0 || rc == 4)) || return 1
	# It has to be this library that it was linked with, in that way.
	if [[ $way == shared ]]; then
		readelf -d "$out/$way" | grep -q libkuf.so.0
	elif readelf -d "$out/$way" | grep NEEDED; then
		return 1
	fi
}

compiles_as()
{
	local h
	for h in kuf source; do
		echo "#include <kuf/$h.h>" | "$@" -Wall -Wextra -Werror -fsyntax-only \
			-I"$root$prefix/include" - || return 1
	done
}

# What the README shows is what runs.
readme_has_the_example()
{
	# shellcheck disable=SC2016	# these are no commands
	sed -n '/^```c$/,/^```$/p' "$lib/README.md" | sed '1d;$d' | diff - "$lib/example.c" ||
		return 1
	(($(wc -l <"$lib/example.c") <= 150))
}

# Both builds: the programs, the control of one of them, and that none is missing.
programs=("$lib"/tests/test_*.c)
begin libkuf $((2 * (${#programs[@]} + 2) + $(grep -c '^try ' "${BASH_SOURCE[0]}")))
check plain O="$out/build"
check san O="$out/san" SAN=1
try install installs
try exports exports_only_its_own
try needs needs_nothing_but_libc
try program.shared program shared
try program.static program static --static
try header.c11 compiles_as gcc -x c -std=c11
try header.cxx compiles_as g++ -x c++ -std=c++11
try readme readme_has_the_example
end
