// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Pages are taken away: claim, set the bit, make KVM unmap them, and only then let
 * go of their content.
 */
#include <string.h>

#include "internal.h"

struct take {
	struct kufi_wake wake;
	enum kuf_state to;
	uint64_t first, nr;		/* pages dealt with so far, in this chunk */
	bool held[KUFI_TAKE_CHUNK];	/* claimed here */
	bool mapped[KUFI_TAKE_CHUNK];	/* and the guest had it */
};

/* 0: it is in the chunk.  EBUSY: somebody else is at it. */
static int take_page(struct take *t, uint64_t page)
{
	struct kufi_region *region = t->wake.region;
	uint32_t *word = &region->words[page];
	uint32_t old;
	int ret;

	t->held[t->nr] = false;
	t->mapped[t->nr] = false;
	if (t->to == KUF_DISCARDED) {
		ret = kufi_page_drop(word, &old);
		if (!ret) {
			KUFI_COUNT(t->wake.k, discarded, 1);
			kufi_wake_page(&t->wake, page, old);
		}
		if (ret != -EEXIST)
			return ret == -ESTALE ? 0 : ret;
	}
	ret = kufi_page_take(word, t->wake.k->peer);
	if (ret)
		return ret == -EHWPOISON && t->to == KUF_POISONED ? 0 : ret;
	t->held[t->nr] = true;
	/* The claim is ours: what it was does not change. */
	t->mapped[t->nr] = kufi_prev(kufi_load(word)) == KUF_PRESENT;
	if (t->mapped[t->nr])
		kufi_bit_set(region, page);
	return 0;
}

static int rescan_chunk(struct take *t)
{
	uint64_t from = 0, to = t->nr;

	while (from < to && !t->mapped[from])
		from++;
	while (to > from && !t->mapped[to - 1])
		to--;
	return from == to ? 0 :
	       kufi_rescan(t->wake.k, t->wake.region, t->first + from, to - from);
}

static int punch_chunk(struct take *t)
{
	uint64_t from, to;
	int ret;

	for (from = 0; from < t->nr; from = to) {
		to = from + 1;
		if (!t->mapped[from])
			continue;
		while (to < t->nr && t->mapped[to])
			to++;
		ret = kufi_punch(t->wake.k, t->wake.region, t->first + from, to - from);
		if (ret)
			return ret;
	}
	return 0;
}

static int poison_kvm(struct kuf *k, struct kufi_region *region, uint64_t first, uint64_t nr,
		      uint64_t flags)
{
	struct kvm_userfault_range range = {
		.gpa = kufi_page_gpa(k, region, first),
		.size = nr << k->page_shift,
		.flags = flags,
	};
	int ret;

	if (!(k->features & KVM_USERFAULT_FEATURE_POISON))
		return 0;
	do {
		ret = kufi_ioctl(k->vm_fd, KVM_USERFAULT_POISON, &range);
	} while (ret == -EINTR || (!ret && range.size));
	return ret;
}

static void release(struct take *t, uint64_t i)
{
	struct kufi_region *region = t->wake.region;
	uint64_t page = t->first + i;
	uint32_t old;
	bool ask;

	if (t->mapped[i])
		kufi_bit_clear(region, page);
	if (kufi_page_release(&region->words[page], t->wake.k->peer, &old, &ask))
		return;
	kufi_wake_page(&t->wake, page, old);
	if (ask)
		kufi_need(t->wake.k, region, page);
}

static bool tells_poison(const struct kuf *k, enum kuf_state to)
{
	return to == KUF_POISONED && k->features & KVM_USERFAULT_FEATURE_POISON;
}

/* Does what is to be done with all of the chunk at once, and ends its claims. */
static int finish(struct take *t)
{
	struct kufi_region *region = t->wake.region;
	struct kuf *k = t->wake.k;
	uint64_t i;
	uint32_t old;
	int ret;

	if (!t->nr)
		return 0;
	/* KVM unmaps what it is told is poison by itself. */
	ret = tells_poison(k, t->to) ? 0 : rescan_chunk(t);
	if (!ret && t->to == KUF_DISCARDED)
		ret = punch_chunk(t);
	else if (!ret)
		ret = poison_kvm(k, region, t->first, t->nr, KVM_USERFAULT_POISON_SET);
	for (i = 0; i < t->nr; i++) {
		if (!t->held[i])
			continue;
		if (ret) {
			release(t, i);
			continue;
		}
		if (kufi_page_taken(&region->words[t->first + i], k->peer, t->to, &old))
			continue;
		kufi_count(t->to == KUF_DISCARDED ? &k->stats.discarded : &k->stats.poisoned, 1);
		if (t->to == KUF_POISONED && t->mapped[i])
			KUFI_COUNT(k, lost, 1);
		kufi_wake_page(&t->wake, t->first + i, old);
	}
	kufi_wake_flush(&t->wake);
	t->first += t->nr;
	t->nr = 0;
	return ret;
}

static int take(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len, enum kuf_state to)
{
	struct take t = { .wake.k = k, .to = to };
	uint64_t first, nr, deadline = 0;
	int ret, err;

	ret = kufi_region_range(k, as_id, gpa, len, &t.wake.region, &first, &nr);
	if (ret)
		return ret;
	t.first = first;
	while (t.first + t.nr < first + nr) {
		uint64_t page = t.first + t.nr;

		ret = t.nr == KUFI_TAKE_CHUNK ? -E2BIG : take_page(&t, page);
		if (!ret) {
			t.nr++;
			deadline = 0;
			continue;
		}
		/* Nothing is held while waiting, so that no two wait for each other. */
		err = finish(&t);
		if (err)
			return err;
		if (ret == -EBUSY) {
			if (!deadline)
				deadline = kufi_deadline(k->claim_timeout_ns);
			ret = kufi_wait_claim(&t.wake.region->words[page], deadline);
		} else if (ret == -E2BIG) {
			ret = 0;
		}
		if (ret)
			return ret;
	}
	return finish(&t);
}

int kuf_discard(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len)
{
	return take(k, as_id, gpa, len, KUF_DISCARDED);
}

int kuf_poison(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len)
{
	int ret = take(k, as_id, gpa, len, KUF_POISONED);

	if (!ret && !(k->features & KVM_USERFAULT_FEATURE_POISON))
		ret = -EOPNOTSUPP;
	return ret;
}

/* KVM did not let go of it: it is what it was. */
static void poison_again(struct kufi_wake *wake, uint64_t page)
{
	uint32_t *word = &wake->region->words[page], old;

	if (kufi_page_take(word, wake->k->peer))
		return;
	kufi_bit_set(wake->region, page);
	if (!kufi_page_taken(word, wake->k->peer, KUF_POISONED, &old))
		kufi_wake_page(wake, page, old);
}

/* KVM does not look at the bit: the page is not to be filled while the guest has it. */
static void settle_zero(struct kufi_wake *wake, uint64_t page)
{
	uint32_t *word = &wake->region->words[page], old;

	if (kufi_page_claim(word, wake->k->peer, true))
		return;
	kufi_bit_clear(wake->region, page);
	if (!kufi_page_settle(word, wake->k->peer, &old))
		kufi_wake_page(wake, page, old);
}

/*
 * KVM is told last.  If it let the guest through before, the guest would come to a page
 * that everybody takes for poison.
 */
static int unpoison_page(struct kufi_wake *wake, uint64_t page)
{
	struct kufi_region *region = wake->region;
	uint32_t *word = &region->words[page];
	struct kuf *k = wake->k;
	int ret = 0;

	/* Memory that is broken gives way to other memory. */
	if (!k->imported)
		ret = kufi_punch(k, region, page, 1);
	if (ret && !region->armed)
		return ret;
	if (kufi_page_unpoison(word))
		return 0;
	if (!region->armed)
		settle_zero(wake, page);
	ret = poison_kvm(k, region, page, 1, KVM_USERFAULT_POISON_CLEAR);
	if (ret)
		poison_again(wake, page);
	else
		kufi_wake_page(wake, page, KUFI_EVENT);
	return ret;
}

int kuf_unpoison(struct kuf *k, uint32_t as_id, uint64_t gpa, uint64_t len)
{
	struct kufi_wake wake = { .k = k };
	uint64_t first, nr, i;
	int ret;

	ret = kufi_region_range(k, as_id, gpa, len, &wake.region, &first, &nr);
	for (i = 0; !ret && i < nr; i++) {
		if (kufi_state(kufi_load(&wake.region->words[first + i])) == KUF_POISONED)
			ret = unpoison_page(&wake, first + i);
	}
	if (wake.region)
		kufi_wake_flush(&wake);
	return ret;
}
