// SPDX-License-Identifier: GPL-2.0
/*
 * When which page came, written down beside its source.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report_print.h"
#include "trace.h"

/* A power of two; more than are ever outstanding, unless a policy is very deep. */
#define SLOTS	4096

struct asked {
	u64 page;		/* gpa / PAGE_SIZE + 1, as_id above; 0: free */
	u64 ns;
	bool urgent;
};

struct trace_source {
	struct kuf_source_ops ops, to;
	void *source;
	int fd;
	bool failed;
	u64 started_ns;
	pthread_mutex_t lock;	/* asked, nr, failed */
	unsigned int nr;
	struct asked asked[SLOTS];
};

static u64 key_of(u64 gpa, u32 as_id)
{
	return (gpa / PAGE_SIZE + 1) | (u64)as_id << 56;
}

/* The slot of a page, or the free one where it would be. */
static struct asked *find(struct trace_source *t, u64 key)
{
	u64 i = key * 0x9e3779b97f4a7c15 >> 52;

	while (t->asked[i % SLOTS].page && t->asked[i % SLOTS].page != key)
		i++;
	return &t->asked[i % SLOTS];
}

/* With open addressing what comes behind has to move up. */
static void forget(struct trace_source *t, struct asked *slot)
{
	unsigned int i = slot - t->asked;
	struct asked moved;

	slot->page = 0;
	t->nr--;
	for (i = (i + 1) % SLOTS; t->asked[i].page; i = (i + 1) % SLOTS) {
		moved = t->asked[i];
		t->asked[i].page = 0;
		*find(t, moved.page) = moved;
	}
}

static void note_request(struct trace_source *t, const struct kuf_request *r)
{
	u64 gpa, now = report_now_ns();
	struct asked *slot;

	pthread_mutex_lock(&t->lock);
	for (gpa = r->gpa; gpa < r->gpa + r->len; gpa += PAGE_SIZE) {
		slot = find(t, key_of(gpa, r->as_id));
		if (!slot->page) {
			/* A quarter stays free, so that looking for one ends soon. */
			if (t->nr >= SLOTS / 4 * 3)
				break;
			*slot = (struct asked){ .page = key_of(gpa, r->as_id), .ns = now };
			t->nr++;
		}
		slot->urgent |= r->flags & KUF_REQUEST_URGENT;
	}
	pthread_mutex_unlock(&t->lock);
}

/* With the lock. */
static void write_line(struct trace_source *t, u64 now, u64 gpa, const char *kind,
		       const char *zero, u64 since)
{
	char line[128], latency[24] = "-";
	int n;

	if (since)
		snprintf(latency, sizeof(latency), "%llu",
			 (unsigned long long)(now - since) / 1000);
	n = snprintf(line, sizeof(line), "%llu 0x%llx %s%s %s\n",
		     (unsigned long long)(now - t->started_ns) / 1000, (unsigned long long)gpa,
		     kind, zero, latency);
	if (!t->failed && write(t->fd, line, n) != n) {
		kuf_error(-errno, "the trace ends here");
		t->failed = true;
	}
}

static void note_reply(struct trace_source *t, const struct kuf_reply *r)
{
	const char *zero = r->type == KUF_REPLY_ZERO ? "-zero" : "";
	u64 gpa, now = report_now_ns(), since;
	struct asked *slot;
	const char *kind;

	pthread_mutex_lock(&t->lock);
	for (gpa = r->gpa; gpa < r->gpa + r->len; gpa += PAGE_SIZE) {
		slot = find(t, key_of(gpa, r->as_id));
		since = slot->page ? slot->ns : 0;
		kind = slot->page && slot->urgent ? "demand" : "background";
		if (r->type == KUF_REPLY_FAILED || r->type == KUF_REPLY_POISON)
			kind = r->type == KUF_REPLY_FAILED ? "failed" : "poison";
		if (slot->page)
			forget(t, slot);
		write_line(t, now, gpa, kind, zero, since);
	}
	pthread_mutex_unlock(&t->lock);
}

static int request(void *source, const struct kuf_request *r)
{
	struct trace_source *t = source;
	int err = t->to.request(t->source, r);

	if (!err)
		note_request(t, r);
	return err;
}

static int receive(void *source, struct kuf_reply *reply)
{
	struct trace_source *t = source;
	int err = t->to.receive(t->source, reply);

	if (!err)
		note_reply(t, reply);
	return err;
}

static int pollfds(void *source, struct pollfd *fds, unsigned int nr, unsigned int *used,
		   int *timeout_ms)
{
	struct trace_source *t = source;

	return t->to.pollfds(t->source, fds, nr, used, timeout_ms);
}

static int fetch(void *source, const struct kuf_request *r, void *to)
{
	struct trace_source *t = source;
	u64 begin = report_now_ns(), now, gpa;
	int err = t->to.fetch(t->source, r, to);

	now = report_now_ns();
	pthread_mutex_lock(&t->lock);
	for (gpa = r->gpa; gpa < r->gpa + r->len; gpa += PAGE_SIZE)
		write_line(t, now, gpa, err ? "failed" : "demand", "", begin);
	pthread_mutex_unlock(&t->lock);
	return err;
}

static int verify(void *source, const struct kuf_request *page, const void *content)
{
	struct trace_source *t = source;

	return t->to.verify(t->source, page, content);
}

int trace_source_create(struct trace_source **out, const char *path,
			const struct kuf_source_ops *ops, void *source)
{
	static const char head[] = "# time_us gpa kind latency_us\n";
	struct trace_source *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return kuf_error(-ENOMEM, "a trace");
	t->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (t->fd < 0 || write(t->fd, head, sizeof(head) - 1) != sizeof(head) - 1) {
		err = kuf_error(-errno, "--trace=%s", path);
		if (t->fd >= 0)
			close(t->fd);
		free(t);
		return err;
	}
	t->to = *ops;
	t->source = source;
	t->ops = (struct kuf_source_ops){
		.size = sizeof(t->ops),
		.request = ops->request ? request : NULL,
		.receive = ops->receive ? receive : NULL,
		.pollfds = ops->pollfds ? pollfds : NULL,
		.fetch = ops->fetch ? fetch : NULL,
		.verify = ops->verify ? verify : NULL,
	};
	t->started_ns = report_now_ns();
	pthread_mutex_init(&t->lock, NULL);
	*out = t;
	return 0;
}

const struct kuf_source_ops *trace_source_ops(const struct trace_source *t)
{
	return &t->ops;
}

int trace_pager(struct trace_source **out, const char *path, struct pager_config *config)
{
	int err;

	if (!path)
		return 0;
	err = trace_source_create(out, path, config->ops, config->source);
	if (err)
		return err;
	config->ops = trace_source_ops(*out);
	config->source = *out;
	return 0;
}

void trace_source_destroy(struct trace_source *t)
{
	if (!t)
		return;
	close(t->fd);
	free(t);
}
