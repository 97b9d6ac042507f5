#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Compiles KVM in the configurations that are never booted here, all with -Werror
# for KVM: every part of it, built in and as modules, with KVM Userfault and
# without; and for a 32-bit host.
#
# usage: tools/build/all-options.sh KTAP-FILE [NAME...]
#
# NAME: builtin builtin-off modules-off modules i386 control; all unless given.
#
# Modules are built up to modpost, which says what symbols each of them has from
# elsewhere. There is no vmlinux here, so it cannot know whether that exports
# them; instead
#
#	- what kvm.ko defines and kvm-amd.ko or kvm-intel.ko use must be exported
#	  (EXPORT_SYMBOL_FOR_KVM_INTERNAL), or loading a vendor module fails;
#	- what is used of the kernel proper must be exported by some source line, if
#	  the modules of the pristine source do not use it as well.
#
# The control takes one export of kvm.ko away, and calls one function of the
# kernel that is not exported: both must be found.
#
# Environment: lib.sh's. Logs: build/all-options/.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ktap=${1:?where to write the results? usage: all-options.sh KTAP-FILE [NAME...]}
shift
names=("$@")
((${#names[@]})) || names=(builtin builtin-off modules-off modules i386 control)
out=$BUILD/all-options
configs=$KUF_BIN/configs
# What an earlier run has left must not pass for this one's.
rm -f "$ktap"
lock "tree-$TREE_NAME"
scratch
need nm binutils
mkdir -p "$out"
rm -f "$out"/*.log
echo "CONFIG_KVM_USERFAULT=n" >"$KUF_TMP/off.config"
why=

# build NAME FRAGMENTS TARGET...: in the VARIANT options-NAME; sets dir.
build()
{
	local name=$1 log=$out/$1.log
	export VARIANT=options-$name FRAGMENTS=$2
	shift 2
	dir=$KUF_CACHE/build/$TREE_NAME-$CONFIG-$VARIANT
	"$KUF_BIN/tree.sh" >/dev/null 2>"$log" ||
		{ why="the tree cannot be made: $(tail -n 1 "$log")"; return 1; }
	"$KUF_BIN/config.sh" 2>>"$log" ||
		{ why="not configured: $(tail -n 2 "$log" | head -n 1)"; return 1; }
	KBUILD_MODPOST_WARN=1 "$KUF_BIN/kernel.sh" "$K" "$CONFIG" "$@" 2>>"$log" || {
		why=$(grep -m 1 -E 'error:|undefined|Error [0-9]' "$log" || true)
		why="does not build, see $log: $why"
		return 1
	}
	make_log=$BUILD/kernel-$TREE_NAME-$CONFIG-$VARIANT.log
	if grep -E -A 3 'warning: ' "$make_log" | grep -v modpost | grep -q userfault; then
		why="warnings, see $make_log"
		return 1
	fi
}

# compiled yes|no: is userfault.o where it should be?
compiled()
{
	local have=no
	[[ ! -f $dir/virt/kvm/userfault.o ]] || have=yes
	[[ $have == "$1" ]] && return
	why="virt/kvm/userfault.o was compiled: $have, not $1"
	return 1
}

# What the source exports, as far as reading tells.
list_exports()
{
	[[ ! -f $KUF_TMP/exports ]] || return 0
	grep -rhoE --include='*.[chS]' --exclude-dir={tools,Documentation,sound} \
		'\<EXPORT_[A-Z_]+\([[:space:]]*\w+' "$KUF_TREE" |
		sed 's/.*([[:space:]]*//' | sort -u >"$KUF_TMP/exports"
}

# linked KEEP: will the three modules load? Leaves in KEEP what they have from
# elsewhere.
linked()
{
	local kvm=$dir/arch/x86/kvm module missing
	for module in kvm kvm-amd kvm-intel; do
		[[ -f $kvm/$module.ko ]] || { why="no $module.ko"; return 1; }
	done
	nm --defined-only "$kvm/kvm.ko" | sed -n 's/.* __ksymtab_//p' | sort -u >"$KUF_TMP/ksymtab"
	nm --defined-only -g "$kvm/kvm.o" | awk '{ print $3 }' | sort -u >"$KUF_TMP/defined"
	nm -u "$kvm/kvm-amd.o" "$kvm/kvm-intel.o" | awk '$1 == "U" { print $2 }' | sort -u >"$KUF_TMP/vendor"
	missing=$(comm -12 "$KUF_TMP/vendor" "$KUF_TMP/defined" | comm -23 - "$KUF_TMP/ksymtab")
	if [[ -n $missing ]]; then
		why="a vendor module uses what kvm.ko does not export: ${missing//$'\n'/ }"
		return 1
	fi
	# The vendor modules use a lot of kvm.ko: is this looking at anything?
	(($(comm -12 "$KUF_TMP/vendor" "$KUF_TMP/ksymtab" | wc -l) > 100)) ||
		{ why="found hardly any export of kvm.ko"; return 1; }
	{
		nm -u "$kvm/kvm.o" | awk '$1 == "U" { print $2 }'
		comm -23 "$KUF_TMP/vendor" "$KUF_TMP/defined"
	} | sort -u >"$1"
}

# known FILE: is all of FILE exported, as far as modules-off does not use it too?
known()
{
	local missing
	[[ -s $out/modules-off.symbols ]] ||
		{ why="there is nothing to compare with, run modules-off as well"; return 1; }
	list_exports
	missing=$(comm -23 "$1" "$out/modules-off.symbols" | comm -23 - "$KUF_TMP/exports")
	[[ -z $missing ]] && return
	why="the kernel does not export ${missing//$'\n'/ }"
	return 1
}

all="$configs/all-kvm.config"
# As in tests/controls/all-options.patch.
lost_export=kvm_vcpu_wake_up
not_exported=task_exec_state_set_dumpable
objects=(arch/x86/kvm/ virt/lib/)
kos=(arch/x86/kvm/kvm.ko arch/x86/kvm/kvm-amd.ko arch/x86/kvm/kvm-intel.ko)

try()
{
	case $1 in
	builtin)
		build builtin "$all" "${objects[@]}" && compiled yes
		;;
	builtin-off)
		build builtin-off "$all $KUF_TMP/off.config" "${objects[@]}" && compiled no
		;;
	modules-off)
		build modules-off "$all $configs/kvm-modules.config $KUF_TMP/off.config" "${kos[@]}" &&
			compiled no && linked "$out/modules-off.symbols"
		;;
	modules)
		build modules "$all $configs/kvm-modules.config" "${kos[@]}" &&
			compiled yes && linked "$out/modules.symbols" && known "$out/modules.symbols"
		;;
	i386)
		build i386 "$configs/i386.config" "${objects[@]}" && compiled no
		;;
	control)
		EXTRA_PATCHES=$REPO/tests/controls/all-options.patch \
			build modules "$all $configs/kvm-modules.config" "${kos[@]}" || return
		if linked "$KUF_TMP/symbols" || [[ $why != *"$lost_export"* ]]; then
			why="the missing export was not seen ($why)"
			return 1
		fi
		nm -u "$dir/arch/x86/kvm/kvm.o" | awk '{ print $2 }' | sort -u >"$KUF_TMP/symbols"
		if known "$KUF_TMP/symbols" || [[ $why != *"$not_exported"* ]]; then
			why="the call of what is not exported was not seen ($why)"
			return 1
		fi
		why=
		;;
	*)
		die "there is no '$1'; see the header of all-options.sh"
		;;
	esac
}

nr=0
for name in "${names[@]}"; do
	say "== $name"
	started=$SECONDS
	why=
	word=ok
	try "$name" || word='not ok'
	nr=$((nr + 1))
	printf '%s %d options.%s # %s%d s\n' "$word" "$nr" "$name" "${why:+$why; }" $((SECONDS - started))
done | tee "$KUF_TMP/results"

# Leaves the tree as it should be.
VARIANT='' FRAGMENTS='' "$KUF_BIN/tree.sh" >/dev/null
{ printf 'KTAP version 1\n1..%d\n' "${#names[@]}"; cat "$KUF_TMP/results"; } >"$ktap"
record all-options "$SECONDS"
! grep -q '^not ok' "$ktap"
