/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_ORIGIN_H
#define KUF_ORIGIN_H

#include <pthread.h>

#include "mem.h"
#include "stream.h"

/*
 * Serves the memory of a VM that runs elsewhere.  The main connection is served by the
 * thread that calls origin_serve(), the urgent one by a thread of its own, so that no
 * background page is ahead of an urgent one.  Each connection is its thread's alone;
 * what both use is @stop, and counts, which are atomic.
 */
#define ORIGIN_QUEUE	1024	/* ranges asked for and not answered; then it reads no more */

struct origin_counts {
	u64 requests[2];	/* ranges; the second: urgent */
	u64 pages[2];		/* with content */
	u64 zero_pages[2];
	u64 failed;
};

struct origin {
	/* Only its size, and where it is for the guest. */
	const struct mem *mem;
	/* Where [gpa, gpa + len) is, which may wait; -errno.  Any thread. */
	int (*map)(void *opaque, u64 gpa, u64 len, void **ptr);
	void *opaque;
	u64 latency_ns;		/* by which each urgent reply is late, artificially */
	u64 bandwidth;		/* bytes a second of what is not urgent; 0: what goes */

	struct origin_counts counts;
	struct proto_started started;	/* once the destination said so */
	u64 started_ns;
	struct proto_done done;
	bool differs;		/* what it has and what is here */

	int stop;		/* eventfd: both threads end */
};

/* Until the destination needs no more (0), or -errno after a message. */
int origin_serve(struct origin *o, struct stream *main, struct stream *urgent, int cancel);

#endif /* KUF_ORIGIN_H */
