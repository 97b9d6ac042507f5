/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_STREAM_SIDE_H
#define KUF_STREAM_SIDE_H

#include "stream.h"

/*
 * One of the connections by which pages come: what was asked for on it and did not come
 * yet, and is asked for once more when another connection takes its place.  For one thread.
 */
#define STREAM_ASKED	1024	/* ranges on a connection, unanswered; a power of two */

/* A range that was asked for. */
struct stream_asked {
	u64 gpa, len;
	u64 time_ns;
	u64 missing;		/* a bit a page */
};

/* One of the connections. */
struct stream_side {
	struct stream *s;
	/* Unanswered ones from @first on; a ring, with answered ones among them. */
	struct stream_asked asked[STREAM_ASKED];
	u32 first, end;
	struct proto_range batch[PROTO_RANGES];	/* not put into a frame yet */
	u32 nr_batch;
	u64 last_ns;		/* when something came */
	u32 newest;		/* behind the last one in @asked of which all came */
	/* After a cut: from where to where in @asked all is to be asked for once more. */
	u32 again, again_end, again_page;
};

/* Asks for a range of up to 64 pages, later; -EAGAIN: there is no room now. */
int stream_side_ask(struct stream_side *side, u64 gpa, u64 len);
/* Sends requests; -EAGAIN, without a message: not all of them. */
int stream_side_flush(struct stream_side *side);
/* Something came, or was lost on purpose.  False: that was not asked for, or not any more. */
bool stream_side_answered(struct stream_side *side, u64 gpa, u64 len);
/* The oldest range of which something is missing, or NULL. */
const struct stream_asked *stream_side_oldest(const struct stream_side *side);
/* Did a later reply overtake that one's? */
bool stream_side_overtaken(const struct stream_side *side);
/* Takes @next over, and closes what there was. */
void stream_side_replace(struct stream_side *side, const struct stream *next);

#endif /* KUF_STREAM_SIDE_H */
