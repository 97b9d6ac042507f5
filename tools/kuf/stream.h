/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_STREAM_H
#define KUF_STREAM_H

#include <sys/uio.h>

#include "proto.h"

/*
 * A connection and the frames on it.  It belongs to one thread at a time; who hands it
 * over says so.
 */
struct stream {
	int fd;			/* does not block; closed by stream_close() */
	int cancel;		/* for what waits: ends that when it can be read; or -1 */
	const char *name;	/* for messages */
	u64 epoch;		/* of all frames, both ways */
	u64 tx_sequence, rx_sequence;
	u64 tx_bytes, rx_bytes;
	u8 *in, *out;
	u32 in_begin, in_end;	/* not yet taken */
	u32 out_begin, out_end;	/* not yet sent */
	char why[PROTO_TEXT_MAX];	/* what stream_bad() said */
};

/* One that was received: @data is valid until the next call for that stream. */
struct stream_frame {
	u16 type;
	u32 length;
	const void *data;
};

/* With @fd -1: one that stream_close() may be called for. */
int stream_open(struct stream *s, int fd, const char *name, u64 epoch, int cancel);
void stream_close(struct stream *s);

/* Queues a frame; -EAGAIN, without a message: no room now.  Sends nothing. */
int stream_put(struct stream *s, u16 type, u32 flags, const struct iovec *iov, int nr);
/* Can a frame of any type be queued? */
bool stream_has_room(const struct stream *s);
static inline bool stream_is_flushed(const struct stream *s)
{
	return s->out_begin == s->out_end;
}

/* Sends what is queued; -EAGAIN, without a message: not all of it. */
int stream_flush(struct stream *s);

/*
 * Reads what is there; -EAGAIN, without a message: nothing, or no room before
 * frames are taken; -EPIPE, without a message: the peer has closed.
 */
int stream_fill(struct stream *s);
/*
 * The next frame that is there and that this kuf knows: 1; 0: none.  -EBADMSG after a
 * message: this is no frame, not the next one, or not allowed.  From then on that is
 * all this returns.
 */
int stream_next(struct stream *s, struct stream_frame *frame);
/* Has stream_next() something to return? */
bool stream_has_frame(const struct stream *s);

/* The same, waiting: -ETIMEDOUT and others after a message. */
int stream_send(struct stream *s, u16 type, const void *data, u32 length, int timeout_ms);
/* One of that type; -ECONNABORTED, after a message, when it is ABORT. */
int stream_receive(struct stream *s, u16 type, struct stream_frame *frame, int timeout_ms);
/* What came on it cannot be right: -EBADMSG after a message. */
__attribute__((format(printf, 2, 3)))
int stream_bad(struct stream *s, const char *fmt, ...);
/* ABORT, with an effort to have it sent. */
void stream_abort(struct stream *s, const char *why);
/* Says what the peer's ABORT says. */
int stream_aborted(const struct stream *s, const struct stream_frame *frame);

u64 stream_now_ns(void);

#endif /* KUF_STREAM_H */
