#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Compares the functions of KVM that reach guest memory with the table of them in
# Documentation/virt/kvm/userfault-accesses.rst.
#
# usage: tools/build/accessors.sh TREE [TABLE]
#
# TREE: a kernel tree. stdout: one line a difference. Exit status 0 if there is none.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

tree=${1:?which kernel tree? see the header of accessors.sh}
table=${2:-$REPO/Documentation/virt/kvm/userfault-accesses.rst}
scratch

(
	cd "$tree"
	find virt/kvm arch/x86/kvm include/linux/kvm_host.h -name '*.[ch]' \
		! -name '*userfault*' -print0 |
		xargs -0 awk -f "$KUF_BIN/accessors.awk"
) | sort -u >"$KUF_TMP/tree"
sed -En 's/^ +((virt|arch|include)\/[^,]+,[^,]+),.*/\1/p' "$table" | sort >"$KUF_TMP/table"
[[ -s $KUF_TMP/tree ]] || die "nothing found in $tree; is it a kernel tree?"

rc=0
while read -r line; do
	echo "$line is not in $(basename "$table"): say what it does with an absent page"
	rc=1
done < <(comm -23 "$KUF_TMP/tree" "$KUF_TMP/table")
while read -r line; do
	echo "$line is in $(basename "$table"), but not in KVM, or twice"
	rc=1
done < <(comm -13 "$KUF_TMP/tree" "$KUF_TMP/table")
exit "$rc"
