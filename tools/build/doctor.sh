#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Says whether "make run" will work on this machine, and what to do if not. Needs
# nothing installed, no root and changes nothing.
#
# usage: tools/build/doctor.sh
#
# Lines "ok", "note" and "problem" with its "fix". Exit status 0: no problem.
# What is missing but gets installed by make itself (as root) is a note.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

problems=0
ok()
{
	printf 'ok       %s\n' "$1"
}
note()
{
	printf 'note     %s\n' "$1"
}
problem()
{
	printf 'problem  %s\n         fix: %s\n' "$1" "$2"
	problems=$((problems + 1))
}

# The machine.
if [[ $(uname -s) == Linux && $(uname -m) == x86_64 ]]; then
	ok "Linux on x86_64, $(nproc) CPUs"
else
	problem "$(uname -s) on $(uname -m)" "a Linux machine (or VM) with an x86-64 CPU; it needs no virtualisation"
fi
memory=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
if ((memory >= 6000)); then
	ok "$memory MB of memory available"
else
	problem "only $memory MB of memory available, the test VM and the compilers want 6000" "end other programs, or use a larger machine"
fi

# The cache.
have_src=
if [[ -d $KUF_CACHE/src ]]; then
	have_src=$(find "$KUF_CACHE/src" -mindepth 1 -maxdepth 1 -name "$K.*" -printf '%f\n' | sort -V | tail -n 1)
fi
dir=$KUF_CACHE
while [[ ! -d $dir ]]; do
	dir=$(dirname "$dir")
done
if [[ $KUF_CACHE == *[[:space:]:]* ]]; then
	problem "the cache's path '$KUF_CACHE' has blanks or colons, a kernel cannot be built there" "export KUF_CACHE=/some/other/directory"
elif [[ ! -w $dir ]]; then
	problem "cannot write to $dir" "export KUF_CACHE=/a/directory/of/yours"
else
	# What is there already need not be stored again.
	want=12000
	[[ ! -f $KUF_OUT/arch/x86/boot/bzImage ]] || want=3000
	free=$(df -Pm "$dir" | awk 'NR == 2 { print $4 }')
	if ((free >= want)); then
		ok "$free MB free for the cache $KUF_CACHE"
	else
		problem "$free MB free at $dir, $want wanted" "make room, or export KUF_CACHE=/some/other/directory"
	fi
fi

if [[ ! -w $REPO || ( -e $BUILD && ! -w $BUILD ) ]]; then
	problem "cannot write to $BUILD, where results go" "a checkout of your own"
fi

# Programs.
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	problem "this is no Debian system, so make cannot install packages or fetch the source" "a Debian machine or container"
else
	missing=$("$KUF_BIN/deps.sh" --missing | paste -sd ' ')
	if [[ -z $missing ]]; then
		ok "all packages are installed ($(gcc -dumpfullversion 2>/dev/null | sed 's/^/gcc /'), $(ccache --version 2>/dev/null | sed -n '1s/ version//p'))"
	elif ((EUID == 0)); then
		note "make will install: $missing"
	else
		problem "packages are missing: $missing" "as root: apt-get update && apt-get install -y --no-install-recommends $missing"
	fi
fi

# Debian's keys, when the source is still to be fetched.
if [[ -z $KSRC ]]; then
	if compgen -G '/usr/share/keyrings/debian-archive-trixie-*' >/dev/null; then
		ok "Debian's archive keys, with those of trixie"
	elif [[ -n $have_src ]]; then
		note "Debian's keys of trixie are missing: no newer source than $have_src can be verified"
	elif compgen -G '/usr/share/keyrings/debian-archive-keyring.*' >/dev/null; then
		problem "Debian's keyring here is older than trixie, whose packages hold the source" "apt-get install debian-archive-keyring (2023.3+deb12u2 or newer), or KSRC=/path/to/linux"
	elif ((EUID == 0)); then
		note "make will install Debian's archive keys"
	else
		problem "Debian's archive keys are missing" "as root: apt-get install debian-archive-keyring"
	fi
fi

# The source.
reach()
{
	local url host port
	url=${http_proxy:-${MIRROR:-http://deb.debian.org/debian}}
	host=${url#*://}
	host=${host%%/*}
	host=${host##*@}
	port=80
	[[ $host != *:* ]] || { port=${host##*:}; host=${host%:*}; }
	timeout 5 bash -c ": </dev/tcp/$host/$port" 2>/dev/null || { echo "$host:$port"; return 1; }
}
if [[ -n $KSRC ]]; then
	version=$(kernel_version "$KSRC")
	if [[ -z $version ]]; then
		problem "KSRC=$KSRC is no kernel source tree" "KSRC=/path/to/linux, the directory with MAINTAINERS and Makefile"
	elif ! command -v git >/dev/null; then
		note "KSRC is Linux $version; whether the hooks apply is seen once git is installed"
	elif said=$("$KUF_BIN/apply.sh" "$KSRC" -K "$K" --check 2>&1); then
		ok "KSRC: ${said##*error: }"
	else
		problem "KSRC: ${said##*error: }" "a tree of the series $K, or another K="
	fi
elif [[ -n $have_src ]]; then
	ok "kernel source $have_src is unpacked"
elif where=$(reach); then
	ok "Debian's mirror answers; about 180 MB will be downloaded"
else
	problem "no connection to $where, and no kernel source in the cache" "network, http_proxy=, or KSRC=/path/to/linux"
fi
if [[ ! -d $REPO/hooks/$K ]]; then
	problem "there are no hooks for K=$K" "K=$(cd "$REPO/hooks" && printf '%s\n' */ | tr -d / | sort -V | tail -n 1)"
fi

# QEMU, and what the guest's KVM will run on.
if command -v qemu-system-x86_64 >/dev/null; then
	version=$(qemu-system-x86_64 --version | sed -n '1s/.*version \([^ ]*\).*/\1/p')
	# "enforce" fails when the emulation lacks a feature that is asked for.
	if echo quit | timeout 30 qemu-system-x86_64 -machine q35 -accel tcg -cpu max,+svm,+npt,enforce \
		-m 64 -nodefaults -display none -S -monitor stdio >/dev/null 2>&1; then
		ok "QEMU $version emulates AMD's virtualisation with nested paging"
	else
		problem "QEMU $version does not emulate SVM with nested paging" "Debian 12's qemu-system-x86 (7.2) or newer"
	fi
elif ((EUID == 0)); then
	note "QEMU is not installed yet; make will install it"
elif [[ " ${missing:-} " != *" qemu-system-x86 "* ]]; then
	problem "QEMU is not installed" "install qemu-system-x86_64"
fi
accel=$("$KUF_BIN/boot.sh" --probe)
case $accel in
kvm*) ok "real nested virtualisation will be used: $accel" ;;
*) ok "QEMU will emulate everything, slower but the same code: $accel" ;;
esac

# What it takes. Minutes for two CPUs, from README's table.
if [[ -f $KUF_OUT/arch/x86/boot/bzImage ]]; then
	ok "warm cache: building takes a minute or two"
elif [[ -d $KUF_CACHE/ccache/0 ]]; then
	ok "no kernel yet, but ccache has objects: building takes a few minutes"
else
	note "cold cache: the first build takes about $((20 / $(nproc) + 2)) minutes on $(nproc) CPUs"
fi

if ((problems)); then
	echo "$problems problems: make run will not work"
	exit 1
fi
echo "make run will work"
