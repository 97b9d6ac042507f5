/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_DMA_H
#define KUF_DMA_H

#include "kuf.h"

struct vm;

/*
 * All of a device's accesses to guest memory begin here.  Makes the pages of
 * [gpa, gpa + len) present, which may wait for the pager, and sets @ptr to where
 * they are in this process, and leaves it alone if it fails: -EFAULT if that is not all
 * memory, -EHWPOISON if a page is poisoned, or else the pager's error.  For any thread but
 * those that the pager itself depends on.
 */
int dma_map(struct vm *vm, u64 gpa, u64 len, bool write, void **ptr);

/* The same for reading, but does not wait.  -EAGAIN: a page is absent, and was asked for. */
int dma_try_map(struct vm *vm, u64 gpa, u64 len, void **ptr);

/*
 * One page, to @to.  -EHWPOISON: it is poisoned; if the host's memory is found to be broken
 * it is from then on.
 */
int dma_read_page(struct vm *vm, u64 gpa, void *to);

#endif /* KUF_DMA_H */
