// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The set of pages to look at: nothing that is put in gets lost.
 */
#include "test.h"

static void model(void)
{
	static const uint64_t sizes[] = { 1, 2, 63, 64, 65, 4095, 4096, 4097, 300000 };
	unsigned int i, round, seed = 1;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t nr = sizes[i], n, left = 0, last;
		size_t size = kufi_set_size(nr);
		bool *in = calloc(nr, 1);
		struct kufi_set set;
		void *memory;

		CHECK(size && size % 8 == 0);
		/* Exactly as large as it said: the sanitizers see the rest. */
		memory = calloc(1, size);
		kufi_set_init(&set, nr, memory);
		CHECK(kufi_set_empty(&set));
		CHECK(!kufi_set_take(&set, &n));
		for (round = 0; round < 3000; round++) {
			n = rand_r(&seed) % nr;
			if (round == 7)
				n = nr - 1;
			left += !in[n];
			in[n] = true;
			kufi_set_put(&set, n);
			CHECK(!kufi_set_empty(&set));
			if (rand_r(&seed) % 3)
				continue;
			CHECK(kufi_set_take(&set, &n));
			CHECK(n < nr && in[n]);
			in[n] = false;
			left--;
		}
		for (last = 0; left; left--) {
			CHECK(kufi_set_take(&set, &n));
			CHECK(n < nr && in[n] && n >= last);
			in[n] = false;
			last = n;
		}
		CHECK(!kufi_set_take(&set, &n));
		CHECK(kufi_set_empty(&set));
		free(in);
		free(memory);
	}
}

static void too_large(void)
{
	CHECK(kufi_set_size(1ull << 36));
	EQUAL(kufi_set_size((1ull << 36) + 1), 0);
}

#define RACE_NR		8192
#define RACE_ROUNDS	40000
#define RACE_THREADS	3

static struct kufi_set race_set;
/* All over the place, or so few that the set is empty all the time. */
static unsigned int race_step;
static uint32_t race_put[RACE_NR], race_seen[RACE_NR];
static int race_done;

static void *putter(void *arg)
{
	unsigned int seed = (uintptr_t)arg, i, n;

	for (i = 0; i < RACE_ROUNDS; i++) {
		n = rand_r(&seed) % RACE_NR / race_step * race_step;
		__atomic_fetch_add(&race_put[n], 1, __ATOMIC_SEQ_CST);
		kufi_set_put(&race_set, n);
	}
	__atomic_fetch_add(&race_done, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/*
 * What was put is taken after that: whoever takes a page out sees all that was done
 * before it was put in, so in the end the last look at each is as new as its last put.
 */
static void race(unsigned int step)
{
	pthread_t threads[RACE_THREADS];
	uintptr_t i;
	uint64_t n;

	race_step = step;
	race_done = 0;
	memset(race_put, 0, sizeof(race_put));
	memset(race_seen, 0, sizeof(race_seen));
	kufi_set_init(&race_set, RACE_NR, calloc(1, kufi_set_size(RACE_NR)));
	for (i = 0; i < RACE_THREADS; i++)
		EQUAL(pthread_create(&threads[i], NULL, putter, (void *)(i + 1)), 0);
	for (;;) {
		bool done = __atomic_load_n(&race_done, __ATOMIC_SEQ_CST) == RACE_THREADS;

		if (kufi_set_take(&race_set, &n))
			race_seen[n] = __atomic_load_n(&race_put[n], __ATOMIC_SEQ_CST);
		else if (done)
			break;
	}
	for (i = 0; i < RACE_THREADS; i++)
		pthread_join(threads[i], NULL);
	for (n = 0; n < RACE_NR; n++)
		EQUAL(race_seen[n], race_put[n]);
	free(race_set.level[0]);
}

static void race_wide(void)
{
	race(1);
}

static void race_narrow(void)
{
	unsigned int i;

	for (i = 0; i < 20; i++)
		race(4096);
}

static const struct test tests[] = {
	TEST(model), TEST(too_large), TEST(race_wide), TEST(race_narrow),
};

MAIN(tests)
