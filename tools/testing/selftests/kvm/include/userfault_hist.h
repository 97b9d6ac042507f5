/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Latencies: log2 buckets as in QEMU's "query-migrate" (bucket n counts
 * [2^n us, 2^(n+1) us), bucket 0 also what took less), mean and quantiles.
 */
#ifndef SELFTEST_KVM_USERFAULT_HIST_H
#define SELFTEST_KVM_USERFAULT_HIST_H

#include <stdio.h>
#include <stdlib.h>

#include "test_util.h"

#define USERFAULT_HIST_BUCKETS	24

struct userfault_hist {
	u64 count;
	u64 mean_ns, p50_ns, p99_ns, max_ns;
	u64 bucket[USERFAULT_HIST_BUCKETS];
};

static inline int userfault_hist_cmp(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static inline int userfault_hist_bucket(u64 ns)
{
	u64 us = ns / 1000;
	int n = us ? 63 - __builtin_clzll(us) : 0;

	return n < USERFAULT_HIST_BUCKETS ? n : USERFAULT_HIST_BUCKETS - 1;
}

/* Sorts @ns. */
static inline void userfault_hist_make(struct userfault_hist *h, u64 *ns, u64 nr)
{
	u64 i, sum = 0;

	TEST_ASSERT(nr, "A histogram of nothing");
	*h = (struct userfault_hist) { .count = nr };

	qsort(ns, nr, sizeof(*ns), userfault_hist_cmp);
	for (i = 0; i < nr; i++) {
		sum += ns[i];
		h->bucket[userfault_hist_bucket(ns[i])]++;
	}

	h->mean_ns = sum / nr;
	h->p50_ns = ns[nr / 2];
	h->p99_ns = ns[nr * 99 / 100];
	h->max_ns = ns[nr - 1];
}

/* Machine readable, "n:count,n:count"; empty buckets are left out. */
static inline void userfault_hist_print(const struct userfault_hist *h)
{
	const char *sep = "";
	int n;

	for (n = 0; n < USERFAULT_HIST_BUCKETS; n++) {
		if (!h->bucket[n])
			continue;
		printf("%s%d:%lu", sep, n, h->bucket[n]);
		sep = ",";
	}
}

#endif /* SELFTEST_KVM_USERFAULT_HIST_H */
