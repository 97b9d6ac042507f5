// SPDX-License-Identifier: GPL-2.0
/*
 * Frames on a connection: nothing of what arrives is believed before it was compared
 * with what is allowed and with what is there.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "crc32c.h"
#include "net.h"
#include "stream.h"

static_assert(sizeof(struct proto_header) == 40, "the protocol");
static_assert(sizeof(struct proto_hello) == 64, "the protocol");
static_assert(sizeof(struct proto_resume) == 56, "the protocol");
static_assert(sizeof(struct proto_done) == 40, "the protocol");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers go out as they are");

#define PAGE_MIN	(sizeof(struct proto_page) + sizeof(u32) + PAGE_SIZE)
#define PAGE_MAX	(sizeof(struct proto_page) + PROTO_PAGES * (sizeof(u32) + PAGE_SIZE))
#define RANGES_MAX	(PROTO_RANGES * sizeof(struct proto_range))
#define MAP_MAX		(PROTO_MAP_RANGES * sizeof(struct proto_range))
#define PAYLOAD_MAX	PAGE_MAX
static_assert(MAP_MAX <= PAYLOAD_MAX, "the protocol");
#define FRAME_BYTES_MAX	(sizeof(struct proto_header) + PAYLOAD_MAX)
/* Room for a whole frame behind one of which all but a byte is there. */
#define IN_SIZE		(4 * FRAME_BYTES_MAX)
#define OUT_SIZE	(4 * FRAME_BYTES_MAX)

static const struct {
	const char *name;
	u32 min, max;
} types[PROTO_NR_TYPES] = {
	[PROTO_HELLO] = { "HELLO", sizeof(struct proto_hello), sizeof(struct proto_hello) },
	[PROTO_CONFIG] = { "CONFIG", sizeof(struct proto_config), sizeof(struct proto_config) },
	[PROTO_STATE] = { "STATE", 1, PROTO_STATE_CHUNK },
	[PROTO_END_OF_STATE] = { "END_OF_STATE", sizeof(struct proto_end),
				 sizeof(struct proto_end) },
	[PROTO_READY] = { "READY", sizeof(struct proto_epoch), sizeof(struct proto_epoch) },
	[PROTO_GO] = { "GO", sizeof(struct proto_epoch), sizeof(struct proto_epoch) },
	[PROTO_STARTED] = { "STARTED", sizeof(struct proto_started),
			    sizeof(struct proto_started) },
	[PROTO_REQUEST] = { "REQUEST", sizeof(struct proto_range), RANGES_MAX },
	[PROTO_PAGE] = { "PAGE", PAGE_MIN, PAGE_MAX },
	[PROTO_ZERO] = { "ZERO", sizeof(struct proto_range), RANGES_MAX },
	[PROTO_FAILED] = { "FAILED", sizeof(struct proto_failed), sizeof(struct proto_failed) },
	[PROTO_DONE] = { "DONE", sizeof(struct proto_done), sizeof(struct proto_done) },
	[PROTO_BYE] = { "BYE", sizeof(struct proto_bye), sizeof(struct proto_bye) },
	[PROTO_ABORT] = { "ABORT", 0, PROTO_TEXT_MAX },
	[PROTO_RESUME] = { "RESUME", sizeof(struct proto_resume), sizeof(struct proto_resume) },
	[PROTO_ABSENT] = { "ABSENT", sizeof(struct proto_range), MAP_MAX },
	[PROTO_POISONED] = { "POISONED", sizeof(struct proto_range), MAP_MAX },
};

u64 stream_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

int stream_open(struct stream *s, int fd, const char *name, u64 epoch, int cancel)
{
	*s = (struct stream){ .fd = fd, .name = name, .epoch = epoch, .cancel = cancel };
	if (fd < 0)
		return 0;
	s->in = malloc(IN_SIZE);
	s->out = malloc(OUT_SIZE);
	if (s->in && s->out)
		return 0;
	stream_close(s);
	return kuf_error(-ENOMEM, "buffers for the %s connection", name);
}

void stream_close(struct stream *s)
{
	if (s->fd >= 0)
		close(s->fd);
	free(s->in);
	free(s->out);
	s->fd = -1;
	s->in = NULL;
	s->out = NULL;
}

bool stream_has_room(const struct stream *s)
{
	return OUT_SIZE - (s->out_end - s->out_begin) >= FRAME_BYTES_MAX;
}

static u32 header_crc(const struct proto_header *header, const void *data)
{
	struct proto_header h = *header;

	h.crc = 0;
	return crc32c(crc32c(0, &h, sizeof(h)), data, h.length);
}

int stream_put(struct stream *s, u16 type, u32 flags, const struct iovec *iov, int nr)
{
	struct proto_header header = {
		.magic = PROTO_MAGIC,
		.version = PROTO_VERSION,
		.type = type,
		.flags = flags,
		.epoch = s->epoch,
		.sequence = s->tx_sequence,
	};
	u8 *at, *data;
	int i;

	for (i = 0; i < nr; i++)
		header.length += iov[i].iov_len;
	if (!stream_has_room(s))
		return -EAGAIN;
	if (OUT_SIZE - s->out_end < FRAME_BYTES_MAX) {
		memmove(s->out, s->out + s->out_begin, s->out_end - s->out_begin);
		s->out_end -= s->out_begin;
		s->out_begin = 0;
	}
	at = s->out + s->out_end;
	data = at + sizeof(header);
	for (i = 0; i < nr; data += iov[i++].iov_len)
		memcpy(data, iov[i].iov_base, iov[i].iov_len);
	header.crc = header_crc(&header, at + sizeof(header));
	memcpy(at, &header, sizeof(header));
	s->out_end += sizeof(header) + header.length;
	s->tx_sequence++;
	return 0;
}

int stream_flush(struct stream *s)
{
	ssize_t n;

	while (s->out_begin < s->out_end) {
		n = send(s->fd, s->out + s->out_begin, s->out_end - s->out_begin, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return -EAGAIN;
		if (n < 0)
			return kuf_error(-errno, "sending on the %s connection", s->name);
		s->out_begin += n;
		s->tx_bytes += n;
	}
	s->out_begin = 0;
	s->out_end = 0;
	return 0;
}

int stream_fill(struct stream *s)
{
	ssize_t n;

	if (s->in_begin && IN_SIZE - s->in_end < FRAME_BYTES_MAX) {
		memmove(s->in, s->in + s->in_begin, s->in_end - s->in_begin);
		s->in_end -= s->in_begin;
		s->in_begin = 0;
	}
	if (s->in_end == IN_SIZE)
		return -EAGAIN;
	do {
		n = recv(s->fd, s->in + s->in_end, IN_SIZE - s->in_end, 0);
	} while (n < 0 && errno == EINTR);
	if (!n)
		return -EPIPE;
	if (n < 0)
		return errno == EAGAIN ? -EAGAIN :
		       kuf_error(-errno, "receiving on the %s connection", s->name);
	s->in_end += n;
	s->rx_bytes += n;
	return 0;
}

/* Of a header alone: what follows is not there yet, and maybe never will be. */
static const char *check_header(const struct stream *s, const struct proto_header *h)
{
	if (h->magic != PROTO_MAGIC)
		return "this is no frame";
	if (h->version != PROTO_VERSION)
		return "of a version that this kuf does not speak";
	if (h->length > PAYLOAD_MAX)
		return "too long";
	if (h->reserved || h->flags & ~PROTO_OPTIONAL)
		return "of a kind that this kuf does not know";
	if (h->epoch != s->epoch)
		return "of another epoch";
	if (h->sequence != s->rx_sequence)
		return "out of sequence";
	if (h->type && h->type < PROTO_NR_TYPES) {
		if (h->length < types[h->type].min || h->length > types[h->type].max)
			return "with a length that its type does not have";
	} else if (!(h->flags & PROTO_OPTIONAL)) {
		return "of a type that this kuf does not know";
	}
	return NULL;
}

int stream_bad(struct stream *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->why, sizeof(s->why), fmt, ap);
	va_end(ap);
	return kuf_error(-EBADMSG, "the %s connection: %s", s->name, s->why);
}

static int bad_frame(struct stream *s, const struct proto_header *h, const char *why)
{
	return stream_bad(s, "frame %llu (type %u, %u bytes): %s",
			  (unsigned long long)s->rx_sequence, h->type, h->length, why);
}

int stream_next(struct stream *s, struct stream_frame *frame)
{
	struct proto_header h;
	const char *why;

	for (;;) {
		if (s->in_end - s->in_begin < sizeof(h))
			return 0;
		memcpy(&h, s->in + s->in_begin, sizeof(h));
		why = check_header(s, &h);
		if (why)
			return bad_frame(s, &h, why);
		if (s->in_end - s->in_begin < sizeof(h) + h.length)
			return 0;
		frame->type = h.type;
		frame->length = h.length;
		frame->data = s->in + s->in_begin + sizeof(h);
		if (h.crc != header_crc(&h, frame->data))
			return bad_frame(s, &h, "damaged (CRC32C)");
		s->in_begin += sizeof(h) + h.length;
		s->rx_sequence++;
		if (h.type && h.type < PROTO_NR_TYPES)
			return 1;
	}
}

bool stream_has_frame(const struct stream *s)
{
	u32 there = s->in_end - s->in_begin;
	struct proto_header h;

	if (there < sizeof(h))
		return false;
	memcpy(&h, s->in + s->in_begin, sizeof(h));
	return h.length > PAYLOAD_MAX || there >= sizeof(h) + h.length;
}

static int failed(const struct stream *s, int err, u16 type, const char *what)
{
	return kuf_error(err, "the %s connection: %s %s", s->name, what, types[type].name);
}

/* What is left of @timeout_ms, which began at @start. */
static int left_ms(u64 start, int timeout_ms)
{
	u64 gone = (stream_now_ns() - start) / 1000000;

	return gone < (u64)timeout_ms ? timeout_ms - (int)gone : 0;
}

int stream_send(struct stream *s, u16 type, const void *data, u32 length, int timeout_ms)
{
	struct iovec iov = { .iov_base = (void *)data, .iov_len = length };
	u64 start = stream_now_ns();
	int err = stream_put(s, type, 0, &iov, 1), sent;

	for (;;) {
		sent = stream_flush(s);
		if (sent != -EAGAIN && (sent || !err))
			return sent;
		if (err && stream_is_flushed(s)) {
			err = stream_put(s, type, 0, &iov, 1);
			continue;
		}
		sent = net_wait(s->fd, POLLOUT, left_ms(start, timeout_ms), s->cancel);
		if (sent)
			return failed(s, sent, type, "sending");
	}
}

int stream_aborted(const struct stream *s, const struct stream_frame *frame)
{
	char text[PROTO_TEXT_MAX + 1];
	u32 i;

	for (i = 0; i < frame->length; i++) {
		text[i] = ((const char *)frame->data)[i];
		/* It goes to somebody's terminal. */
		if (text[i] < ' ' || text[i] > '~')
			text[i] = '?';
	}
	text[i] = '\0';
	return kuf_error(-ECONNABORTED, "the other side gives up: %s", text);
}

int stream_receive(struct stream *s, u16 type, struct stream_frame *frame, int timeout_ms)
{
	u64 start = stream_now_ns();
	int r;

	for (;;) {
		r = stream_next(s, frame);
		if (r < 0)
			return r;
		if (r && frame->type == PROTO_ABORT)
			return stream_aborted(s, frame);
		if (r && frame->type != type)
			return stream_bad(s, "%s instead of %s", types[frame->type].name,
					  types[type].name);
		if (r)
			return 0;
		r = stream_fill(s);
		if (!r)
			continue;
		if (r != -EAGAIN)
			return r == -EPIPE ? failed(s, r, type, "waiting for") : r;
		r = net_wait(s->fd, POLLIN, left_ms(start, timeout_ms), s->cancel);
		if (r)
			return failed(s, r, type, "waiting for");
	}
}

void stream_abort(struct stream *s, const char *why)
{
	size_t length = strlen(why);
	struct iovec iov = {
		.iov_base = (void *)why,
		.iov_len = length < PROTO_TEXT_MAX ? length : PROTO_TEXT_MAX,
	};

	if (s->fd < 0 || stream_put(s, PROTO_ABORT, 0, &iov, 1))
		return;
	if (stream_flush(s) == -EAGAIN && !net_wait(s->fd, POLLOUT, 1000, -1))
		stream_flush(s);
}
