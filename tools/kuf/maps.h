/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_MAPS_H
#define KUF_MAPS_H

#include <kuf/kuf.h>

#include "mem.h"
#include "pageset.h"
#include "stream.h"

/*
 * Which pages a destination has not got, and which are poisoned there: frames of ranges,
 * ABSENT and POISONED, whose number of pages was told before them.
 */

/* Of a context of libkuf: the pages in a state of @mask, KUF_MASK(); @set is empty. */
int maps_take(struct pageset *set, struct kuf *k, u32 mask, const struct mem *mem);

/* Fills @ranges from *page on, and moves that; how many: 0: there are no more. */
u32 maps_ranges(const struct pageset *set, const struct mem *mem, u64 *page,
		struct proto_range *ranges, u32 nr);
/* All of @set, waiting: as stream_send(). */
int maps_send(const struct pageset *set, const struct mem *mem, struct stream *s, u16 type,
	      int timeout_ms);

/* What comes in such frames, one after the other. */
struct maps_reader {
	struct pageset *set;
	const struct mem *mem;
	u64 left;		/* pages that have to come still */
	u64 next;		/* the first that may */
};

/* -EBADMSG after a message: this is not what was to come. */
int maps_read(struct maps_reader *r, struct stream *s, const struct stream_frame *frame);
/* All of @nr pages, waiting; @set is empty.  As stream_receive(). */
int maps_receive(struct pageset *set, const struct mem *mem, struct stream *s, u16 type, u64 nr,
		 int timeout_ms);

#endif /* KUF_MAPS_H */
