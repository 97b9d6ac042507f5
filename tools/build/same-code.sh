#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Shows that the hooks cost nothing when CONFIG_KVM_USERFAULT is off: every KVM
# object is then the same as without hooks and overlay.
#
# usage: tools/build/same-code.sh KTAP-FILE
#
# Both sides are built at the same tree path and in the same configuration (every
# part of KVM, configs/all-kvm.config), only KVM's objects, and without line
# numbers: -include line0.h makes __LINE__ 0 everywhere, or each hook line would
# move all that is below it in bug tables, might_sleep() and lockdep's messages.
# So nothing has to be left out of the comparison afterwards:
#
#	code	each function's instructions with their relocations, by name
#	data	each loaded section with its relocations: strings, constants,
#		tables of alternatives, jump labels, exceptions, bugs, statistics
#
# Of names only the numbers that the compiler counts up are ignored. References
# to what has no name are section + offset, so that what differs can make others
# differ that refer beyond it; the list then has more than the cause.
#
# A control (tests/controls/same-code.patch) changes one function and one number
# in the hooked tree: both must be found, and nothing in another object.
#
# Environment: lib.sh's. build/same-code/ gets the dumps of what differs.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ktap=${1:?where to write the results? usage: same-code.sh KTAP-FILE}
out=$BUILD/same-code
# What an earlier run has left must not pass for this one's.
rm -f "$ktap"
lock "tree-$TREE_NAME"
scratch
need objdump binutils
rm -rf "$out"
mkdir -p "$out"
echo "CONFIG_KVM_USERFAULT=n" >"$KUF_TMP/off.config"
nr=0
: >"$KUF_TMP/results"

# result WORD NAME TEXT
result()
{
	nr=$((nr + 1))
	printf '%s %d off.%s # %s\n' "$1" "$nr" "$2" "$3" | tee -a "$KUF_TMP/results"
}

# objects SIDE TARGET...: builds them, in the VARIANT same-SIDE.
objects()
{
	local side=$1
	shift
	export VARIANT=same-$side
	"$KUF_BIN/tree.sh" >/dev/null &&
		"$KUF_BIN/config.sh" &&
		"$KUF_BIN/kernel.sh" "$K" "$CONFIG" "KCFLAGS=-include $KUF_BIN/line0.h" "$@"
}

dir()
{
	printf '%s\n' "$KUF_CACHE/build/$TREE_NAME-$CONFIG-same-$1"
}

# list SIDE: the compiler's objects; not those that the linker makes of them.
list()
{
	(cd "$(dir "$1")" && find arch/x86/kvm virt -name '*.o' |
		grep -vE '/(kvm|kvm-amd|kvm-intel|kvm-asm-offsets)\.o$' | sort)
}

# dump OBJECT: as same-code.awk reads it.
dump()
{
	local sections data=() code=() name
	sections=$(objdump -hw "$1")
	while read -r name; do
		code+=("$name")
	done < <(awk '/ CODE/ && / ALLOC/ { print $2 }' <<<"$sections")
	while read -r name; do
		data+=(-j "$name")
	done < <(awk '!/ CODE/ && / ALLOC/ && / CONTENTS/ { print $2 }' <<<"$sections")
	{
		((${#code[@]} == 0)) || printf 'CODE %s\n' "${code[@]}"
		objdump -drw --no-addresses --no-show-raw-insn "$1"
		((${#data[@]} == 0)) || objdump -srw "${data[@]}" "$1"
		# Of what is zero only the size is there.
		awk '!/ CONTENTS/ && / ALLOC/ {
			print "Contents of section " $2 ":"; print "size " $3 }' <<<"$sections"
	} | sed -E 's/(__UNIQUE_ID_[A-Za-z_]*[A-Za-z_])[0-9]+/\1N/g
		s/(__initcall__kmod_[a-z_]+__)[0-9]+_[0-9]+/\1N/g
		s/(\<[A-Za-z_]+)\.[0-9]+\>/\1.N/g'
}

# compare A B OBJECT: prints what differs, "OBJECT: UNIT: HOW"; adds to functions
# and sections.
functions=0
sections=0
compare()
{
	local found f s
	dump "$(dir "$1")/$3" >"$KUF_TMP/a"
	dump "$(dir "$2")/$3" >"$KUF_TMP/b"
	found=$(awk -f "$KUF_BIN/same-code.awk" "$KUF_TMP/a" "$KUF_TMP/b")
	read -r f s <<<"${found##*= }"
	functions=$((functions + f))
	sections=$((sections + s))
	[[ $found != "= "* ]] || return 0
	cp "$KUF_TMP/a" "$out/$1:${3//\//%}"
	cp "$KUF_TMP/b" "$out/$2:${3//\//%}"
	grep -v '^= ' <<<"$found" | sed "s|^|${3##*/}: |"
}

# judge NAME KIND FILE HOW-MANY
judge()
{
	local n
	n=$(grep -c "^[^ ]*: $2 " "$3" || true)
	if ((n == 0 && $4 > 0)); then
		result ok "$1" "$4 compared, all the same"
	else
		grep "^[^ ]*: $2 " "$3" | cut -c1-300 | head -n 40 | sed 's/^/# /' | tee -a "$KUF_TMP/results"
		result "not ok" "$1" "$n of $4 differ, see $out"
	fi
}

export FRAGMENTS="$KUF_BIN/configs/all-kvm.config"
PRISTINE=1 objects pristine arch/x86/kvm/ virt/lib/ || die "the pristine objects do not build"
FRAGMENTS+=" $KUF_TMP/off.config"
objects hooked arch/x86/kvm/ virt/lib/ || die "the hooked objects do not build"
grep -q '^CONFIG_HAVE_KVM_USERFAULT=y' "$(dir hooked)/.config" ||
	die "the hooks are not in $(dir hooked)"

list pristine >"$KUF_TMP/before"
list hooked >"$KUF_TMP/after"
if differ=$(diff "$KUF_TMP/before" "$KUF_TMP/after") && grep -q '/mmu/mmu.o' "$KUF_TMP/after"; then
	result ok objects "$(wc -l <"$KUF_TMP/after") on both sides"
else
	result "not ok" objects "not the same: $(tr '\n' ' ' <<<"$differ")"
fi

say "+ objdump, of each object"
while IFS= read -r object; do
	compare pristine hooked "$object"
done < <(comm -12 "$KUF_TMP/before" "$KUF_TMP/after") >"$KUF_TMP/found"
judge code function "$KUF_TMP/found" "$functions"
judge data data "$KUF_TMP/found" "$sections"

# The control, made in the same directory, beside copies of what it is made from.
kept=arch/x86/kvm/mmu/mmu.o
changed=virt/kvm/kvm_main.o
for object in "$kept" "$changed"; do
	mkdir -p "$(dir control)/$(dirname "$object")"
	cp "$(dir hooked)/$object" "$(dir control)/$object"
done
EXTRA_PATCHES=$REPO/tests/controls/same-code.patch objects hooked arch/x86/kvm/ ||
	die "the control does not build"
for object in "$kept" "$changed"; do
	compare control hooked "$object"
done >"$KUF_TMP/control"
if grep -q '^kvm_main.o: function kvm_vcpu_wake_up: ' "$KUF_TMP/control" &&
	grep -q '^kvm_main.o: data in .data..read_mostly: ' "$KUF_TMP/control" &&
	! grep -q '^mmu.o: ' "$KUF_TMP/control"; then
	result ok control "found what tests/controls/same-code.patch changes"
else
	result "not ok" control "found $(tr '\n' ' ' <"$KUF_TMP/control" | cut -c1-500)"
fi

# Leaves the tree as it should be.
VARIANT='' FRAGMENTS='' "$KUF_BIN/tree.sh" >/dev/null
{ printf 'KTAP version 1\n1..%d\n' "$nr"; cat "$KUF_TMP/results"; } >"$ktap"
record same-code "$SECONDS"
! grep -q '^not ok' "$ktap"
