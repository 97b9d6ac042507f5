// SPDX-License-Identifier: GPL-2.0
/*
 * A thread that wants to run every few milliseconds, before all others: how much later
 * it does is what a user of the guest would notice of a pause.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "guest.h"

#define TICK_NS	10000000l

static pthread_t thread;
static bool stop;
static uint64_t gap_ns;		/* since ticks_take_gap() */
static uint64_t largest_ns, ticks;

static void *tick(void *arg)
{
	const struct timespec step = { .tv_nsec = TICK_NS };
	uint64_t last = now_ns(), t, gap, old;

	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		nanosleep(&step, NULL);
		t = now_ns();
		if (t < last + TICK_NS)
			failed("the clock: %llu ns after %llu ns", (unsigned long long)t,
			       (unsigned long long)last);
		gap = t - last - TICK_NS;
		old = __atomic_load_n(&gap_ns, __ATOMIC_RELAXED);
		while (gap > old && !__atomic_compare_exchange_n(&gap_ns, &old, gap, true,
								 __ATOMIC_RELAXED,
								 __ATOMIC_RELAXED))
			;
		largest_ns = gap > largest_ns ? gap : largest_ns;
		last = t;
		ticks++;
	}
	return NULL;
}

int ticks_start(void)
{
	struct sched_param first = { .sched_priority = 1 };
	int err = pthread_create(&thread, NULL, tick, NULL);

	return err ?: pthread_setschedparam(thread, SCHED_FIFO, &first);
}

uint64_t ticks_take_gap(void)
{
	return __atomic_exchange_n(&gap_ns, 0, __ATOMIC_RELAXED) / 1000;
}

void ticks_stop(void)
{
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	printf("guest: %llu ticks, largest gap %llu us\n", (unsigned long long)ticks,
	       (unsigned long long)largest_ns / 1000);
}
