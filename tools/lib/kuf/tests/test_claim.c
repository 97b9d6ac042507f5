// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Whoever comes, and however many at once: a page is filled once.  Also built with a
 * library whose claims are broken, which has to be noticed here.
 */
#include "test.h"

#define NR_PAGES	2000
#define NR_THREADS	4

static struct kuf *k;
static uint32_t filled[NR_PAGES], came[NR_PAGES];
static uint64_t done[NR_THREADS];

static int count_fill(void *opaque, uint64_t gpa, const void *data, size_t len)
{
	uint64_t page = (gpa - GPA) / PAGE;
	int i;

	(void)opaque;
	(void)data;
	(void)len;
	if (__atomic_add_fetch(&filled[page], 1, __ATOMIC_SEQ_CST) > 1)
		FAIL("page %lu filled more than once", (unsigned long)page);
	/* The others shall find it claimed, not done; some time after they came they look. */
	while (__atomic_load_n(&came[page], __ATOMIC_SEQ_CST) < NR_THREADS)
		sched_yield();
	for (i = 0; i < 4; i++)
		sched_yield();
	return 0;
}

static void *filler(void *arg)
{
	uintptr_t me = (uintptr_t)arg;
	char data[PAGE] = {};
	uint64_t page, n;

	for (page = 0; page < NR_PAGES; page++) {
		__atomic_add_fetch(&came[page], 1, __ATOMIC_SEQ_CST);
		if (me & 1)
			EQUAL(kuf_install(k, 0, GPA + page * PAGE, PAGE, data, &n), 0);
		else
			EQUAL(kuf_install_zero(k, 0, GPA + page * PAGE, PAGE, &n), 0);
		done[me] += n;
	}
	return NULL;
}

static void once(void)
{
	struct kuf_region r = {
		.size = sizeof(r), .gpa = GPA, .len = NR_PAGES * PAGE, .fd = -1, .gmem_fd = 99,
		.flags = KUF_REGION_PRIVATE, .install = count_fill,
	};
	pthread_t threads[NR_THREADS];
	uint64_t sum = 0, page;
	uintptr_t i;

	k = new_kuf(ALL_FEATURES);
	EQUAL(kuf_region_add(k, &r), 0);
	for (i = 0; i < NR_THREADS; i++)
		EQUAL(pthread_create(&threads[i], NULL, filler, (void *)i), 0);
	for (i = 0; i < NR_THREADS; i++) {
		pthread_join(threads[i], NULL);
		sum += done[i];
	}
	EQUAL(sum, NR_PAGES);
	for (page = 0; page < NR_PAGES; page++) {
		EQUAL(filled[page], 1);
		EQUAL(state_of(k, GPA + page * PAGE), KUF_PRESENT);
	}
	EQUAL(stats_of(k).installed + stats_of(k).zeroed, NR_PAGES);
	EQUAL(stats_of(k).skipped, NR_PAGES * (NR_THREADS - 1));
	kuf_destroy(k);
}

static const struct test tests[] = { TEST(once), };

MAIN(tests)
