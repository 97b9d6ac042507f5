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
	int err;

	if (offset < 0)
		return -EFAULT;
	if (vm->pager) {
		err = pager_access(vm->pager, gpa, len, write);
		if (err)
			return err;
	}
	*ptr = vm->mem.area + offset;
	return 0;
}
