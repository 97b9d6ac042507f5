// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What is the state of things: pages, statistics; and after a death, setting it right.
 */
#include "internal.h"

int kuf_page_state(struct kuf *k, uint32_t as_id, uint64_t gpa, enum kuf_state *state)
{
	struct kufi_region *region = kufi_region_find(k, as_id, gpa);
	unsigned int now;

	if (!state)
		return -EINVAL;
	if (!region)
		return -ENOENT;
	now = kufi_state(kufi_load(&region->words[(gpa - region->r.gpa) >> k->page_shift]));
	if (now >= KUF_NR_STATES)
		return -EUCLEAN;
	*state = now;
	return 0;
}

static bool matches(struct kufi_region *region, uint64_t page, uint32_t mask)
{
	return KUF_MASK(kufi_state(kufi_load(&region->words[page]))) & mask;
}

int kuf_next(struct kuf *k, struct kuf_cursor *user)
{
	struct kufi_region *region;
	struct kuf_cursor c;
	uint64_t page, from, gpa;
	int ret;

	ret = kufi_copy_in(&c, sizeof(c), user);
	if (ret)
		return ret;
	if (!c.mask || c.mask & ~(KUF_MASK(KUF_NR_STATES) - 1))
		return -EINVAL;
	gpa = c.gpa + c.len;
	/* The end of the address space, or a cursor that was not found by us. */
	if (gpa < c.gpa)
		return -ENOENT;
	for (;;) {
		region = kufi_region_next(k, c.as_id, gpa);
		if (!region)
			return -ENOENT;
		if (gpa < region->r.gpa)
			gpa = region->r.gpa;
		page = (gpa - region->r.gpa) >> k->page_shift;
		while (page < region->nr_pages && !matches(region, page, c.mask))
			page++;
		if (page < region->nr_pages)
			break;
		gpa = region->r.gpa + region->r.len;
		if (!gpa)
			return -ENOENT;
	}
	from = page;
	while (page < region->nr_pages && matches(region, page, c.mask))
		page++;
	c.gpa = kufi_page_gpa(k, region, from);
	c.len = (page - from) << k->page_shift;
	kufi_copy_out(user, &c);
	return 0;
}

void kufi_latency(struct kuf *k, uint64_t ns)
{
	uint64_t us = ns / 1000;
	unsigned int bucket = us ? 63 - __builtin_clzll(us) : 0;

	if (bucket >= KUF_LATENCY_BUCKETS)
		bucket = KUF_LATENCY_BUCKETS - 1;
	KUFI_COUNT(k, latency[bucket], 1);
	KUFI_COUNT(k, latency_sum_ns, ns);
	KUFI_COUNT(k, latency_count, 1);
}

void kufi_count_fault(struct kuf *k, uint64_t flags)
{
	if (flags & KVM_MEMORY_EXIT_FLAG_OWN)
		KUFI_COUNT(k, own, 1);
	if (flags & KVM_MEMORY_EXIT_FLAG_PAGE_WALK)
		KUFI_COUNT(k, walks, 1);
}

int kuf_check(struct kuf *k, uint64_t *wrong)
{
	struct kufi_region *region;
	unsigned int state;
	uint64_t page;

	if (!wrong)
		return -EINVAL;
	*wrong = 0;
	for (region = k->regions; region < k->regions + KUF_MAX_REGIONS; region++) {
		if (!__atomic_load_n(&region->used, __ATOMIC_ACQUIRE))
			continue;
		for (page = 0; page < region->nr_pages; page++) {
			state = kufi_state(kufi_load(&region->words[page]));
			if (state == KUF_FILLING || state == KUF_TAKING)
				continue;
			*wrong += kufi_bit(region, page) != (state != KUF_PRESENT);
		}
	}
	return 0;
}

int kuf_get_stats(struct kuf *k, struct kuf_stats *user)
{
	const uint64_t *from = &k->stats.exits;
	struct kuf_stats stats;
	uint64_t *to = &stats.exits;
	size_t i;
	int ret;

	ret = kufi_copy_in(&stats, sizeof(stats), user);
	if (ret)
		return ret;
	for (i = 0; i < (sizeof(stats) - offsetof(struct kuf_stats, exits)) / 8; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	kufi_copy_out(user, &stats);
	return 0;
}

/* For whoever serves next: what is waited for; what is not may be fetched again. */
static void ask_again(struct kufi_region *region, uint64_t page)
{
	uint32_t *word = &region->words[page], now = kufi_load(word);
	bool fresh;

	switch (kufi_state(now)) {
	case KUF_ABSENT:
		if (!(now & (KUFI_URGENT | KUFI_SLEEPERS)))
			return;
		if (!kufi_page_request(word, KUFI_URGENT, &fresh))
			kufi_set_put(&region->need, page);
		return;
	case KUF_REQUESTED:
		if (now & KUFI_URGENT)
			kufi_set_put(&region->need, page);
		/* If it became urgent just now, it is in the set, and absent is right. */
		else if (!kufi_page_fail(word) && kufi_load(word) & KUFI_URGENT)
			ask_again(region, page);
		return;
	default:
		return;
	}
}

/* A claim of somebody who is gone; what he wrote is overwritten. */
static void revoke(struct kufi_wake *wake, uint64_t page, unsigned int peer)
{
	struct kufi_region *region = wake->region;
	uint32_t *word = &region->words[page], now = kufi_load(word), old;
	unsigned int state = kufi_state(now);
	bool ask = false;
	int ret;

	if ((state != KUF_FILLING && state != KUF_TAKING) || kufi_peer(now) != peer)
		return;
	if (state == KUF_FILLING && !kufi_bit(region, page)) {
		/* All was done but the last step. */
		ret = kufi_page_settle(word, peer, &old);
	} else {
		/* Pages that were present are only taken by the VM's own process. */
		if (state == KUF_TAKING && kufi_prev(now) == KUF_PRESENT)
			kufi_bit_clear(region, page);
		ret = kufi_page_release(word, peer, &old, &ask);
	}
	if (ret)
		return;
	KUFI_COUNT(wake->k, recovered, 1);
	kufi_wake_page(wake, page, old);
	if (ask)
		kufi_set_put(&region->need, page);
}

static void each_word(struct kuf *k, bool recover, unsigned int peer)
{
	struct kufi_wake wake = { .k = k };
	unsigned int i;
	uint64_t page;

	for (i = 0; i < KUF_MAX_REGIONS; i++) {
		wake.region = &k->regions[i];
		if (!__atomic_load_n(&wake.region->used, __ATOMIC_ACQUIRE))
			continue;
		for (page = 0; page < wake.region->nr_pages; page++) {
			if (recover)
				revoke(&wake, page, peer);
			ask_again(wake.region, page);
		}
		kufi_wake_flush(&wake);
	}
	kufi_ahead_restart(k);
	kufi_ring(k);
}

int kuf_retry(struct kuf *k)
{
	each_word(k, false, 0);
	return 0;
}

int kuf_recover(struct kuf *k, uint32_t peer)
{
	int ret = 0;

	if (peer > KUFI_MAX_PEERS || peer == k->peer)
		return -EINVAL;
	each_word(k, true, peer);
	/* Whoever gave the number out may do so again. */
	if (!k->imported && peer && peer <= k->nr_peers)
		__atomic_fetch_or(&k->free_peers[peer / 64], 1ull << peer % 64, __ATOMIC_SEQ_CST);
	/* What he read and did not live to tell. */
	if (k->uffd >= 0 && !k->uffd_end)
		ret = kufi_ioctl(k->uffd, KVM_USERFAULT_REPLAY, NULL);
	return ret == -EPIPE ? 0 : ret;
}
