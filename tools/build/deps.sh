#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The Debian packages that building, running, checking and drawing need.
#
# usage: tools/build/deps.sh [--list|--missing]
#
# As root, what is missing is installed; otherwise one line to paste is printed
# and the step fails. With nothing missing it only asks dpkg, no network.
#
#	--list		print the packages, install nothing
#	--missing	print those that are not installed, install nothing

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

packages=(
	# kernel and static selftests; libkuf, kuf
	build-essential libc6-dev make gcc binutils flex bison bc perl libelf-dev
	libssl-dev xz-utils gzip ccache rsync uuid-dev pkg-config libjansson-dev
	# fetching and applying
	git debian-archive-keyring ca-certificates util-linux
	# the test VM; the ROM package is no dependency everywhere
	qemu-system-x86 ipxe-qemu cpio
	# make check, plots; the model of the migration protocol
	sparse shellcheck python3 python3-sphinx gnuplot-nox mandoc spin
)

if [[ ${1:-} == --list ]]; then
	printf '%s\n' "${packages[@]}"
	exit 0
fi

{ command -v dpkg-query && command -v apt-get; } >/dev/null ||
	die "this is no Debian system (no dpkg-query, apt-get); install the equivalents of: ${packages[*]}"

missing()
{
	# Held packages ("hi") count as installed; removed ones ("rc") do not.
	dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 2>/dev/null |
		awk -v want="${packages[*]}" '
			substr($1, 2, 1) == "i" { have[$2] = 1 }
			END {
				n = split(want, w, " ")
				for (i = 1; i <= n; i++)
					if (!(w[i] in have))
						print w[i]
			}'
}

mapfile -t lacking < <(missing)
if [[ ${1:-} == --missing ]]; then
	((${#lacking[@]})) && printf '%s\n' "${lacking[@]}"
	exit 0
fi
((${#lacking[@]})) || exit 0

line="apt-get update && apt-get install -y --no-install-recommends ${lacking[*]}"
if ((EUID != 0)); then
	say "packages are missing; as root, run:"
	say "    $line"
	die "not root, so they were not installed: ${lacking[*]}"
fi

export DEBIAN_FRONTEND=noninteractive
log=$BUILD/deps.log
install()
{
	run_log "$log" apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${lacking[@]}"
}
# The lists of a fresh machine or image are empty, or older than the mirror.
if ! apt-cache show "${lacking[@]}" >/dev/null 2>&1; then
	run_log "$BUILD/deps-update.log" apt-get update || die "apt-get update failed; network?"
	install || die "could not install: ${lacking[*]}"
else
	install || {
		say "once more with new lists"
		{ run_log "$BUILD/deps-update.log" apt-get update && install; } ||
			die "could not install: ${lacking[*]}"
	}
fi
mapfile -t lacking < <(missing)
((${#lacking[@]} == 0)) || die "still missing after installing: ${lacking[*]}"
