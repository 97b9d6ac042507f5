/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_RANDOM_H
#define KUF_TESTS_RANDOM_H

#include "kuf.h"

static u64 random_state = 1;

/* xorshift: the same numbers each time. */
static inline u64 next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

#endif /* KUF_TESTS_RANDOM_H */
