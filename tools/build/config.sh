#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Writes the kernel's .config: nothing but what configs/ asks for (allnoconfig),
# and all of that. An option that did not stick is an error: a test that skips
# because of it would look like a kernel that has nothing to hide.
#
# usage: tools/build/config.sh [K [CONFIG]]
#
# Environment, beside lib.sh's:
#	FRAGMENTS	more fragments, files; with a VARIANT, to be built apart
#
# Fragments: configs/base.config; configs/debug.config with CONFIG=debug, a line
# there overrides one before; configs/userfault.config; FRAGMENTS.
# Does nothing when neither they nor the tree's Kconfig files have changed.

K=${1:-${K:-7.3}}
CONFIG=${2:-${CONFIG:-fast}}
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tree=$KUF_TREE
out=$KUF_OUT
[[ -n $(kernel_version "$tree") ]] || die "no kernel tree in $tree; fix: make tree"
need make
need gcc
need flex
need bison
lock "tree-$TREE_NAME"
scratch

fragments=("$KUF_BIN/configs/base.config")
[[ $CONFIG != debug ]] || fragments+=("$KUF_BIN/configs/debug.config")
! grep -qs HAVE_KVM_USERFAULT "$tree/arch/x86/kvm/Kconfig" ||
	fragments+=("$KUF_BIN/configs/userfault.config")
[[ -z ${FRAGMENTS:-} || -n $VARIANT ]] || die "FRAGMENTS need a VARIANT=name, to be built apart"
read -ra more <<<"${FRAGMENTS:-}"
for fragment in "${more[@]}"; do
	[[ -f $fragment ]] || die "FRAGMENTS: $fragment does not exist"
	fragments+=("$fragment")
done

# One line "NAME VALUE" an option, the last fragment's word counts.
awk '
	/^CONFIG_[A-Za-z0-9_]+=./ {
		at = index($0, "=")
		name = substr($0, 8, at - 8)
		value = substr($0, at + 1)
	}
	/^# CONFIG_[A-Za-z0-9_]+ is not set$/ { name = substr($2, 8); value = "n" }
	name != "" {
		if ((FILENAME, name) in seen) {
			print FILENAME ": CONFIG_" name " is there twice" > "/dev/stderr"
			exit 1
		}
		seen[FILENAME, name] = 1
		if (!(name in want))
			order[++n] = name
		want[name] = value
		name = ""
		next
	}
	!/^(#.*)?$/ { print FILENAME ": not an option: " $0 > "/dev/stderr"; exit 1 }
	END { for (i = 1; i <= n; i++) print order[i], want[order[i]] }
' "${fragments[@]}" >"$KUF_TMP/wanted" || die "a fragment is malformed"
awk '{ name = $1; sub(/^[^ ]* /, ""); print "CONFIG_" name "=" $0 }' "$KUF_TMP/wanted" >"$KUF_TMP/all.config"

stamp=$({
	cat "$KUF_TMP/all.config" "${BASH_SOURCE[0]}"
	gcc --version
	find "$tree" -name 'Kconfig*' -printf '%P %s %T@\n' | sort
} | sha256sum | cut -d' ' -f1)
now=$(sha256sum 2>/dev/null <"$out/.config" | cut -d' ' -f1) || true
if [[ -f $out/.config && $(cat "$out/.kuf-config" 2>/dev/null) == "$stamp $now" ]]; then
	say "$out/.config: unchanged, $(wc -l <"$KUF_TMP/wanted") options as wanted"
	exit 0
fi

mkdir -p "$out"
# Into a file of its own: an untouched .config keeps make from looking around.
# What the fragments do not name has the default of Kconfig, except for what
# tinyconfig takes away: an all-no configuration is a third smaller, but a kernel
# that nobody runs, on which some stock selftests fail.
kconfig()
{
	run_log "$BUILD/config-$TREE_NAME-$CONFIG.log" "${KMAKE[@]}" \
		KCONFIG_CONFIG="$KUF_TMP/config" "$1" ||
		die "the kernel's configuration step failed: make $1"
}
kconfig tinyconfig
cat "$KUF_TMP/all.config" >>"$KUF_TMP/config"
kconfig olddefconfig

# Does a name exist at all? "n" sticks for any misspelt one.
grep -rhoE --include='Kconfig*' '^[[:space:]]*(menu)?config[[:space:]]+[A-Za-z0-9_]+' "$tree" |
	awk '{ print $2 }' | sort -u >"$KUF_TMP/names"
awk -v config="CONFIG=$CONFIG" '
	FILENAME ~ /names$/ { name[$1] = 1; next }
	FILENAME ~ /config$/ {
		if ($0 ~ /^CONFIG_/) {
			at = index($0, "=")
			have[substr($0, 8, at - 8)] = substr($0, at + 1)
		}
		next
	}
	{
		option = $1
		sub(/^[^ ]* /, "")
		is = (option in have) ? have[option] : "n"
		if (!(option in name)) {
			print "CONFIG_" option "=" $0 " is wanted, but no Kconfig file knows that option"
			bad = 1
		} else if (is != $0) {
			print "CONFIG_" option "=" $0 " is wanted, but it is " is \
				" (a dependency is missing, or something selects it)"
			bad = 1
		}
	}
	END { exit bad }' "$KUF_TMP/names" "$KUF_TMP/config" "$KUF_TMP/wanted" >"$KUF_TMP/bad" || {
	cat "$KUF_TMP/bad" >&2
	die "$(wc -l <"$KUF_TMP/bad") options of ${fragments[*]##*/} did not stick"
}

if ! cmp -s "$KUF_TMP/config" "$out/.config"; then
	cp "$KUF_TMP/config" "$out/.config"
fi
echo "$stamp $(sha256sum <"$out/.config" | cut -d' ' -f1)" >"$out/.kuf-config"
say "$out/.config: all $(wc -l <"$KUF_TMP/wanted") options as wanted, $(grep -c '=y$' "$out/.config") set in all"
