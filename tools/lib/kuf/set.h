/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A set of numbers in shared memory: any thread of any process puts in, one takes
 * out.  A bitmap, with a bitmap of its words that are not 0, and so on.  Nothing in
 * it is ever half done, so whoever dies in between does no harm; and whatever others
 * write into it, nothing beyond it is looked at.
 */
#ifndef KUF_SET_H
#define KUF_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KUFI_SET_LEVELS		6	/* 2^36 numbers */

struct kufi_set {
	unsigned int levels;
	uint64_t words[KUFI_SET_LEVELS];	/* of each level */
	uint64_t *level[KUFI_SET_LEVELS];	/* the last one is a single word */
};

/* Bytes for numbers below @nr, a multiple of 8; 0: too many. */
size_t kufi_set_size(uint64_t nr);
void kufi_set_init(struct kufi_set *set, uint64_t nr, void *memory);
void kufi_set_put(struct kufi_set *set, uint64_t n);
/* Takes the smallest out; false if there is none. */
bool kufi_set_take(struct kufi_set *set, uint64_t *n);
bool kufi_set_empty(const struct kufi_set *set);

#endif /* KUF_SET_H */
