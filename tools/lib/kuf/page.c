// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The transitions of a page's word.  The table is in
 * Documentation/virt/kvm/libkuf.rst, and again, independently, in tests/test_page.c.
 */
#include <errno.h>

#include "page.h"

/* What remains when a state is entered from which nobody has to be woken. */
static uint32_t enter(uint32_t old, unsigned int state, uint32_t flags)
{
	return (old & KUFI_SEQ_MASK) | state | flags;
}

static bool change(uint32_t *word, uint32_t *old, uint32_t to)
{
	return __atomic_compare_exchange_n(word, old, to, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

/* Why a page cannot be claimed or requested. */
static int refusal(uint32_t word)
{
	switch (kufi_state(word)) {
	case KUF_PRESENT:
		return -EEXIST;
	case KUF_FILLING:
	case KUF_TAKING:
		return -EBUSY;
	case KUF_DISCARDED:
		return -ESTALE;
	case KUF_POISONED:
		return -EHWPOISON;
	case KUF_ABSENT:
	case KUF_REQUESTED:
		return -ENOENT;
	default:
		return -EUCLEAN;
	}
}

static uint32_t claimed(uint32_t old, unsigned int state, unsigned int peer)
{
	return enter(old, state, old & KUFI_FLAGS) |
	       kufi_state(old) << KUFI_PREV_SHIFT | peer << KUFI_PEER_SHIFT;
}

static bool holds(uint32_t word, unsigned int state, unsigned int peer)
{
	return kufi_state(word) == state && kufi_peer(word) == peer;
}

int kufi_page_request(uint32_t *word, uint32_t flags, bool *fresh)
{
	uint32_t old = kufi_load(word);
	uint32_t to;
	int ret;

	do {
		*fresh = false;
		ret = 0;
		switch (kufi_state(old)) {
		case KUF_ABSENT:
			*fresh = true;
			to = enter(old, KUF_REQUESTED, (old & KUFI_FLAGS) | flags);
			break;
		case KUF_REQUESTED:
			*fresh = flags & KUFI_URGENT && !(old & KUFI_URGENT);
			to = old | flags;
			break;
		case KUF_FILLING:
		case KUF_TAKING:
		case KUF_DISCARDED:
			ret = refusal(old);
			to = old | flags;
			break;
		default:
			return refusal(old);
		}
		if (to == old)
			return ret;
	} while (!change(word, &old, to));
	return ret;
}

int kufi_page_fail(uint32_t *word)
{
	uint32_t old = kufi_load(word);

	do {
		if (kufi_state(old) != KUF_REQUESTED)
			return refusal(old);
	} while (!change(word, &old, enter(old, KUF_ABSENT, old & KUFI_FLAGS)));
	return 0;
}

int kufi_page_claim(uint32_t *word, unsigned int peer, bool zero)
{
	uint32_t old = kufi_load(word);

	do {
		switch (kufi_state(old)) {
		case KUF_ABSENT:
		case KUF_REQUESTED:
			break;
		case KUF_DISCARDED:
			if (zero)
				break;
			fallthrough;
		default:
#ifdef KUF_BREAK_CLAIM
			/* What tests/test_claim.c has to notice. */
			if (kufi_state(old) == KUF_FILLING)
				return 0;
#endif
			return refusal(old);
		}
	} while (!change(word, &old, claimed(old, KUF_FILLING, peer)));
	return 0;
}

int kufi_page_settle(uint32_t *word, unsigned int peer, uint32_t *old)
{
	*old = kufi_load(word);
	do {
		if (!holds(*old, KUF_FILLING, peer))
			return -EPERM;
	} while (!change(word, old, enter(*old, KUF_PRESENT, 0)));
	return 0;
}

int kufi_page_take(uint32_t *word, unsigned int peer)
{
	uint32_t old = kufi_load(word);

	do {
		switch (kufi_state(old)) {
		case KUF_ABSENT:
		case KUF_REQUESTED:
		case KUF_PRESENT:
		case KUF_DISCARDED:
			break;
		default:
			return refusal(old);
		}
	} while (!change(word, &old, claimed(old, KUF_TAKING, peer)));
	return 0;
}

int kufi_page_taken(uint32_t *word, unsigned int peer, enum kuf_state to, uint32_t *old)
{
	if (to != KUF_DISCARDED && to != KUF_POISONED)
		return -EINVAL;
	*old = kufi_load(word);
	do {
		if (!holds(*old, KUF_TAKING, peer))
			return -EPERM;
	} while (!change(word, old, enter(*old, to, 0)));
	return 0;
}

int kufi_page_release(uint32_t *word, unsigned int peer, uint32_t *old, bool *ask)
{
	unsigned int prev;
	uint32_t flags;

	*old = kufi_load(word);
	do {
		if (!holds(*old, KUF_FILLING, peer) && !holds(*old, KUF_TAKING, peer))
			return -EPERM;
		prev = kufi_prev(*old);
		flags = 0;
		*ask = false;
		/*
		 * Sleepers are woken and look again; the others stay on record.  What was
		 * requested may have come, and was not taken because of the claim.
		 */
		if (prev == KUF_ABSENT || prev == KUF_REQUESTED) {
			flags = *old & (KUFI_URGENT | KUFI_EVENT);
			*ask = flags || prev == KUF_REQUESTED;
			if (flags)
				prev = KUF_REQUESTED;
		}
	} while (!change(word, old, enter(*old, prev, flags)));
	return 0;
}

int kufi_page_drop(uint32_t *word, uint32_t *old)
{
	*old = kufi_load(word);
	do {
		switch (kufi_state(*old)) {
		case KUF_ABSENT:
		case KUF_REQUESTED:
			break;
		default:
			return refusal(*old);
		}
	} while (!change(word, old, enter(*old, KUF_DISCARDED, 0)));
	return 0;
}

int kufi_page_unpoison(uint32_t *word)
{
	uint32_t old = kufi_load(word);

	do {
		if (kufi_state(old) != KUF_POISONED)
			return refusal(old);
	} while (!change(word, &old, enter(old, KUF_DISCARDED, 0)));
	return 0;
}

int kufi_page_sleep(uint32_t *word, uint32_t *now)
{
	*now = kufi_load(word);
	do {
		switch (kufi_state(*now)) {
		case KUF_ABSENT:
		case KUF_REQUESTED:
		case KUF_FILLING:
		case KUF_TAKING:
			break;
		default:
			return refusal(*now);
		}
		if (*now & KUFI_SLEEPERS)
			return 0;
	} while (!change(word, now, *now | KUFI_SLEEPERS));
	*now |= KUFI_SLEEPERS;
	return 0;
}

void kufi_page_kick(uint32_t *word)
{
	__atomic_add_fetch(word, KUFI_SEQ, __ATOMIC_SEQ_CST);
}
