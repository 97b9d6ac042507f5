#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Does tools/build/accessors.sh notice an access of guest memory that the table does
# not have, and one that is gone? Prints KTAP on stdout. Exit status: 0 if none failed.
#
# usage: tests/accessors/run.sh

# Functions are called through try.
# shellcheck disable=SC2317
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=../ktap.sh
. "$here/../ktap.sh"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir"/{virt/kvm,arch/x86/kvm,include/linux}

cat >"$dir/include/linux/kvm_host.h" <<'END'
#define kvm_get(kvm, v)			\
({					\
	get_user(v, (kvm)->p);		\
})
END
cat >"$dir/virt/kvm/kvm_main.c" <<'END'
/* __copy_from_user(a, b, c) in a comment is no access. */
static int read_page(struct kvm *kvm,
		     void *data)
{
	return __copy_from_user(data, kvm->p, 8);
}
EXPORT_SYMBOL_GPL(read_page);

int no_access(struct kvm *kvm)
{
	pr_info("put_user(a, b)");
	return copy_to_users(kvm) + my->get_user(kvm);
}
END
cat >"$dir/arch/x86/kvm/tmpl.h" <<'END'
static int FNAME(walk)(struct kvm_vcpu *vcpu)
{
	CLASS(kvm_vcpu_map_local, m)(vcpu, 1);
	return 0;
}
END
cat >"$dir/table" <<'END'
   include/linux/kvm_host.h,kvm_get,V,wait,waits,test
   virt/kvm/kvm_main.c,read_page,V,wait,waits,test
   arch/x86/kvm/tmpl.h,FNAME(walk),V,map,waits,test
END

# says WANTED: is that what the script says now? A regular expression.
says()
{
	local said
	said=$("$here/../../tools/build/accessors.sh" "$dir" "$dir/table" 2>&1) || true
	echo "$said"
	[[ $said =~ ^$1$ ]]
}

begin accessors 3
try same says ''
printf 'void wild(u32 __user *p)\n{\n\tput_user(0, p);\n}\n' >>"$dir/virt/kvm/kvm_main.c"
try new says 'virt/kvm/kvm_main.c,wild is not in table.*'
sed -i '/^void wild/,$d; s/__copy_from_user/memcpy/' "$dir/virt/kvm/kvm_main.c"
try gone says 'virt/kvm/kvm_main.c,read_page is in table, but not in KVM.*'
end
