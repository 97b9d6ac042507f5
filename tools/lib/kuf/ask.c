// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Requests to the source, and what is fetched although nobody asked.
 */
#include <string.h>

#include "internal.h"

int kuf_set_source(struct kuf *k, const struct kuf_source_ops *user, void *source)
{
	struct kuf_source_ops ops = {};
	int ret;

	if (user) {
		ret = kufi_copy_in(&ops, sizeof(ops), user);
		if (ret)
			return ret;
		if (!ops.request != !ops.receive)
			return -EINVAL;
	}
	k->ops = ops;
	k->source = source;
	kufi_ahead_restart(k);
	return 0;
}

void kufi_record(struct kuf *k, const struct kufi_region *region, uint64_t page)
{
	const struct kuf_policy *p = &k->ahead.policy;
	uint64_t n, us;

	if (!p->record)
		return;
	n = __atomic_load_n(p->nr_recorded, __ATOMIC_RELAXED);
	do {
		if (n >= p->max_record)
			return;
	} while (!__atomic_compare_exchange_n(p->nr_recorded, &n, n + 1, false,
					      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	us = (kufi_now() - k->ahead.start_ns) / 1000;
	p->record[n].gpa = kufi_page_gpa(k, region, page);
	p->record[n].as_id = region->r.as_id;
	p->record[n].time_us = us > UINT32_MAX ? UINT32_MAX : us;
}

int kufi_ask(struct kuf *k, struct kufi_region *region, uint64_t first, uint64_t nr,
	     uint32_t flags)
{
	struct kuf_request request = {
		.size = sizeof(request),
		.gpa = kufi_page_gpa(k, region, first),
		.len = nr << k->page_shift,
		.region = region->id,
		.as_id = region->r.as_id,
		.flags = flags,
	};
	bool urgent = flags & KUF_REQUEST_URGENT;
	int ret = 0;

	/* Without a source the VMM finds out with kuf_next(). */
	if (k->ops.request)
		ret = k->ops.request(k->source, &request);
	if (ret == -EAGAIN)
		k->source_full = true;
	if (ret)
		return ret;
	kufi_count(urgent ? &k->stats.requests_urgent : &k->stats.requests_background, nr);
	if (urgent)
		kufi_record(k, region, first);
	return 0;
}

int kuf_set_policy(struct kuf *k, const struct kuf_policy *user)
{
	struct kuf_policy p;
	int ret;

	ret = kufi_copy_in(&p, sizeof(p), user);
	if (ret)
		return ret;
	if (p.kind < KUF_LAZY || p.kind > KUF_RECORDED || p.flags & ~KUF_POLICY_THEN_EAGER ||
	    p.depth > KUFI_MAX_DEPTH)
		return -EINVAL;
	if (p.kind == KUF_RECORDED && !p.replay && p.nr_replay)
		return -EINVAL;
	if (p.record && (!p.nr_recorded || *p.nr_recorded > p.max_record))
		return -EINVAL;
	if (!p.depth)
		p.depth = 32;
	memset(&k->ahead, 0, sizeof(k->ahead));
	k->ahead.policy = p;
	k->ahead.start_ns = kufi_now();
	return 0;
}

void kufi_ahead_restart(struct kuf *k)
{
	__atomic_store_n(&k->ahead.restart, true, __ATOMIC_SEQ_CST);
}

/* Forgets what was answered. */
static void settle_out(struct kufi_ahead *a)
{
	unsigned int i, n = 0;

	for (i = 0; i < a->nr_out; i++)
		if (kufi_state(kufi_load(a->out[i])) == KUF_REQUESTED)
			a->out[n++] = a->out[i];
	a->nr_out = n;
}

static void begin(struct kufi_ahead *a)
{
	if (!__atomic_exchange_n(&a->restart, false, __ATOMIC_SEQ_CST))
		return;
	a->next = 0;
	a->gpa = 0;
	a->as_id = 0;
	a->nr_out = 0;
	a->done = false;
}

static bool replays(const struct kufi_ahead *a)
{
	return a->policy.kind == KUF_RECORDED && a->next < a->policy.nr_replay;
}

static bool goes_on(const struct kufi_ahead *a)
{
	return a->policy.kind == KUF_EAGER ||
	       (a->policy.kind == KUF_RECORDED && a->policy.flags & KUF_POLICY_THEN_EAGER);
}

/* The next address space that has regions. */
static bool next_as(struct kuf *k, struct kufi_ahead *a)
{
	uint32_t best = UINT32_MAX;
	unsigned int i;

	for (i = 0; i < KUF_MAX_REGIONS; i++)
		if (k->regions[i].used && k->regions[i].r.as_id > a->as_id &&
		    k->regions[i].r.as_id < best)
			best = k->regions[i].r.as_id;
	a->gpa = 0;
	a->as_id = best;
	return best != UINT32_MAX;
}

/* What failed while somebody needed it waits for kuf_retry(). */
static bool wanted(struct kufi_region *region, uint64_t page)
{
	uint32_t word = kufi_load(&region->words[page]);

	return kufi_state(word) == KUF_ABSENT && !(word & KUFI_URGENT);
}

/* Where to go on; false: not now, or nowhere. *scan bounds how far it looks. */
static bool find_eager(struct kuf *k, struct kufi_region **region, uint64_t *page,
		       unsigned int *scan)
{
	struct kufi_ahead *a = &k->ahead;

	while (!a->done) {
		*region = kufi_region_next(k, a->as_id, a->gpa);
		if (!*region) {
			a->done = !next_as(k, a);
			continue;
		}
		if (a->gpa < (*region)->r.gpa)
			a->gpa = (*region)->r.gpa;
		*page = (a->gpa - (*region)->r.gpa) >> k->page_shift;
		for (; *page < (*region)->nr_pages; ++*page) {
			a->gpa = kufi_page_gpa(k, *region, *page);
			if (!(*scan)--)
				return false;
			if (wanted(*region, *page))
				return true;
		}
		a->gpa = (*region)->r.gpa + (*region)->r.len;
		if (!a->gpa)
			a->done = !next_as(k, a);
	}
	return false;
}

static bool find_recorded(struct kuf *k, struct kufi_region **region, uint64_t *page)
{
	struct kufi_ahead *a = &k->ahead;
	const struct kuf_trace_entry *e;

	for (; replays(a); a->next++) {
		e = &a->policy.replay[a->next];
		*region = kufi_region_find(k, e->as_id, e->gpa);
		if (!*region)
			continue;
		*page = (e->gpa - (*region)->r.gpa) >> k->page_shift;
		if (wanted(*region, *page))
			return true;
	}
	return false;
}

/* Marks up to @max pages from @page on as requested; how many. */
static uint64_t mark(struct kufi_ahead *a, struct kufi_region *region, uint64_t page,
		     uint64_t max)
{
	uint64_t n = 0;
	bool fresh;

	while (n < max && page + n < region->nr_pages && wanted(region, page + n)) {
		if (kufi_page_request(&region->words[page + n], 0, &fresh) || !fresh)
			break;
		a->out[a->nr_out++] = &region->words[page + n++];
	}
	return n;
}

int kufi_ahead_step(struct kuf *k, uint64_t budget, uint64_t *used)
{
	struct kufi_ahead *a = &k->ahead;
	struct kufi_region *region;
	unsigned int scan = 16384;
	uint64_t page, n, i, max;
	bool replaying;
	int ret;

	*used = 0;
	if (!k->ops.request)
		return 0;
	begin(a);
	settle_out(a);
	while (*used < budget && a->nr_out < a->policy.depth) {
		replaying = replays(a);
		if (replaying ? !find_recorded(k, &region, &page) :
		    !goes_on(a) || !find_eager(k, &region, &page, &scan)) {
			if (replaying && goes_on(a))
				continue;
			break;
		}
		max = a->policy.depth - a->nr_out;
		if (max > budget - *used)
			max = budget - *used;
		if (max > KUFI_MAX_RUN)
			max = KUFI_MAX_RUN;
		n = mark(a, region, page, replaying ? 1 : max);
		if (!n)
			continue;
		ret = kufi_ask(k, region, page, n, 0);
		if (ret) {
			for (i = 0; i < n; i++)
				kufi_page_fail(&region->words[page + i]);
			a->nr_out -= n;
			return ret == -EAGAIN ? 0 : ret;
		}
		*used += n;
	}
	return 0;
}

bool kufi_ahead_work(struct kuf *k)
{
	struct kufi_ahead *a = &k->ahead;

	if (!k->ops.request || k->source_full)
		return false;
	if (__atomic_load_n(&a->restart, __ATOMIC_SEQ_CST))
		return a->policy.kind != KUF_LAZY;
	settle_out(a);
	return a->nr_out < a->policy.depth && (replays(a) || (goes_on(a) && !a->done));
}
