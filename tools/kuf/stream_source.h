/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_STREAM_SOURCE_H
#define KUF_STREAM_SOURCE_H

#include <kuf/kuf.h>
#include <pthread.h>

#include "break.h"
#include "mem.h"
#include "pageset.h"
#include "stream_side.h"

/*
 * The memory of a VM that came here, as a source of pages for libkuf (struct
 * kuf_source_ops): it asks the origin for them, by the connections of the migration.
 *
 * Threads: all but what says otherwise is for the one that serves (kuf_service()).  Until
 * stream_source_start() the connections are somebody else's, and requests wait.
 */

struct stream_source_counts {
	u64 demand_pages;	/* on the urgent connection, with content */
	u64 background_pages;
	u64 zero_pages;		/* on either */
	u64 repeated_pages;	/* had come before, on the other one */
	u64 wrong_pages;	/* refused, or found to be let go too early */
	u64 lost_pages;		/* lost at the source, and poisoned here */
};

enum stream_source_end {
	STREAM_SOURCE_SERVES,
	STREAM_SOURCE_COMPLETE,	/* all pages came, and both sides say so */
	STREAM_SOURCE_CUT,	/* the origin is gone, until stream_source_replace() */
	STREAM_SOURCE_BAD,	/* what came cannot be right */
};

struct stream_source {
	const struct mem *mem;	/* only its size, and where it is for the guest */
	struct kuf *k;		/* of the guest; NULL: not known (userfaultfd) */
	int timeout_ms;		/* for an urgent reply; for any, on main */
	enum break_kind fault;
	struct stream_source_counts counts;	/* others may read them (READ_ONCE) */
	enum stream_source_end end;		/* this one too */

	int bell;		/* eventfd: look at @open and @has_next */
	bool open, rung;
	/* Connections in place of those that there are; any thread, with @lock. */
	pthread_mutex_t lock;
	struct stream next[2];
	bool has_next;
	struct stream_side sides[2];	/* main, urgent: in this order */
	bool done_sent, urgent_closed;

	/* Of each page: the CRC32C of what came, if something did. */
	u32 *crcs;
	struct pageset came;	/* others may look */
	struct pageset cleared;	/* usable, and zero, whether or not they come; any thread adds */
	u64 nr_never;		/* without k: poisoned from the beginning on */
	u64 absent_from;	/* no page before this one is absent */
	bool complete;		/* none is; others may read it */
	/* From the first POISONED to DONE: what they tell, and the first page not told yet. */
	struct pageset told;
	u64 next_told;

	/* What is left of a ZERO. */
	struct stream_side *ranges_side;
	struct proto_range ranges[PROTO_RANGES];
	u32 next_range, nr_ranges;
	u8 page[PAGE_SIZE];	/* BREAK_FLIP */
	bool faulted;
};

/* Refers to @main and @urgent, and to @mem. */
int stream_source_init(struct stream_source *ss, const struct mem *mem, struct stream *main,
		       struct stream *urgent);
void stream_source_free(struct stream_source *ss);

/* For kuf_set_source(). */
const struct kuf_source_ops *stream_source_ops(void);

/* Any thread: the connections are this source's from now on; GO came on them. */
void stream_source_start(struct stream_source *ss);
/*
 * Any thread, after stream_source_start(): takes over @main and @urgent, on which the
 * origin waits for requests; what was asked for and did not come is asked for there.
 */
void stream_source_replace(struct stream_source *ss, struct stream *main,
			   struct stream *urgent);
/*
 * Any thread, before it: poisoned pages are to be zero, and what the origin has of them does
 * not count any more if it did not come.  Without @k those come that did not come before.
 */
void stream_source_clear(struct stream_source *ss, u64 gpa, u64 len);
/*
 * Any thread, with nobody serving any more: the guest ended, and the origin is told,
 * unless it has been told that all is there.  Waits for it, but not for long.
 */
void stream_source_finish(struct stream_source *ss);

#endif /* KUF_STREAM_SOURCE_H */
