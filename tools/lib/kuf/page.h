/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The word of a page: its state, who holds a claim, who is to be told.  Shared
 * between processes, changed by compare and exchange alone.
 *
 *	bits 0-2	enum kuf_state
 *	bit 3		somebody sleeps on the word
 *	bit 4		somebody needs the page
 *	bit 5		somebody waits in KVM, and his event was read
 *	bits 6-8	FILLING, TAKING: the state before
 *	bits 9-16	FILLING, TAKING: the peer that holds the claim
 *	bits 17-31	changes whenever sleepers have to look again
 *
 * Only the holder of a claim writes the page, its bit, or ends the claim.  The
 * others may set flags meanwhile; he meets them when he ends it.
 */
#ifndef KUF_PAGE_H
#define KUF_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include <kuf/kuf.h>

#define fallthrough	__attribute__((__fallthrough__))

#define KUFI_STATE		0x7u
#define KUFI_SLEEPERS		0x8u
#define KUFI_URGENT		0x10u
#define KUFI_EVENT		0x20u
#define KUFI_FLAGS		(KUFI_SLEEPERS | KUFI_URGENT | KUFI_EVENT)
#define KUFI_PREV_SHIFT		6
#define KUFI_PREV		(0x7u << KUFI_PREV_SHIFT)
#define KUFI_PEER_SHIFT		9
#define KUFI_PEER		(0xffu << KUFI_PEER_SHIFT)
#define KUFI_SEQ		0x20000u
#define KUFI_SEQ_MASK		(~0u << 17)

static inline uint32_t kufi_load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static inline unsigned int kufi_state(uint32_t word)
{
	return word & KUFI_STATE;
}

static inline unsigned int kufi_prev(uint32_t word)
{
	return (word & KUFI_PREV) >> KUFI_PREV_SHIFT;
}

static inline unsigned int kufi_peer(uint32_t word)
{
	return (word & KUFI_PEER) >> KUFI_PEER_SHIFT;
}

/*
 * Transitions.  They return 0 or:
 *
 * EEXIST	the page is present
 * EBUSY	somebody holds a claim
 * ESTALE	it was discarded: zero it, or drop the content you have
 * EHWPOISON	it is poisoned
 * EPERM	the claim is not this peer's
 * ENOENT	nothing to do
 * EUCLEAN	no such state: somebody scribbled into the shared memory
 */

/*
 * Somebody needs the page (@flags: URGENT, EVENT), or it is fetched ahead (0).
 * *fresh: the source has to be told.  The flags are left with whoever holds a claim
 * (EBUSY), and with a discarded page (ESTALE), for whoever fills it.
 */
int kufi_page_request(uint32_t *word, uint32_t flags, bool *fresh);
/* What was requested cannot be had: absent, and whoever needs it still does. */
int kufi_page_fail(uint32_t *word);
/* To write its content; @zero: zeroes, so discarded pages as well. */
int kufi_page_claim(uint32_t *word, unsigned int peer, bool zero);
/* The content is there and the bit is clear: present.  *old: whom to wake. */
int kufi_page_settle(uint32_t *word, unsigned int peer, uint32_t *old);
/* To take it away. */
int kufi_page_take(uint32_t *word, unsigned int peer);
/* It is away: discarded or poisoned. */
int kufi_page_taken(uint32_t *word, unsigned int peer, enum kuf_state to, uint32_t *old);
/*
 * Ends a claim with nothing done.  Who asked for the page, before or meanwhile, is not
 * forgotten: *ask says that it has to be requested again.
 */
int kufi_page_release(uint32_t *word, unsigned int peer, uint32_t *old, bool *ask);
/* Absent pages need no claim to be discarded, as nobody can have them mapped. */
int kufi_page_drop(uint32_t *word, uint32_t *old);
int kufi_page_unpoison(uint32_t *word);
/* Before sleeping: makes sure that there is a wake-up; *now is what to sleep on. */
int kufi_page_sleep(uint32_t *word, uint32_t *now);
/* All who sleep look again. */
void kufi_page_kick(uint32_t *word);

#endif /* KUF_PAGE_H */
