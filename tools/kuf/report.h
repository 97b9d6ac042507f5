/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_REPORT_H
#define KUF_REPORT_H

#include <stdio.h>

#include "kuf.h"

/* As libkuf's KUF_LATENCY_BUCKETS, and QEMU's: bucket n counts 2^n up to 2^(n+1) us. */
#define REPORT_BUCKETS	24

/*
 * What came of bringing a guest its memory.  Times are CLOCK_MONOTONIC; 0: that did not
 * happen (yet).  Who fills it in has it alone; it is a copy for whoever prints it.
 */
struct kuf_report {
	const char *engine;	/* "kuf" or "uffd" */
	const char *policy;
	u64 started_ns;		/* the command began */
	u64 paused_ns;		/* the guest stood still: at a migration's source */
	u64 resumed_ns;		/* it ran (again) */
	u64 working_set_ns;	/* what was recorded, or the first pages, is there */
	u64 populated_ns;	/* all of memory is there */
	u64 now_ns;		/* when this was filled in */

	u64 total_pages;
	u64 demand_pages;	/* somebody waited for them */
	u64 background_pages;	/* brought before anybody needed them */
	u64 zero_pages;		/* of both: without content */
	u64 wrong_pages;	/* not what was sent, or not filled just once; found in time or not */

	/* How long somebody waited for a page. */
	u64 latency_count;
	u64 latency_sum_ns;
	u64 latency[REPORT_BUCKETS];
};

u64 report_now_ns(void);

static inline u64 report_present(const struct kuf_report *r)
{
	return r->demand_pages + r->background_pages;
}

/* For people: lines that begin with "kuf: ". */
void report_print(const struct kuf_report *r, FILE *to);

/* The bound below bucket @n, as in QEMU's output: "64 us", "1 ms". */
void report_bound(unsigned int n, char *text, size_t size);

/*
 * The time below which @percent of the waits were, as a bucket's upper bound in
 * microseconds; 0 without any.
 */
u64 report_percentile_us(const struct kuf_report *r, unsigned int percent);

/*
 * For programs: a JSON object with the names and units of QEMU's query-migrate where it
 * has one: milliseconds, latencies in nanoseconds, buckets of microseconds.  json_t of
 * the caller's; NULL: no memory.
 */
struct json_t;
struct json_t *report_json(const struct kuf_report *r, const char *status);

#endif /* KUF_REPORT_H */
