/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_PROGRESS_H
#define KUF_PROGRESS_H

#include <pthread.h>
#include <stdio.h>

#include "kuf.h"

struct progress_counts {
	u64 total;		/* pages */
	u64 present;
	u64 demand;		/* of these: somebody waited */
	bool end;		/* there will be no more */
};

/*
 * Tells how far memory is there, by a thread that asks get() again and again: on a
 * terminal a line that is drawn anew, otherwise a line for each tenth.
 */
struct progress {
	/* Any thread's; must not wait for the guest. */
	void (*get)(void *opaque, struct progress_counts *counts);
	void *opaque;
	FILE *to;
	bool tty;
	u64 started_ns;

	/* The thread's own. */
	unsigned int told;	/* tenths */

	pthread_mutex_t lock;	/* stop */
	pthread_cond_t cond;
	bool stop;
	pthread_t thread;
	bool has_thread;
};

/* @to: stderr. */
int progress_start(struct progress *p, FILE *to,
		   void (*get)(void *opaque, struct progress_counts *counts), void *opaque);
/* Tells the last state; also for one that was never started. */
void progress_stop(struct progress *p);

/*
 * A line of at most @columns characters, without its end: "[=====>     ]  52 %  8520 of
 * 16384 pages, 1203 on demand, 5.1 s".
 */
void progress_line(char *text, size_t size, unsigned int columns,
		   const struct progress_counts *c, double seconds);

#endif /* KUF_PROGRESS_H */
