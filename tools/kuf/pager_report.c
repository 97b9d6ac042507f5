// SPDX-License-Identifier: GPL-2.0
/*
 * What filling absent pages came to: counts of both processes, points in time, and
 * whether all pages are what they should be.
 */
#include <errno.h>
#include <time.h>

#include "engine_uffd.h"
#include "pager.h"
#include "vm.h"

u64 pager_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

void pager_note_time(u64 *when)
{
	u64 never = 0;

	if (!__atomic_load_n(when, __ATOMIC_RELAXED))
		__atomic_compare_exchange_n(when, &never, pager_now(), false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
}

/* All of them are numbers of the same kind, behind the size. */
#define STATS_BEGIN	offsetof(struct kuf_stats, exits)
#define NR_STATS	((sizeof(struct kuf_stats) - STATS_BEGIN) / sizeof(u64))

static u64 *numbers(struct kuf_stats *stats)
{
	return (u64 *)((char *)stats + STATS_BEGIN);
}

static void publish(struct kuf_stats *to, struct kuf_stats *from)
{
	size_t i;

	for (i = 0; i < NR_STATS; i++)
		__atomic_store_n(&numbers(to)[i], numbers(from)[i], __ATOMIC_RELAXED);
}

void pager_add_stats(struct kuf_stats *to, const struct kuf_stats *from)
{
	const u64 *numbers_from = (const u64 *)((const char *)from + STATS_BEGIN);
	size_t i;

	for (i = 0; i < NR_STATS; i++)
		numbers(to)[i] += __atomic_load_n(&numbers_from[i], __ATOMIC_RELAXED);
}

/*
 * As many were filled, or are lost and will not be, as there are: that is worth a look, as
 * some of these may have been made usable again.
 */
static bool is_populated(struct pager *p, struct kuf *k, u64 filled)
{
	struct kuf_cursor c = {
		.size = sizeof(c),
		.mask = KUF_MASK_ABSENT & ~KUF_MASK(KUF_DISCARDED),
	};

	return filled + __atomic_load_n(&p->shared->never, __ATOMIC_RELAXED) >=
	       p->shared->nr_pages && kuf_next(k, &c) == -ENOENT;
}

static bool working_set_is_in(struct pager *p, struct kuf *k, const struct kuf_stats *stats)
{
	const struct pager_policy *policy = &p->config.policy;
	const struct kuf_trace_entry *e;
	enum kuf_state state;

	if (policy->kind != KUF_RECORDED)
		return stats->demanded + p->shared->demanded_before >= REPORT_WORKING_SET;
	for (; p->replayed < policy->nr_replay; p->replayed++) {
		e = &policy->replay[p->replayed];
		/* What this VM has no memory for does not count. */
		if (!kuf_page_state(k, e->as_id, e->gpa, &state) && state != KUF_PRESENT &&
		    state != KUF_POISONED)
			return false;
	}
	return true;
}

void pager_note_progress(struct pager *p, struct kuf *k)
{
	struct kuf_stats stats = { .size = sizeof(stats) };
	struct pager_shared *shared = p->shared;

	if (kuf_get_stats(k, &stats))
		return;
	if (p->config.mode == PAGER_PROCESS)
		publish(&shared->stats, &stats);
	if (!__atomic_load_n(&shared->working_set_ns, __ATOMIC_RELAXED) &&
	    working_set_is_in(p, k, &stats))
		pager_note_time(&shared->working_set_ns);
	if (!__atomic_load_n(&shared->populated_ns, __ATOMIC_RELAXED) &&
	    is_populated(p, k, stats.installed + stats.zeroed + shared->filled_before))
		pager_note_time(&shared->populated_ns);
}

void pager_note_populated(struct pager *p)
{
	struct kuf_stats stats = { .size = sizeof(stats) };

	if (kuf_get_stats(p->k, &stats))
		return;
	if (p->config.mode == PAGER_PROCESS)
		pager_add_stats(&stats, &p->shared->stats);
	if (is_populated(p, p->k, stats.installed + stats.zeroed + p->shared->filled_before))
		pager_note_time(&p->shared->populated_ns);
}

static u64 count_pages(struct kuf *k, enum kuf_state state)
{
	struct kuf_cursor c = { .size = sizeof(c), .mask = KUF_MASK(state) };
	u64 n = 0;

	while (!kuf_next(k, &c))
		n += c.len / PAGE_SIZE;
	return n;
}

u64 pager_count_present(struct pager *p)
{
	return count_pages(p->k, KUF_PRESENT);
}

static void report_kuf(struct pager *p, struct kuf_report *r)
{
	struct kuf_stats stats = { .size = sizeof(stats) };
	u64 filled, kept, wrong = 0, uncounted = 0;
	size_t i;

	if (kuf_get_stats(p->k, &stats))
		return;
	if (p->config.mode == PAGER_PROCESS)
		pager_add_stats(&stats, &p->shared->stats);
	else if (p->remote)
		remote_add_stats(p, &stats, &uncounted);
	/* By whom they were needed is not known. */
	filled = stats.installed + stats.zeroed + uncounted;
	r->present = pager_count_present(p);
	r->demand = stats.demanded;
	r->background = filled - stats.demanded;
	r->zero = stats.zeroed;
	r->failed = stats.failed;
	r->events = stats.events;
	r->exits = stats.exits;
	r->accesses = stats.accesses;
	r->own = stats.own;
	r->walks = stats.walks;
	r->repeated = stats.skipped;
	r->latency_count = stats.latency_count;
	r->latency_sum_ns = stats.latency_sum_ns;
	for (i = 0; i < KUF_LATENCY_BUCKETS; i++)
		r->latency[i] = stats.latency[i];
	if (!p->stopped)
		return;
	kuf_check(p->k, &wrong);
	/* Some were filled, and then lost. */
	kept = filled - stats.lost;
	r->wrong = wrong + (kept > r->present ? kept - r->present : r->present - kept);
}

void pager_report(struct pager *p, struct kuf_report *r)
{
	*r = (struct kuf_report){};
	if (p->poison)
		r->poisoned = count_pages(p->poison, KUF_POISONED);
	if (!p->armed_ns)
		return;
	r->armed_ns = p->armed_ns;
	r->resumed_ns = p->vm->resumed_ns;
	r->working_set_ns = __atomic_load_n(&p->shared->working_set_ns, __ATOMIC_RELAXED);
	r->populated_ns = __atomic_load_n(&p->shared->populated_ns, __ATOMIC_RELAXED);
	r->pages = p->nr_pages;
	if (p->k)
		report_kuf(p, r);
	else
		engine_uffd_report(p, r);
}

static void say_remote(struct pager *p)
{
	struct kuf_stats stats = { .size = sizeof(stats) };
	struct remote_status status;
	u64 uncounted;

	if (!p->remote)
		return;
	remote_get_status(p, &status);
	remote_add_stats(p, &stats, &uncounted);
	kuf_say("lazy: pagers %u, not counted by those that died: %llu", status.pagers,
		(unsigned long long)uncounted);
}

int pager_final_report(struct pager *p)
{
	struct kuf_report r;

	pager_report(p, &r);
	kuf_say("lazy: %llu of %llu pages filled, %llu present, %llu wrong",
		(unsigned long long)(r.demand + r.background), (unsigned long long)r.pages,
		(unsigned long long)r.present, (unsigned long long)r.wrong);
	kuf_say("lazy: %llu events, %llu exits, %llu asked for",
		(unsigned long long)r.events, (unsigned long long)r.exits,
		(unsigned long long)r.accesses);
	kuf_say("lazy: of these %llu own, %llu page walks, %llu repeated",
		(unsigned long long)r.own, (unsigned long long)r.walks,
		(unsigned long long)r.repeated);
	kuf_say("lazy: needed %llu, ahead of need %llu, zeroes %llu, failed %llu",
		(unsigned long long)r.demand, (unsigned long long)r.background,
		(unsigned long long)r.zero, (unsigned long long)r.failed);
	say_remote(p);
	if (!r.wrong)
		return 0;
	return kuf_error(-EIO, "%llu pages were not filled once and then let go",
			 (unsigned long long)r.wrong);
}
