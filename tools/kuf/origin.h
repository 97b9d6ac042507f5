/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_ORIGIN_H
#define KUF_ORIGIN_H

#include <pthread.h>

#include "mem.h"
#include "pageset.h"
#include "stream.h"

/*
 * Serves the memory of a VM that runs elsewhere.  The main connection is served by the
 * thread that calls origin_serve(), the urgent one by a thread of its own, so that no
 * background page is ahead of an urgent one.  Each connection is its thread's alone;
 * what both use is @stop, and counts and sets, which are atomic.  @told is main's.
 */
#define ORIGIN_QUEUE	1024	/* ranges asked for and not answered; then it reads no more */

struct origin_counts {
	u64 requests[2];	/* ranges; the second: urgent */
	u64 pages[2];		/* with content */
	u64 zero_pages[2];
	u64 failed;
	u64 poisoned;
};

struct origin {
	/* Only its size, and where it is for the guest. */
	const struct mem *mem;
	/*
	 * Where [gpa, gpa + len) is, without waiting.  -EAGAIN: it is absent here, too, and is
	 * on its way, or will be; -EHWPOISON: lost; -ECANCELED: this side ends; -ENOLINK: it
	 * is lost, and nobody may be told: the connections end; -errno.  Any thread.
	 */
	int (*map)(void *opaque, u64 gpa, u64 len, void **ptr);
	/*
	 * The page at @ptr was found to be broken; or NULL.  0: the destination may be told;
	 * -errno after a message: not yet, as with -ENOLINK.  Any thread.
	 */
	int (*lost)(void *opaque, const void *ptr);
	void *opaque;
	u64 latency_ns;		/* by which each urgent reply is late, artificially */
	u64 bandwidth;		/* bytes a second of what is not urgent; 0: what goes */

	/* origin_begin() to origin_end(); their counts stay. */
	struct pageset absent;		/* not sent, or it was said that it is absent there */
	struct pageset poisoned;	/* here or there: never sent, and not in the digest */
	struct pageset told;		/* by the destination, to be poisoned there */

	struct origin_counts counts;
	struct proto_started started;	/* once the destination said so */
	u64 started_ns;
	struct proto_done done;
	bool differs;		/* what it has and what is here */

	int stop;		/* eventfd: both threads end */
};

/* Before the VM leaves: all of its memory is absent there. */
int origin_begin(struct origin *o);
/* Also for one that never began. */
void origin_end(struct origin *o);
/* The destination connects again: takes over what it says to be absent and poisoned. */
void origin_resume(struct origin *o, struct pageset *absent, struct pageset *poisoned);
/* Until the destination needs no more (0), or -errno after a message. */
int origin_serve(struct origin *o, struct stream *main, struct stream *urgent, int cancel);

#endif /* KUF_ORIGIN_H */
