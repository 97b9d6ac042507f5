// SPDX-License-Identifier: GPL-2.0
/*
 * Device accesses to guest memory: KVM userfault stops the guest and, with OWN, KVM,
 * but not this process, which would find zeroes in a page that is absent.
 */
#include <errno.h>

#include "dma.h"
#include "guard.h"
#include "pager.h"
#include "poison.h"
#include "vm.h"

static int find(struct vm *vm, u64 gpa, u64 len, void **ptr)
{
	int64_t offset = len ? mem_offset(&vm->mem, gpa, len) : -1;

	if (offset < 0)
		return -EFAULT;
	*ptr = vm->mem.area + offset;
	return 0;
}

int dma_map(struct vm *vm, u64 gpa, u64 len, bool write, void **ptr)
{
	int err = find(vm, gpa, len, ptr);

	return err || !vm->pager ? err : pager_access(vm->pager, gpa, len, write);
}

int dma_try_map(struct vm *vm, u64 gpa, u64 len, void **ptr)
{
	int err = find(vm, gpa, len, ptr);

	return err || !vm->pager ? err : pager_try_access(vm->pager, gpa, len);
}

int dma_read_page(struct vm *vm, u64 gpa, void *to)
{
	void *from;
	int err;

	err = dma_map(vm, gpa, PAGE_SIZE, false, &from);
	if (err)
		return err;
	err = guard_copy(to, from, PAGE_SIZE);
	/* Should nobody be told, nobody must use the page either. */
	if (err && vm_lost(vm, from))
		vm_stop(vm, KUF_EXIT_FAILED);
	return err;
}
