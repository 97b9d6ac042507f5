// SPDX-License-Identifier: LGPL-2.1-or-later
#include "set.h"

static uint64_t words_for(uint64_t nr)
{
	return (nr + 63) / 64;
}

size_t kufi_set_size(uint64_t nr)
{
	unsigned int levels = 0;
	size_t size = 0;

	do {
		if (++levels > KUFI_SET_LEVELS)
			return 0;
		nr = words_for(nr);
		size += nr * sizeof(uint64_t);
	} while (nr > 1);
	return size;
}

void kufi_set_init(struct kufi_set *set, uint64_t nr, void *memory)
{
	uint64_t *words = memory;

	set->levels = 0;
	do {
		nr = words_for(nr);
		set->level[set->levels] = words;
		set->words[set->levels++] = nr;
		words += nr;
	} while (nr > 1);
}

static void put_above(struct kufi_set *set, unsigned int level, uint64_t n)
{
	for (; level < set->levels; level++) {
		uint64_t bit = 1ull << n % 64;
		uint64_t *word = &set->level[level][n / 64];

		/*
		 * Whoever takes clears a bit before it looks below, so a bit that is
		 * found set here makes it see what was put below.
		 */
		if (!(__atomic_load_n(word, __ATOMIC_SEQ_CST) & bit))
			__atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST);
		n /= 64;
	}
}

void kufi_set_put(struct kufi_set *set, uint64_t n)
{
	__atomic_fetch_or(&set->level[0][n / 64], 1ull << n % 64, __ATOMIC_SEQ_CST);
	put_above(set, 1, n / 64);
}

/* The word below is 0, or none of ours: take its bit out, unless something comes. */
static void prune(struct kufi_set *set, unsigned int level, uint64_t n)
{
	__atomic_fetch_and(&set->level[level][n / 64], ~(1ull << n % 64), __ATOMIC_SEQ_CST);
	if (n < set->words[level - 1] &&
	    __atomic_load_n(&set->level[level - 1][n], __ATOMIC_SEQ_CST))
		put_above(set, level, n);
}

bool kufi_set_take(struct kufi_set *set, uint64_t *n)
{
	unsigned int level;
	uint64_t at, word;

again:
	at = 0;
	for (level = set->levels; level--;) {
		word = 0;
		if (at < set->words[level])
			word = __atomic_load_n(&set->level[level][at], __ATOMIC_SEQ_CST);
		if (!word) {
			if (level + 1 == set->levels)
				return false;
			prune(set, level + 1, at);
			goto again;
		}
		at = at * 64 + __builtin_ctzll(word);
	}
	/* The words above are pruned when they are met empty. */
	__atomic_fetch_and(&set->level[0][at / 64], ~(1ull << at % 64), __ATOMIC_SEQ_CST);
	*n = at;
	return true;
}

bool kufi_set_empty(const struct kufi_set *set)
{
	return !__atomic_load_n(&set->level[set->levels - 1][0], __ATOMIC_SEQ_CST);
}
