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

/* NULL if that is not all memory. */
static void *find(const struct vm *vm, u64 gpa, u64 len)
{
	int64_t offset = len ? mem_offset(&vm->mem, gpa, len) : -1;

	return offset < 0 ? NULL : vm->mem.area + offset;
}

/* Who may not use the memory gets no pointer to it: virtqueue_take() leaves it at NULL. */
static int give(void *at, int err, void **ptr)
{
	if (!err)
		*ptr = at;
	return err;
}

int dma_map(struct vm *vm, u64 gpa, u64 len, bool write, void **ptr)
{
	void *at = find(vm, gpa, len);

	if (!at)
		return -EFAULT;
	return give(at, vm->pager ? pager_access(vm->pager, gpa, len, write) : 0, ptr);
}

int dma_try_map(struct vm *vm, u64 gpa, u64 len, void **ptr)
{
	void *at = find(vm, gpa, len);

	if (!at)
		return -EFAULT;
	return give(at, vm->pager ? pager_try_access(vm->pager, gpa, len) : 0, ptr);
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
