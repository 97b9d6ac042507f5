// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A source that reads files.  Two queues: what is urgent goes first.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define BUFFER_SIZE	(64 * 1024)

struct entry {
	uint64_t gpa, len;
	uint32_t as_id;
};

struct queue {
	unsigned int first, nr;
	struct entry *entries;
};

struct kuf_file_source {
	unsigned int depth;	/* of each queue */
	struct queue urgent, background;
	unsigned int nr;
	struct kuf_file_range *ranges;
	uint64_t unit;
	char *buffer;
};

static int check_ranges(const struct kuf_file_range *ranges, unsigned int nr)
{
	const struct kuf_file_range *a, *b;

	for (a = ranges; a < ranges + nr; a++) {
		if (!a->len || a->fd < 0 || a->gpa + (a->len - 1) < a->gpa ||
		    a->offset + a->len < a->len || a->offset + a->len > INT64_MAX)
			return -EINVAL;
		for (b = ranges; b < a; b++)
			if (a->as_id == b->as_id && a->gpa <= b->gpa + (b->len - 1) &&
			    b->gpa <= a->gpa + (a->len - 1))
				return -ERANGE;
	}
	return 0;
}

int kuf_file_source_create(const struct kuf_file_range *ranges, unsigned int nr,
			   unsigned int depth, struct kuf_file_source **out)
{
	struct kuf_file_source *s;
	int ret;

	if (!ranges || !nr || nr > 65536 || depth > 65536)
		return -EINVAL;
	ret = check_ranges(ranges, nr);
	if (ret)
		return ret;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->depth = depth ? depth : 256;
	s->nr = nr;
	s->unit = sysconf(_SC_PAGESIZE);
	s->ranges = malloc(nr * sizeof(*ranges));
	s->urgent.entries = calloc(s->depth, sizeof(struct entry));
	s->background.entries = calloc(s->depth, sizeof(struct entry));
	s->buffer = malloc(BUFFER_SIZE);
	if (!s->ranges || !s->urgent.entries || !s->background.entries || !s->buffer) {
		kuf_file_source_destroy(s);
		return -ENOMEM;
	}
	memcpy(s->ranges, ranges, nr * sizeof(*ranges));
	*out = s;
	return 0;
}

void kuf_file_source_destroy(struct kuf_file_source *s)
{
	if (!s)
		return;
	free(s->ranges);
	free(s->urgent.entries);
	free(s->background.entries);
	free(s->buffer);
	free(s);
}

static const struct kuf_file_range *range_at(const struct kuf_file_source *s, uint32_t as_id,
					     uint64_t gpa)
{
	const struct kuf_file_range *r;

	for (r = s->ranges; r < s->ranges + s->nr; r++)
		if (r->as_id == as_id && r->gpa <= gpa && gpa - r->gpa < r->len)
			return r;
	return NULL;
}

static int read_all(const struct kuf_file_source *s, uint32_t as_id, uint64_t gpa,
		    uint64_t len, char *to)
{
	while (len) {
		const struct kuf_file_range *r = range_at(s, as_id, gpa);
		uint64_t n;
		ssize_t got;

		if (!r)
			return -ENOENT;
		n = r->len - (gpa - r->gpa);
		if (n > len)
			n = len;
		got = pread(r->fd, to, n, r->offset + (gpa - r->gpa));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			return -ENODATA;
		gpa += got;
		to += got;
		len -= got;
	}
	return 0;
}

static int request(void *source, const struct kuf_request *request)
{
	struct kuf_file_source *s = source;
	bool urgent = request->flags & KUF_REQUEST_URGENT;
	struct queue *q = urgent ? &s->urgent : &s->background;

	if (q->nr == s->depth)
		return -EAGAIN;
	q->entries[(q->first + q->nr++) % s->depth] = (struct entry){
		.gpa = request->gpa,
		.len = request->len,
		.as_id = request->as_id,
	};
	return 0;
}

static int receive(void *source, struct kuf_reply *reply)
{
	struct kuf_file_source *s = source;
	struct queue *q = s->urgent.nr ? &s->urgent : &s->background;
	struct entry *e = &q->entries[q->first];
	int ret;

	if (!q->nr)
		return -EAGAIN;
	/* A piece at a time, so that what is urgent does not wait for a long one. */
	reply->gpa = e->gpa;
	reply->as_id = e->as_id;
	reply->len = e->len < BUFFER_SIZE ? e->len : BUFFER_SIZE;
	ret = read_all(s, e->as_id, e->gpa, reply->len, s->buffer);
	if (ret && reply->len > s->unit) {
		/* Which page is it?  The others are good. */
		reply->len = s->unit;
		ret = read_all(s, e->as_id, e->gpa, reply->len, s->buffer);
	}
	reply->type = ret ? KUF_REPLY_FAILED : KUF_REPLY_DATA;
	reply->error = ret;
	reply->data = s->buffer;
	e->gpa += reply->len;
	e->len -= reply->len;
	if (!e->len) {
		q->first = (q->first + 1) % s->depth;
		q->nr--;
	}
	return 0;
}

static int pollfds(void *source, struct pollfd *fds, unsigned int nr, unsigned int *used,
		   int *timeout_ms)
{
	struct kuf_file_source *s = source;

	/* Files are always ready. */
	(void)fds;
	(void)nr;
	(void)used;
	if (s->urgent.nr || s->background.nr)
		*timeout_ms = 0;
	return 0;
}

static int fetch(void *source, const struct kuf_request *request, void *to)
{
	return read_all(source, request->as_id, request->gpa, request->len, to);
}

const struct kuf_source_ops *kuf_file_source_ops(void)
{
	static const struct kuf_source_ops ops = {
		.size = sizeof(ops),
		.request = request,
		.receive = receive,
		.pollfds = pollfds,
		.fetch = fetch,
	};

	return &ops;
}
