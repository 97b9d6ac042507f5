// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that are lost: by an operator's wish, or because the host's memory broke.
 */
#include <errno.h>

#include "abi.h"
#include "pager.h"
#include "poison.h"
#include "vm.h"

int vm_may_poison(const struct vm *vm, u64 gpa, u64 len)
{
	if (gpa % PAGE_SIZE || len % PAGE_SIZE || !len)
		return kuf_error(-EINVAL, "poison at 0x%llx, 0x%llx bytes: no whole pages",
				 (unsigned long long)gpa, (unsigned long long)len);
	if (mem_offset(&vm->mem, gpa, len) < 0)
		return kuf_error(-EFAULT, "poison at 0x%llx, 0x%llx bytes: no guest memory",
				 (unsigned long long)gpa, (unsigned long long)len);
	if (!vm->pager || !vm->pager->poison)
		return kuf_error(-EOPNOTSUPP,
				 "poison at 0x%llx: KVM has none of it without FEATURE_POISON",
				 (unsigned long long)gpa);
	return 0;
}

static int failed(int err, const char *what, u64 gpa)
{
	if (err == -ENOSPC)
		return kuf_error(err, "the page at 0x%llx cannot be %s: KVM has room for %u ranges",
				 (unsigned long long)gpa, what, POISON_RANGES_MAX);
	return kuf_error(err, "the page at 0x%llx cannot be %s", (unsigned long long)gpa, what);
}

int vm_poison(struct vm *vm, u64 gpa, u64 len)
{
	int err = vm_may_poison(vm, gpa, len);

	if (err)
		return err;
	err = pager_poison(vm->pager, gpa, len);
	return err ? failed(err, "poisoned", gpa) : 0;
}

int vm_unpoison(struct vm *vm, u64 gpa, u64 len)
{
	int err = vm_may_poison(vm, gpa, len);

	if (err)
		return err;
	err = pager_unpoison(vm->pager, gpa, len);
	return err ? failed(err, "made usable again", gpa) : 0;
}

int vm_lost(struct vm *vm, const void *hva)
{
	u64 offset = (const u8 *)hva - vm->mem.area, gpa;

	if ((const u8 *)hva < vm->mem.area || offset >= vm->mem.size)
		return kuf_error(-EFAULT, "the host's memory at %p is broken, and not the guest's",
				 hva);
	gpa = align_down(mem_gpa(&vm->mem, offset), PAGE_SIZE);
	kuf_say("the host's memory is broken: the guest's page at 0x%llx is lost",
		(unsigned long long)gpa);
	return vm_poison(vm, gpa, PAGE_SIZE);
}

u64 vm_poisoned(struct vm *vm)
{
	u64 gpa = 0, len, nr = 0;

	while (vm->pager && !pager_next_poisoned(vm->pager, &gpa, &len)) {
		nr += len / PAGE_SIZE;
		gpa += len;
	}
	return nr;
}
