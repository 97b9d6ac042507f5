#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Gets the kernel source: Debian's package linux-source-K in its newest point
# release, by apt with a state of our own, so that the machine's package
# sources stay as they are. What apt does not verify with Debian's archive keys
# is not used. The tree is unpacked once and never edited.
#
# usage: tools/build/fetch.sh [K]
#
# Environment, beside lib.sh's:
#	KSRC	use this tree instead (never edited either)
#	FETCH	1: look for a newer point release now, not once a day; 0: never
#	MIRROR	Debian mirror (http://deb.debian.org/debian)
# stdout: the tree's path, as the last line.

[[ $# == 0 ]] || K=$1
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [[ -n $KSRC ]]; then
	[[ -d $KSRC ]] || die "KSRC=$KSRC is not a directory"
	KSRC=$(cd "$KSRC" && pwd -P)
	version=$(kernel_version "$KSRC")
	[[ -n $version && -f $KSRC/virt/kvm/kvm_main.c ]] ||
		die "KSRC=$KSRC is no kernel source tree"
	say "using KSRC=$KSRC, Linux $version; it is only read"
	echo "$KSRC"
	exit 0
fi

[[ $K =~ ^[0-9]+\.[0-9]+$ ]] || die "K=$K is no kernel series; write it as K=7.3"
need apt-get apt
need dpkg-deb dpkg
need xz xz-utils
mirror=${MIRROR:-http://deb.debian.org/debian}
package=linux-source-$K
src=$KUF_CACHE/src
deb=$KUF_CACHE/deb
apt=$KUF_CACHE/apt
lock fetch
scratch

# newest: the newest unpacked tree of this series.
newest()
{
	[[ -d $src ]] || return 0
	find "$src" -mindepth 1 -maxdepth 1 -type d -name "$K.*" -printf '%f\n' | sort -V | tail -n 1
}

# offline MESSAGE: go on with what is unpacked, or stop.
offline()
{
	[[ -n $have ]] || die "$1"
	say "$1; going on with $have, which is unpacked"
	echo "$src/$have"
	exit 0
}

have=$(newest)
if [[ ${FETCH:-} == 0 && -n $have ]]; then
	echo "$src/$have"
	exit 0
fi

keyring=
for f in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
	[[ -r $f ]] && { keyring=$f; break; }
done
[[ -n $keyring ]] ||
	offline "Debian's archive keys are missing; fix: install debian-archive-keyring"

# Where Debian has which series. An unknown one is looked for everywhere, so
# that the error can tell what there is.
case $K in
7.3) suites="trixie-backports" ;;
7.2) suites="trixie-backports forky sid" ;;
6.12) suites="trixie trixie-security bookworm-security" ;;
*) suites="trixie trixie-security trixie-backports forky sid bookworm-security" ;;
esac

mkdir -p "$src" "$deb" "$apt/etc" "$apt/state/lists/partial" "$apt/cache/archives/partial"
conf=$apt/etc/apt-$K.conf
list=$apt/etc/sources-$K.list
for suite in $suites; do
	case $suite in
	*-security) echo "deb [signed-by=$keyring] ${mirror%/debian}/debian-security $suite main" ;;
	*) echo "deb [signed-by=$keyring] $mirror $suite main" ;;
	esac
done >"$KUF_TMP/list"
{
	# How this machine reaches the network is all that counts of its settings.
	apt-config dump | grep -iE '^Acquire::(https?|Retries|ForceIPv[46])(::| )' || true
	cat <<-END
		Dir::Etc::main "/dev/null";
		Dir::Etc::parts "/dev/null";
		Dir::Etc::sourcelist "$list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::Etc::preferences "/dev/null";
		Dir::Etc::preferencesparts "/dev/null";
		Dir::State "$apt/state";
		Dir::State::status "/dev/null";
		Dir::Cache "$apt/cache";
		Dir::Log "$apt/state";
		APT::Architecture "amd64";
		APT::Architectures "amd64";
		APT::Get::List-Cleanup "false";
		APT::Get::AllowUnauthenticated "false";
		APT::Sandbox::User "root";
		APT::Update::Error-Mode "any";
		Acquire::AllowInsecureRepositories "false";
		Acquire::AllowWeakRepositories "false";
		Acquire::AllowDowngradeToInsecureRepositories "false";
		Acquire::Languages "none";
		Acquire::http::Timeout "20";
	END
} >"$KUF_TMP/conf"
# The list's date tells when it has changed since the last update.
cmp -s "$KUF_TMP/list" "$list" || cp "$KUF_TMP/list" "$list"
cp "$KUF_TMP/conf" "$conf"
# Read first, so it also keeps apt from reading the machine's own settings.
export APT_CONFIG=$conf

# space KB WHAT
space()
{
	local free
	free=$(df -Pk "$KUF_CACHE" | awk 'NR == 2 { print $4 }')
	((free >= $1)) ||
		die "not enough disk space to $2: $(($1 / 1024)) MB needed below $KUF_CACHE, $((free / 1024)) MB free; fix: make room, or set KUF_CACHE"
}

# What is wrong with the lists, if something is. Those that apt did verify, now
# or earlier, may still have what we want.
problem=
stamp=$apt/updated-$K
if [[ ${FETCH:-} == 1 || ! -e $stamp || -n $(find "$stamp" -mmin +1440) || $list -nt $stamp ]]; then
	[[ -n $have ]] || space 150000 "read the package lists"
	log=$apt/update.log
	if KUF_TAIL=0 run_log "$log" env APT_CONFIG="$conf" apt-get update; then
		touch "$stamp"
	elif grep -qE 'NO_PUBKEY|EXPKEYSIG|not signed|Missing key' "$log"; then
		problem="$keyring does not verify $suites; fix: a newer debian-archive-keyring"
	elif grep -q 'is expired' "$log"; then
		problem="expired lists of $(grep -oE 'dists/[a-z-]+/InRelease is expired' "$log" | cut -d/ -f2 | paste -sd ' ') (wrong clock here, or an old mirror)"
	elif grep -q 'No space left' "$log"; then
		problem="no space left for the package lists below $KUF_CACHE"
	else
		problem="no package lists from $mirror (no network? log: $log)"
	fi
fi

version=$({ apt-cache show "$package" 2>/dev/null || true; } | awk '$1 == "Version:" { print $2 }' | sort -V | tail -n 1)
if [[ -z $version ]]; then
	there=$(apt-cache pkgnames linux-source- | sed -n 's/^linux-source-\([0-9]\)/\1/p' | sort -V | paste -sd ' ')
	[[ -n $there ]] || offline "$problem"
	offline "no $package in Debian's $suites; there is: $there${problem:+ ($problem)}; fix: another K=, or KSRC=/path/to/linux"
fi
[[ -z $problem ]] || say "$problem; going on with the lists that were verified"

tree=$src/$version
if [[ -d $tree ]]; then
	echo "$tree"
	exit 0
fi

# sum FILE: is it the file that the signed index names?
wanted=$(apt-cache show "$package=$version" | awk '$1 == "SHA256:" { print $2; exit }')
sum()
{
	[[ -f $1 && -n $wanted ]] && sha256sum "$1" | grep -q "^$wanted "
}

file=$deb/${package}_${version//:/%3a}_all.deb
if ! sum "$file"; then
	rm -f "$file"
	space 2600000 "download and unpack the source"
	say "downloading $package $version (about 170 MB)"
	KUF_TAIL=0 run_log "$apt/download.log" env -C "$KUF_TMP" APT_CONFIG="$conf" apt-get download "$package=$version" ||
		offline "download of $package $version failed (log: $apt/download.log)"
	sum "$KUF_TMP"/*.deb ||
		die "the downloaded $package is not what the signed index names"
	mv "$KUF_TMP"/*.deb "$file.part"
	mv "$file.part" "$file"
fi

space 2300000 "unpack the source"
part=$src/.part
rm -rf "$part"
mkdir "$part"
say "+ dpkg-deb --fsys-tarfile $file | tar -xO ./usr/src/$package.tar.xz | tar -xJ -C $part --strip-components=1"
if ! dpkg-deb --fsys-tarfile "$file" | tar -xO "./usr/src/$package.tar.xz" |
	xz -dT0 | tar -x -C "$part" --strip-components=1; then
	rm -rf "$part"
	die "$file did not unpack (disk full? df -h $KUF_CACHE)"
fi
[[ -n $(kernel_version "$part") ]] || die "$file holds no kernel source"
mv "$part" "$tree"
for f in "$src/$K".*; do
	[[ $f == "$tree" || ! -d $f ]] || say "older source, may be deleted: rm -rf '$f'"
done
echo "$tree"
