// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pageset.h"

int pageset_make(struct pageset *set, u64 size)
{
	*set = (struct pageset){ .size = size };
	set->words = calloc((size + 63) / 64, sizeof(*set->words));
	if (set->words)
		return 0;
	return kuf_error(-ENOMEM, "the account of %llu pages", (unsigned long long)size);
}

void pageset_free(struct pageset *set)
{
	free(set->words);
	set->words = NULL;
	set->size = 0;
}

static u64 word(const struct pageset *set, u64 page)
{
	return __atomic_load_n(&set->words[page / 64], __ATOMIC_RELAXED);
}

bool pageset_has(const struct pageset *set, u64 page)
{
	return page < set->size && word(set, page) >> page % 64 & 1;
}

bool pageset_add(struct pageset *set, u64 page)
{
	u64 bit = 1ull << page % 64;

	if (page >= set->size ||
	    __atomic_fetch_or(&set->words[page / 64], bit, __ATOMIC_RELAXED) & bit)
		return false;
	__atomic_fetch_add(&set->count, 1, __ATOMIC_RELAXED);
	return true;
}

bool pageset_remove(struct pageset *set, u64 page)
{
	u64 bit = 1ull << page % 64;

	if (page >= set->size ||
	    !(__atomic_fetch_and(&set->words[page / 64], ~bit, __ATOMIC_RELAXED) & bit))
		return false;
	__atomic_fetch_sub(&set->count, 1, __ATOMIC_RELAXED);
	return true;
}

void pageset_add_all(struct pageset *set)
{
	memset(set->words, 0xff, set->size / 64 * sizeof(*set->words));
	if (set->size % 64)
		set->words[set->size / 64] = ~0ull >> (64 - set->size % 64);
	set->count = set->size;
}

bool pageset_next(const struct pageset *set, u64 *page, u64 *nr)
{
	u64 at = *page;

	while (at < set->size && !pageset_has(set, at))
		at = word(set, at) >> at % 64 ? at + 1 : (at / 64 + 1) * 64;
	if (at >= set->size)
		return false;
	*page = at;
	while (pageset_has(set, at))
		at++;
	*nr = at - *page;
	return true;
}
