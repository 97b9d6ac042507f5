/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_REPORT_PRINT_H
#define KUF_REPORT_PRINT_H

#include <jansson.h>
#include <stdio.h>

#include "report.h"

/* What a report is of. */
struct report_about {
	const char *status;	/* "running", "postcopy-active", ... */
	const char *engine;	/* "kuf" or "uffd" */
	const char *policy;	/* "lazy", ... */
	u64 paused_ns;		/* the guest stood still from here on; 0: not known */
	u64 now_ns;		/* when the report was made */
};

u64 report_now_ns(void);

/* For people: lines that begin with "kuf: ". */
void report_print(const struct kuf_report *r, const struct report_about *about, FILE *to);

/*
 * For programs: an object with the names and units of QEMU's query-migrate where it has
 * one: milliseconds, bytes, latencies in nanoseconds, buckets of microseconds.  NULL: no
 * memory.
 */
json_t *report_json(const struct kuf_report *r, const struct report_about *about);

/* The lower bound of bucket @n: "64 us", "1 ms". */
void report_bound(unsigned int n, char *text, size_t size);

/*
 * The time below which @percent of the waits were, as a bucket's upper bound in
 * microseconds; 0 without any.
 */
u64 report_percentile_us(const struct kuf_report *r, unsigned int percent);

#endif /* KUF_REPORT_PRINT_H */
