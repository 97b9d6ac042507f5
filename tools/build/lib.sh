# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What every build step shares: paths, messages, locks. Sourced, never run:
#
#	. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#
# Environment: KUF_CACHE (cache directory), K (kernel series, 7.3), CONFIG
# (fast or debug), NPT (1 or 0), KSRC (own kernel source), V=1 (full output on
# the terminal instead of in logs only), TREE_NAME (another name for the
# applied tree and all that is built from it), VARIANT (another name for the
# kernel built from that tree: see tree.sh).
#
# stdout is for results that another step reads; everything said goes to stderr.

set -euo pipefail
# Messages of tools are matched in places; file order must not vary either.
export LC_ALL=C
# Our make's variables and job server are not for the kernel's make, and neither
# is what a developer has set for other kernels.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES KBUILD_OUTPUT CROSS_COMPILE LLVM ARCH KCFLAGS

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
KUF_CACHE=${KUF_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/kvm-userfault}
K=${K:-7.3}
CONFIG=${CONFIG:-fast}
NPT=${NPT:-1}
KSRC=${KSRC:-}
V=${V:-0}
# An own source never shares objects with Debian's: see tree.sh.
TREE_NAME=${TREE_NAME:-$K${KSRC:+-ksrc}}
VARIANT=${VARIANT:-}
export KUF_CACHE K CONFIG NPT KSRC V TREE_NAME VARIANT

# shellcheck disable=SC2034	# read by the scripts that source this
{
# Results of this checkout; the cache is shared by all checkouts.
BUILD=$REPO/build
KUF_BIN=$REPO/tools/build
KUF_HOOKS=${HOOKS:-$REPO/hooks/$K}
KUF_MANIFEST=${MANIFEST:-$REPO/overlay.manifest}
# The applied tree, the objects built from it, and its KVM selftests.
KUF_TREE=$KUF_CACHE/tree/$TREE_NAME
KUF_OUT=$KUF_CACHE/build/$TREE_NAME-$CONFIG${VARIANT:+-$VARIANT}
KUF_SELFTESTS=$KUF_CACHE/build/selftests-$TREE_NAME
}

say()
{
	printf '%s\n' "$*" >&2
}

die()
{
	printf '%s: error: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# A command line that can be pasted into a shell as it stands: words are quoted
# where they must be, of VAR=value only the value.
show()
{
	local w out=
	for w in "$@"; do
		if [[ -z $w || $w == *[!A-Za-z0-9_@%+=:,./~^-]* || $w == '~'* ]]; then
			if [[ $w =~ ^([A-Za-z_-]+=)(.*)$ ]]; then
				w="${BASH_REMATCH[1]}'${BASH_REMATCH[2]//\'/\'\\\'\'}'"
			else
				w="'${w//\'/\'\\\'\'}'"
			fi
		fi
		out+=" $w"
	done
	say "+$out"
}

# run CMD...: print the command, then run it.
run()
{
	show "$@"
	"$@"
}

# run_log LOG CMD...: as run, output into LOG (also to the terminal with V=1).
# On failure the end of the log is shown and its path named (not with KUF_TAIL=0,
# where the caller says what is wrong); the command's status is returned.
run_log()
{
	local log=$1 rc=0
	shift
	mkdir -p "$(dirname "$log")"
	show "$@"
	if [[ $V == 1 ]]; then
		"$@" 2>&1 | tee "$log" >&2 || rc=$?
	else
		"$@" >"$log" 2>&1 || rc=$?
		if ((rc)); then
			tail -n "${KUF_TAIL:-25}" "$log" >&2
		fi
	fi
	if ((rc)) && [[ ${KUF_TAIL:-} != 0 ]]; then
		say "$(basename "$0"): '$1' failed with status $rc, full log: $log"
	fi
	return "$rc"
}

# need PROGRAM [PACKAGE]: stop early, with the fix, when a program is missing.
need()
{
	command -v "$1" >/dev/null ||
		die "$1 is not installed; fix: make deps (package ${2:-$1})"
}

# lock NAME: from here to the end of the script no other run on this cache
# holds NAME. Child scripts that ask for the same lock get it at once.
lock()
{
	local fd
	case " ${KUF_HELD:-} " in
	*" $1 "*) return ;;
	esac
	mkdir -p "$KUF_CACHE/lock" 2>/dev/null ||
		die "cannot write to the cache $KUF_CACHE; fix: set KUF_CACHE to a directory of yours"
	exec {fd}>"$KUF_CACHE/lock/$1"
	if ! flock -n "$fd"; then
		say "waiting for another run that holds $KUF_CACHE/lock/$1"
		flock "$fd"
	fi
	export KUF_HELD="${KUF_HELD:-} $1"
}

# record NAME SECONDS: one line of build/times.txt.
record()
{
	mkdir -p "$BUILD"
	printf '%s %s\n' "$1" "$2" >>"$BUILD/times.txt"
}

# scratch: make KUF_TMP, a directory that is gone when this script ends. Not to
# be called in a subshell.
scratch()
{
	if [[ -z ${KUF_TMP:-} ]]; then
		KUF_TMP=$(cd "$(mktemp -d "${TMPDIR:-/tmp}/kuf.XXXXXX")" && pwd -P)
		trap 'rm -rf -- "$KUF_TMP"' EXIT
		trap 'exit 130' INT TERM HUP
	fi
}

# kernel_version TREE: 7.3.4, or nothing when TREE is no kernel source.
kernel_version()
{
	[[ -f $1/Makefile ]] || return 0
	awk -F ' *= *' '
		$1 == "VERSION" && !v { v = $2 }
		$1 == "PATCHLEVEL" && p == "" { p = $2 }
		$1 == "SUBLEVEL" && s == "" { s = $2 }
		$1 == "EXTRAVERSION" && !seen { e = $2; seen = 1 }
		NR > 20 { exit }
		END { if (v != "" && p != "") print v "." p "." s e }' "$1/Makefile"
}

case $CONFIG in
fast | debug) ;;
*) die "CONFIG=$CONFIG: there is 'fast' and 'debug'" ;;
esac

# make in the applied tree, with what decides about objects always the same:
# ccache and make both compare command lines.
# shellcheck disable=SC2034	# read by the scripts that source this
KMAKE=(make -C "$KUF_TREE" O="$KUF_OUT" ARCH=x86)
if command -v ccache >/dev/null; then
	KMAKE+=(CC="ccache gcc" HOSTCC="ccache gcc")
	export CCACHE_DIR=${CCACHE_DIR:-$KUF_CACHE/ccache}
	export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-5G}
fi
# The same kernel from the same source, whoever builds it and when.
export KBUILD_BUILD_TIMESTAMP='1970-01-01 00:00:00 UTC' KBUILD_BUILD_VERSION=1
export KBUILD_BUILD_USER=kuf KBUILD_BUILD_HOST=kuf
