// SPDX-License-Identifier: GPL-2.0
/*
 * Device accesses to guest memory: KVM userfault stops the guest and, with OWN, KVM,
 * but not this process, which would find zeroes in a page that is absent.
 */
#include <errno.h>

#include "dma.h"
#include "pager.h"
#include "vm.h"

int dma_map(struct vm *vm, u64 gpa, u64 len, bool write, void **ptr)
{
	int64_t offset = len ? mem_offset(&vm->mem, gpa, len) : -1;
	u64 page;
	int err;

	/* Whether it is read or written makes no difference as long as pages are whole. */
	(void)write;
	if (offset < 0)
		return -EFAULT;
	for (page = offset / PAGE_SIZE; vm->mem.bitmap && page <= (offset + len - 1) / PAGE_SIZE;
	     page++) {
		if (!mem_bit_test(vm->mem.bitmap, page))
			continue;
		err = pager_need(vm->pager, mem_gpa(&vm->mem, page * PAGE_SIZE));
		if (err)
			return err;
	}
	*ptr = vm->mem.area + offset;
	return 0;
}
