# shellcheck shell=bash disable=SC2016
# SPDX-License-Identifier: GPL-2.0
#
# A kernel tree of a few lines, hooks made from it the way the real ones are
# made, and an overlay. Sourced by each case; T is the case's own directory.
#
#	$T/tree		Linux 7.3.4 in miniature
#	$T/hooks	BASE, series, core.patch, second.patch (stacked on core)
#	$T/over		the overlay's files; $T/over/overlay.manifest

set -euo pipefail
: "${T:?run the cases by run.sh}"
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
export HOOKS=$T/hooks MANIFEST=$T/over/overlay.manifest

fail()
{
	echo "$*"
	exit 1
}

# Quiet git that no setting of the user's can reach.
g()
{
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 git -C "$T/work" \
		-c user.name=t -c user.email=t@localhost "$@"
}

write_tree()
{
	local d=$1
	mkdir -p "$d/virt/kvm" "$d/include/linux"
	printf '%s\n' '# SPDX-License-Identifier: GPL-2.0' 'VERSION = 7' 'PATCHLEVEL = 3' \
		'SUBLEVEL = 4' 'EXTRAVERSION =' >"$d/Makefile"
	printf '%s\n' 'kvm-y += $(KVM)/main.o' 'kvm-y += $(KVM)/fault.o' \
		>"$d/virt/kvm/Makefile.kvm"
	cat >"$d/include/linux/host.h" <<'END'
#include <linux/types.h>

struct slot {
	int id;
	int flags;
};

struct vm {
	int id;
	int users;
};
END
	cat >"$d/virt/kvm/fault.c" <<'END'
#include <linux/host.h>

static int fault_a(struct vm *vm, int gfn)
{
	int r;

	r = prepare(vm, gfn);
	if (r)
		return r;

	return map(vm, gfn);
}

static int fault_b(struct vm *vm, int gfn)
{
	int r;

	r = prepare(vm, gfn);
	if (r)
		return r;

	return map(vm, gfn);
}

int destroy(struct vm *vm)
{
	vm->users--;
	return vm->users;
}
END
}

# commit NAME: what $T/work has changed becomes hook NAME.
commit()
{
	g commit -qam "KVM: $1: Change it"$'\n\nWhy it is needed.'
	g format-patch -q -1 -U1 --full-index --no-signature --stdout >"$HOOKS/$1.patch"
	echo "$1" >>"$HOOKS/series"
}

# edit FILE SED-SCRIPT in a directory below $T; the script must change it.
edit()
{
	cp "$1" "$T/edit.before"
	sed -i "$2" "$1"
	! cmp -s "$1" "$T/edit.before" || fail "the case's own edit of $1 did nothing"
}

mini()
{
	write_tree "$T/tree"
	write_tree "$T/work"
	printf '%s\n' '*.[ch] diff=cpp' >"$T/work/.gitattributes"
	mkdir -p "$HOOKS" "$T/over/virt"
	g init -q -b base
	g add -A
	g commit -qm base
	printf 'version 7.3\ndebian 7.3.4-1\n' >"$HOOKS/BASE"

	edit "$T/work/virt/kvm/fault.c" '/^static int fault_b/,/^}/ s/^\tif (r)$/\tr = r ?: hook(vm, gfn);\n&/'
	edit "$T/work/virt/kvm/fault.c" 's/^#include.*/&\n#include <linux\/extra.h>/'
	edit "$T/work/include/linux/host.h" '/^struct vm/,/^}/ s/^\tint users;/&\n\tstruct extra extra;/'
	commit core
	edit "$T/work/virt/kvm/fault.c" 's/^\tvm->users--;/\thook_destroy(vm);\n&/'
	edit "$T/work/virt/kvm/Makefile.kvm" '$ s/$/\nkvm-$(CONFIG_EXTRA) += $(KVM)\/extra.o/'
	commit second

	echo 'struct extra { int x; };' >"$T/over/extra.h"
	echo 'int hook_destroy(void) { return 0; }' >"$T/over/virt/extra.c"
	cat >"$MANIFEST" <<'END'
# here		in the kernel			group
extra.h		include/linux/extra.h		core
virt/extra.c	virt/kvm/new/dir/extra.c	second
END
}

# apply ARG...: the step under test; its words are in $T/out.
apply()
{
	bash "$top/tools/build/apply.sh" "$@" >"$T/out" 2>&1
}

accepted()
{
	apply "$@" || fail "refused: $(cat "$T/out")"
}

# State of a tree: names, modes, dates and contents.
state()
{
	(cd "$1" && find . -printf '%p %y %m %T@\n' | sort && find . -type f -exec sha256sum {} + | sort)
}

# refused REGEX ARG...: fails, says REGEX in one line, and leaves no trace.
refused()
{
	local regex=$1
	shift
	state "$1" >"$T/before"
	if apply "$@"; then
		fail "accepted: $(cat "$T/out")"
	fi
	state "$1" >"$T/after"
	cmp -s "$T/before" "$T/after" ||
		fail "the tree changed: $(diff "$T/before" "$T/after")"
	(($(wc -l <"$T/out") == 1)) || fail "not one line: $(cat "$T/out")"
	grep -Eq -- "$regex" "$T/out" || fail "does not say '$regex': $(cat "$T/out")"
}

said()
{
	grep -Eq -- "$1" "$T/out" || fail "does not say '$1': $(cat "$T/out")"
}

same()
{
	cmp "$1" "$2" || fail "$1 is not as expected: $(diff "$1" "$2")"
}
