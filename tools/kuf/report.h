/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_REPORT_H
#define KUF_REPORT_H

#include <kuf/kuf.h>

#include "kuf.h"

/* Without a recording: how many pages that somebody waited for are a working set. */
#define REPORT_WORKING_SET	1024

/*
 * What filling absent pages came to, so far or in the end, whatever engine did it and
 * in however many processes.  Times are those of CLOCK_MONOTONIC in nanoseconds, 0:
 * not yet.  Numbers are pages unless they say otherwise.
 */
struct kuf_report {
	u64 armed_ns;		/* from here on pages were absent */
	u64 resumed_ns;		/* vCPUs run */
	u64 working_set_ns;	/* the recorded set is in, or REPORT_WORKING_SET */
	u64 populated_ns;	/* all pages are present */

	u64 pages;		/* all there are */
	u64 present;
	u64 demand;		/* filled because somebody needed them */
	u64 background;		/* filled ahead of need */
	u64 zero;		/* of both: filled with zeroes */
	u64 failed;		/* attempts: could not be had, or were not what they had to be */
	/*
	 * Present without having been filled, filled more than once, or let go at
	 * another time than that; only known once nothing moves.
	 */
	u64 wrong;

	u64 events;		/* from the userfault fd, or userfaultfd */
	u64 exits;		/* of vCPUs */
	u64 accesses;		/* of devices: pages that were absent */
	u64 own;		/* of events and exits: KVM's own accesses */
	u64 walks;		/* of events and exits: walks of the guest's page tables */
	u64 repeated;		/* found present, or taken care of, when it was their turn */
	u64 poisoned;		/* content lost */

	/* How long somebody waited: bucket n is 2^n to 2^(n+1) us, as in struct kuf_stats. */
	u64 latency_count;
	u64 latency_sum_ns;
	u64 latency[KUF_LATENCY_BUCKETS];
};

/* The report of a machine, at any time: machine_report(), machine.h. */

#endif /* KUF_REPORT_H */
