/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest of userfault_stress_test, and what it shares with the host: only for
 * that one file.
 *
 * Pages of the slots that the guest reads carry a generation, and beside it the
 * pattern that goes with it.  The host publishes the number, in memory that is
 * always there, when the page has been filled and before the guest can see it.
 * So when the guest finds a number published and then looks at the page, it must
 * see this generation or a later one, all of it, and none that was not published
 * yet.
 *
 * In the slots that the guest writes each vCPU counts in a word of its own on
 * each page, and remembers elsewhere how far it has come.
 */
#ifndef SELFTEST_KVM_USERFAULT_STRESS_H
#define SELFTEST_KVM_USERFAULT_STRESS_H

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"
#include "userfault_util.h"

#define MAX_VCPUS	8
#define NPAGES		512ul
#define WORDS		(PAGE_SIZE / sizeof(u64))
#define HOME(i)		(0xc0000000ul + (i) * 0x1000000ul)
#define AWAY(i)		(HOME(i) + 0x800000ul)

static const struct {
	enum userfault_backing backing;
	bool written;
} kinds[] = {
	{ USERFAULT_ANON, false },
	{ USERFAULT_ANON_THP, false },
	{ USERFAULT_SHMEM, false },
	{ USERFAULT_GMEM, false },
	{ USERFAULT_ANON_THP, true },
	{ USERFAULT_GMEM, true },
};

#define NR_SLOTS	ARRAY_SIZE(kinds)

/* In the guest's memory, which is always there. */
static u64 published[NR_SLOTS][NPAGES];
static u64 seen[MAX_VCPUS][NR_SLOTS][NPAGES];	/* or counted */
static u64 nr_checks[MAX_VCPUS], nr_oddities[MAX_VCPUS];

static u64 rnd(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 11;
}

/* Returns the first wrong word. */
static int guest_look(u64 slot, u64 page, u64 generation, u64 step)
{
	u64 first = userfault_pattern_first(HOME(slot) / PAGE_SIZE + page, generation);
	u64 *p = (u64 *)(HOME(slot) + page * PAGE_SIZE), i;

	for (i = step; i < WORDS; i += step) {
		if (READ_ONCE(p[i]) != first + i * USERFAULT_PATTERN_STEP)
			return i;
	}
	return -1;
}

static void guest_read(u64 id, u64 slot, u64 page, u64 step)
{
	u64 *p = (u64 *)(HOME(slot) + page * PAGE_SIZE);
	u64 before, generation;
	int bad, oddities = 0;

	for (;;) {
		before = READ_ONCE(published[slot][page]);
		generation = READ_ONCE(*p);
		bad = 0;
		if (generation >= before && generation >= seen[id][slot][page] &&
		    generation <= READ_ONCE(published[slot][page])) {
			bad = guest_look(slot, page, generation, step);
			if (bad < 0)
				break;
			/* Replaced while looking at it? */
			if (READ_ONCE(*p) > generation &&
			    READ_ONCE(*p) <= READ_ONCE(published[slot][page]))
				continue;
		}
		/*
		 * Where slots come and go, KVM may emulate a read of one that is
		 * back again, and it does not ask the bitmap (yet).  The host
		 * knows how often that can have been.
		 */
		nr_oddities[id]++;
		if (oddities++ < 3)
			continue;
		GUEST_FAIL("slot %lu page %lu word %d: 0x%lx, published 0x%lx to 0x%lx, seen 0x%lx",
			   slot, page, bad, generation, before,
			   READ_ONCE(published[slot][page]), seen[id][slot][page]);
	}
	seen[id][slot][page] = generation;
}

static void guest_count(u64 id, u64 slot, u64 page)
{
	u64 *p = (u64 *)(HOME(slot) + page * PAGE_SIZE) + id;
	u64 count = READ_ONCE(*p);

	if (count != seen[id][slot][page])
		GUEST_FAIL("slot %lu page %lu, vCPU %lu: counted up to %lu, found 0x%lx",
			   slot, page, id, seen[id][slot][page], count);
	WRITE_ONCE(*p, count + 1);
	WRITE_ONCE(seen[id][slot][page], count + 1);
}

static void guest_code(u64 id, u64 state, u64 written_mask)
{
	u64 i, r, slot, page;

	for (;;) {
		for (i = 0; i < 64; i++) {
			r = rnd(&state);
			slot = r % NR_SLOTS;
			page = r / NR_SLOTS % NPAGES;
			/* All of a page now and then. */
			if (written_mask & BIT(slot))
				guest_count(id, slot, page);
			else
				guest_read(id, slot, page, r >> 40 & 15 ? 73 : 1);
			nr_checks[id]++;
		}
		GUEST_SYNC(0);
	}
}

#endif /* SELFTEST_KVM_USERFAULT_STRESS_H */
