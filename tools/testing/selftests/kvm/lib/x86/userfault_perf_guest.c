// SPDX-License-Identifier: GPL-2.0
/*
 * The guest of userfault_perf_test.
 *
 * The vCPUs share the memory out among them.  Each goes through its part
 * twice.  In the first, timed pass it touches every page once, in an order
 * that depends on nothing but the seed, takes the time of that one access and
 * checks three words of the page: checking all 512 would take longer than the
 * fault under emulation.  The second pass checks every word of every page.
 */
#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"
#include "userfault_pattern.h"
#include "userfault_perf.h"

#define PERF_WORDS	(PAGE_SIZE / sizeof(u64))

struct perf_guest perf_guest;

static u64 perf_first_page(struct perf_guest *g, u64 id)
{
	return g->npages * id / g->nr_vcpus;
}

/* A bijection of [0, 2^bits) without much of a pattern. */
static u64 perf_scatter(u64 x, u64 bits, u64 seed)
{
	u64 mask = (1ull << bits) - 1;

	x = ((x ^ seed) * 0x9e3779b97f4a7c15ull) & mask;
	x ^= x >> (bits / 2 + 1);
	x = (x * 0xbf58476d1ce4e5b9ull + seed) & mask;
	return x;
}

static void perf_wrong(struct perf_vcpu *v, enum perf_stage stage,
		       u64 page, u64 word, u64 expected, u64 found)
{
	if (!v->expected) {
		v->page = page;
		v->word = word;
		v->expected = expected;
		v->found = found;
	}
	v->wrong[stage]++;
}

static void perf_touch(struct perf_guest *g, struct perf_vcpu *v, u64 page)
{
	u64 samples[] = { 0, page % PERF_WORDS, PERF_WORDS - 1 };
	u64 *mem = (u64 *)(g->mem + page * PAGE_SIZE);
	u64 *log = (u64 *)g->log;
	u64 start, word, found;
	int i;

	start = rdtsc();
	found = READ_ONCE(mem[0]);
	log[page] = rdtsc() - start;

	for (i = 0; i < ARRAY_SIZE(samples); i++) {
		word = userfault_pattern_word(g->first_gfn + page, g->generation,
					      samples[i]);
		if (i)
			found = READ_ONCE(mem[samples[i]]);
		if (found != word) {
			perf_wrong(v, PERF_TOUCH, page, samples[i], word, found);
			break;
		}
	}

	WRITE_ONCE(v->touched, v->touched + 1);
}

static void perf_check(struct perf_guest *g, struct perf_vcpu *v, u64 page)
{
	u64 *mem = (u64 *)(g->mem + page * PAGE_SIZE);
	int i;

	i = userfault_pattern_check(mem, PAGE_SIZE, g->first_gfn + page,
				    g->generation);
	if (i >= 0)
		perf_wrong(v, PERF_CHECK, page, i,
			   userfault_pattern_word(g->first_gfn + page,
						  g->generation, i),
			   READ_ONCE(mem[i]));
}

void perf_guest_code(u64 id)
{
	struct perf_guest *g = &perf_guest;
	struct perf_vcpu *v = &g->vcpu[id];
	u64 first = perf_first_page(g, id);
	u64 nr = perf_first_page(g, id + 1) - first;
	u64 i, page, bits = 0;

	while ((1ull << bits) < nr)
		bits++;

	/* So that faults on the log itself are none of the first pass. */
	for (page = first; page < first + nr; page++)
		WRITE_ONCE(((u64 *)g->log)[page], 0);

	GUEST_SYNC(PERF_TOUCH);

	for (i = 0; i < (1ull << bits); i++) {
		page = g->sequential ? i : perf_scatter(i, bits, g->seed);
		if (page < nr)
			perf_touch(g, v, first + page);
	}

	GUEST_SYNC(PERF_CHECK);

	for (page = first; page < first + nr; page++)
		perf_check(g, v, page);

	GUEST_DONE();
}
