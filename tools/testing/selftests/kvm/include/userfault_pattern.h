/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a page of guest memory has to contain: f(gfn, generation, word index).
 *
 * Every 64-bit word of a page is determined by the page's number and by a
 * generation that the test chooses, and no two (gfn, generation) pairs share
 * their first word.  A full check therefore sees a page that was never filled
 * (zeroes), another page's content, an older generation of the same page, a
 * torn page and any flipped bit.
 *
 * All of this runs in the guest as well as in the host: no libc, nothing out
 * of line, and no loop that a compiler would turn into a call of memcpy() or
 * memset().
 */
#ifndef SELFTEST_KVM_USERFAULT_PATTERN_H
#define SELFTEST_KVM_USERFAULT_PATTERN_H

#include <linux/compiler.h>
#include <linux/types.h>

#include "kvm_util_types.h"

/* The first word of a page; a bijection of gfn for a given generation. */
static __always_inline u64 userfault_pattern_first(u64 gfn, u64 generation)
{
	u64 x = gfn + generation * 0x9e3779b97f4a7c15ull + 0x632be59bd9b4e019ull;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* One addition a word: a guest under emulation checks 512 of them a page. */
#define USERFAULT_PATTERN_STEP	0xd1342543de82ef95ull

static __always_inline u64 userfault_pattern_word(u64 gfn, u64 generation,
						  u64 index)
{
	return userfault_pattern_first(gfn, generation) +
	       index * USERFAULT_PATTERN_STEP;
}

static __always_inline void userfault_pattern_fill(void *page, size_t page_size,
						   u64 gfn, u64 generation)
{
	u64 word = userfault_pattern_first(gfn, generation);
	u64 *p = page;
	size_t i;

	for (i = 0; i < page_size / sizeof(*p); i++) {
		WRITE_ONCE(p[i], word);
		word += USERFAULT_PATTERN_STEP;
	}
}

/* Returns the index of the first wrong word, or -1 if the page is right. */
static __always_inline int userfault_pattern_check(const void *page,
						   size_t page_size, u64 gfn,
						   u64 generation)
{
	u64 word = userfault_pattern_first(gfn, generation);
	const u64 *p = page;
	size_t i;

	for (i = 0; i < page_size / sizeof(*p); i++) {
		if (READ_ONCE(p[i]) != word)
			return i;
		word += USERFAULT_PATTERN_STEP;
	}

	return -1;
}

/*
 * Copy a page, a word at a time at least.  The memcpy() of this library is a
 * loop over bytes (lib/string_override.c, for the guest's sake), which costs
 * more than the fault that a test wants to measure.
 */
static __always_inline void userfault_copy_page(void *dst, const void *src,
						size_t page_size)
{
	size_t words = page_size / sizeof(u64);

#ifdef __x86_64__
	asm volatile("rep movsq"
		     : "+D" (dst), "+S" (src), "+c" (words) : : "memory");
#else
	const u64 *s = src;
	u64 *d = dst;

	for (; words; words--, d++, s++)
		WRITE_ONCE(*d, READ_ONCE(*s));
#endif
}

#endif /* SELFTEST_KVM_USERFAULT_PATTERN_H */
