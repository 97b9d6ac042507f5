/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_STREAM_DONE_H
#define KUF_STREAM_DONE_H

#include "stream_source.h"

/* For the thread that serves. */

/* Is no page absent any more? */
bool stream_done_is_complete(struct stream_source *ss);
/*
 * Queues DONE, and sets @done_sent; or, of PROTO_DONE_ALL, the next frame before it.  All
 * that came before has to be sent.  -errno: nothing was queued.
 */
int stream_done_put(struct stream_source *ss, enum proto_done_kind kind);
/* Other connections: all of it is told there. */
void stream_done_forget(struct stream_source *ss);
int stream_done_take_bye(struct stream_source *ss, const struct stream_frame *f);

#endif /* KUF_STREAM_DONE_H */
