// SPDX-License-Identifier: GPL-2.0
/*
 * Where the memory of a VM that has left comes from.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bell.h"
#include "crc32c.h"
#include "maps.h"
#include "origin_read.h"

/* After the other connection ended: how long the main one may say why. */
#define LAST_WORDS_MS	2000
/* What may be sent at once when there is a limit. */
#define BURST		(2 * PROTO_PAGES * PAGE_SIZE)
/* How soon what is absent here, too, is looked for again. */
#define PAUSE_MIN_NS	1000000
#define PAUSE_MAX_NS	32000000

struct wish {
	u64 gpa, len;
	u64 due_ns;
};

/* One connection, in its thread. */
struct server {
	struct origin *o;
	struct stream *s;
	bool urgent;
	bool over;		/* BYE is all that is left to be sent */
	struct maps_reader told;	/* of what comes before DONE, on main */
	u8 pages[PROTO_PAGES][PAGE_SIZE];	/* copies */
	struct wish queue[ORIGIN_QUEUE];	/* a ring */
	u32 first, nr;
	struct wish parked[ORIGIN_QUEUE];	/* absent here as well, until @look_ns */
	u32 nr_parked;
	u64 look_ns, pause_ns;
	u64 budget, budget_ns;	/* bytes, and since when it grows */
	int err;
};

static void count(u64 *counter, u64 n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

int origin_begin(struct origin *o)
{
	u64 nr = o->mem->size / PAGE_SIZE;
	int err;

	err = pageset_make(&o->absent, nr);
	if (!err)
		err = pageset_make(&o->poisoned, nr);
	if (!err)
		pageset_add_all(&o->absent);
	return err;
}

void origin_end(struct origin *o)
{
	pageset_free(&o->absent);
	pageset_free(&o->poisoned);
	pageset_free(&o->told);
}

static void add_poison(struct origin *o, const struct pageset *set)
{
	u64 page = 0, nr;

	while (pageset_next(set, &page, &nr)) {
		for (; nr; nr--, page++) {
			pageset_add(&o->poisoned, page);
			pageset_remove(&o->absent, page);
		}
	}
}

void origin_resume(struct origin *o, struct pageset *absent, struct pageset *poisoned)
{
	pageset_free(&o->absent);
	o->absent = *absent;
	*absent = (struct pageset){};
	add_poison(o, poisoned);
}

static void sent(struct origin *o, u64 gpa, u64 nr)
{
	u64 page = origin_page(o, gpa);

	while (nr--)
		pageset_remove(&o->absent, page++);
}

static int reply_failed(struct server *v, const struct wish *w, u64 nr, int err)
{
	struct proto_failed failed = { .gpa = w->gpa, .len = nr * PAGE_SIZE, .err = err };
	struct iovec iov = { &failed, sizeof(failed) };

	/* What is lost is the destination's to know, too. */
	if (err == -EHWPOISON) {
		count(&v->o->counts.poisoned, nr);
		return stream_put(v->s, PROTO_FAILED, 0, &iov, 1);
	}
	kuf_error(err, "the page at 0x%llx, which the destination needs",
		  (unsigned long long)w->gpa);
	count(&v->o->counts.failed, nr);
	return stream_put(v->s, PROTO_FAILED, 0, &iov, 1);
}

static int reply_zero(struct server *v, const struct wish *w, u64 nr)
{
	struct proto_range range = { .gpa = w->gpa, .len = nr * PAGE_SIZE };
	struct iovec iov = { &range, sizeof(range) };

	count(&v->o->counts.zero_pages[v->urgent], nr);
	sent(v->o, w->gpa, nr);
	return stream_put(v->s, PROTO_ZERO, 0, &iov, 1);
}

static int reply_pages(struct server *v, const struct wish *w, const u8 *pages, u32 nr)
{
	struct proto_page head = { .gpa = w->gpa, .nr = nr };
	u32 crcs[PROTO_PAGES], i;
	struct iovec iov[] = {
		{ &head, sizeof(head) },
		{ crcs, nr * sizeof(crcs[0]) },
		{ (void *)pages, nr * PAGE_SIZE },
	};

	for (i = 0; i < nr; i++)
		crcs[i] = crc32c(0, pages + i * PAGE_SIZE, PAGE_SIZE);
	count(&v->o->counts.pages[v->urgent], nr);
	sent(v->o, w->gpa, nr);
	return stream_put(v->s, PROTO_PAGE, 0, iov, 3);
}

/*
 * The beginning of @w is absent here, too: what else is asked for does not wait for it.
 * How many pages that is.
 */
static int park(struct server *v, const struct wish *w)
{
	struct wish *p = &v->parked[v->nr_parked++];

	if (v->nr_parked == 1)
		v->look_ns = stream_now_ns() + v->pause_ns;
	*p = *w;
	/* If there is room for the rest of @w besides. */
	if (v->nr + v->nr_parked <= ORIGIN_QUEUE)
		p->len = PAGE_SIZE;
	return p->len / PAGE_SIZE;
}

static void look_again(struct server *v)
{
	u32 i;

	for (i = 0; i < v->nr_parked; i++)
		v->queue[(v->first + v->nr++) % ORIGIN_QUEUE] = v->parked[i];
	v->nr_parked = 0;
	v->pause_ns = 2 * v->pause_ns < PAUSE_MAX_NS ? 2 * v->pause_ns : PAUSE_MAX_NS;
}

/* A frame for the beginning of the oldest wish; there is room for it. */
static int reply(struct server *v)
{
	struct wish *w = &v->queue[v->first];
	u64 nr = w->len / PAGE_SIZE;
	int n, err;

	n = origin_read(v->o, w->gpa, nr < PROTO_PAGES ? nr : PROTO_PAGES, v->pages[0]);
	if (origin_is_over(n))
		return n;
	if (n > 0)
		v->pause_ns = PAUSE_MIN_NS;
	if (n == -EAGAIN) {
		n = park(v, w);
		err = 0;
	} else if (n < 0) {
		err = n;
		n = err == -EHWPOISON ? origin_lost_run(v->o, w->gpa, nr) : nr;
		err = reply_failed(v, w, n, err);
	} else if (origin_is_zero(v->pages[0])) {
		err = reply_zero(v, w, n);
	} else {
		err = reply_pages(v, w, v->pages[0], n);
		v->budget -= n * PAGE_SIZE < v->budget ? n * PAGE_SIZE : v->budget;
	}
	w->gpa += n * PAGE_SIZE;
	w->len -= n * PAGE_SIZE;
	if (!w->len) {
		v->first = (v->first + 1) % ORIGIN_QUEUE;
		v->nr--;
	}
	return err;
}

static void grow_budget(struct server *v, u64 now)
{
	u64 more = (double)(now - v->budget_ns) / 1e9 * v->o->bandwidth;

	if (!more)
		return;
	v->budget_ns = now;
	v->budget = v->budget + more < BURST ? v->budget + more : BURST;
}

/* When the next reply is to be made: 0: now; ~0: nothing is asked for. */
static u64 queue_due(struct server *v, u64 now)
{
	if (!v->nr)
		return ~0ull;
	if (v->urgent)
		return v->queue[v->first].due_ns > now ? v->queue[v->first].due_ns : 0;
	if (!v->o->bandwidth)
		return 0;
	grow_budget(v, now);
	if (v->budget >= PROTO_PAGES * PAGE_SIZE)
		return 0;
	return now + (PROTO_PAGES * PAGE_SIZE - v->budget) * 1e9 / v->o->bandwidth + 1;
}

static u64 next_due(struct server *v, u64 now)
{
	u64 due;

	if (v->nr_parked && v->look_ns <= now)
		look_again(v);
	due = queue_due(v, now);
	return v->nr_parked && v->look_ns < due ? v->look_ns : due;
}

static bool has_room(const struct server *v)
{
	return v->nr + v->nr_parked + PROTO_RANGES <= ORIGIN_QUEUE;
}

static int take_request(struct server *v, const struct stream_frame *f)
{
	u64 due = stream_now_ns() + v->o->latency_ns;
	struct proto_range range;
	u32 i;

	if (f->length % sizeof(range))
		return stream_bad(v->s, "a REQUEST of %u bytes", f->length);
	for (i = 0; i < f->length / sizeof(range); i++) {
		memcpy(&range, (const u8 *)f->data + i * sizeof(range), sizeof(range));
		if (!range.len || range.gpa % PAGE_SIZE || range.len % PAGE_SIZE ||
		    range.len > PROTO_REQUEST_PAGES * PAGE_SIZE ||
		    mem_offset(v->o->mem, range.gpa, range.len) < 0)
			return stream_bad(v->s, "a REQUEST for 0x%llx, 0x%llx bytes",
					  (unsigned long long)range.gpa,
					  (unsigned long long)range.len);
		v->queue[(v->first + v->nr++) % ORIGIN_QUEUE] =
			(struct wish){ range.gpa, range.len, due };
	}
	count(&v->o->counts.requests[v->urgent], i);
	return 0;
}

/* Also what was on its way when the destination said what was absent, and came. */
static void all_came(struct origin *o)
{
	u64 page = 0, nr;

	for (; pageset_next(&o->absent, &page, &nr); page++)
		pageset_remove(&o->absent, page);
}

static int compare(struct server *v, u64 theirs, u32 *differs)
{
	struct origin *o = v->o;
	u64 ours;
	int err;

	add_poison(o, &o->told);
	err = origin_digest(o, v->pages[0], &ours);
	if (err == -EAGAIN)
		return stream_bad(v->s, "a DONE, but pages did not come here yet");
	if (err)
		return err;
	if (o->poisoned.count > o->told.count)
		kuf_say("pages that the destination has were lost here: nothing to compare with");
	else
		*differs = ours != theirs;
	return 0;
}

static int take_done(struct server *v, const struct stream_frame *f)
{
	struct proto_bye bye = {};
	struct iovec iov = { &bye, sizeof(bye) };
	struct proto_done done;
	int err;

	memcpy(&done, f->data, sizeof(done));
	if (done.kind < PROTO_DONE_ALL || done.kind > PROTO_DONE_BAD || done.reserved)
		return stream_bad(v->s, "a DONE of kind %u", done.kind);
	if (done.poisoned != v->o->told.count)
		return stream_bad(v->s, "a DONE with %llu poisoned pages, where %llu were told",
				  (unsigned long long)done.poisoned,
				  (unsigned long long)v->o->told.count);
	v->o->done = done;
	if (done.kind == PROTO_DONE_BAD)
		return kuf_error(-EBADMSG, "the destination could not use what it was sent");
	if (done.kind == PROTO_DONE_ALL) {
		err = compare(v, done.digest, &bye.differs);
		if (err)
			return err;
		all_came(v->o);
	}
	v->over = true;
	v->o->differs = bye.differs;
	return stream_put(v->s, PROTO_BYE, 0, &iov, 1);
}

static int handle(struct server *v, const struct stream_frame *f)
{
	if (f->type == PROTO_REQUEST)
		return take_request(v, f);
	if (f->type == PROTO_ABORT)
		return stream_aborted(v->s, f);
	if (!v->urgent && f->type == PROTO_STARTED && !v->o->started_ns) {
		memcpy(&v->o->started, f->data, sizeof(v->o->started));
		__atomic_store_n(&v->o->started_ns, stream_now_ns(), __ATOMIC_RELEASE);
		return 0;
	}
	if (!v->urgent && f->type == PROTO_POISONED)
		return maps_read(&v->told, v->s, f);
	if (!v->urgent && f->type == PROTO_DONE)
		return take_done(v, f);
	return stream_bad(v->s, "a frame of type %u does not belong here", f->type);
}

/* All that is there, as long as it can be remembered. */
static int receive(struct server *v)
{
	struct stream_frame f;
	int r;

	while (!v->over && has_room(v)) {
		r = stream_next(v->s, &f);
		if (r > 0)
			r = handle(v, &f);
		else if (!r)
			r = stream_fill(v->s);
		if (r == -EAGAIN)
			return 0;
		if (r == -EPIPE)
			return kuf_error(r, "the destination is gone: the %s connection",
					 v->s->name);
		if (r)
			return r;
	}
	return 0;
}

/* What can be sent without waiting for the peer. */
static int answer(struct server *v, u64 *due)
{
	int err = 0, i = 0;

	do {
		*due = next_due(v, stream_now_ns());
		if (*due || !stream_has_room(v->s))
			break;
		err = reply(v);
	} while (!err && ++i < 8);
	if (err)
		return err;
	err = stream_flush(v->s);
	return err == -EAGAIN ? 0 : err;
}

/* How long nothing is to be done; NULL: for ever. */
static const struct timespec *until(u64 due, struct timespec *ts)
{
	u64 now = stream_now_ns(), left = due > now ? due - now : 0;

	if (due == ~0ull)
		return NULL;
	*ts = (struct timespec){ left / 1000000000, left % 1000000000 };
	return ts;
}

/* Waits until there is something to do: 1; 0: to end; -errno. */
static int wait_for_work(struct server *v, u64 due, int cancel)
{
	struct pollfd fds[] = {
		{ .fd = v->s->fd },
		{ .fd = v->o->stop, .events = POLLIN },
		{ .fd = cancel, .events = POLLIN },
	};
	struct timespec ts;

	if (!v->over && has_room(v))
		fds[0].events |= POLLIN;
	if (!stream_is_flushed(v->s))
		fds[0].events |= POLLOUT;
	/* What is due but has no room waits for the peer to take something. */
	if (v->over || !stream_has_room(v->s))
		due = ~0ull;
	if (ppoll(fds, ARRAY_SIZE(fds), until(due, &ts), NULL) < 0)
		return errno == EINTR ? 1 : kuf_error(-errno, "poll");
	if (fds[2].revents)
		return -ECANCELED;
	if (fds[0].revents & (POLLERR | POLLHUP) && !(fds[0].events & POLLIN))
		return kuf_error(-EPIPE, "the destination is gone: the %s connection",
				 v->s->name);
	return !fds[1].revents;
}

static int serve(struct server *v, int cancel)
{
	u64 due = 0;
	int err;

	for (;;) {
		err = receive(v);
		if (!err && !v->over)
			err = answer(v, &due);
		else if (!err)
			err = stream_flush(v->s);
		if (err && err != -EAGAIN)
			return err;
		if (v->over && stream_is_flushed(v->s))
			return 0;
		err = wait_for_work(v, due, cancel);
		if (err <= 0)
			return err;
	}
}

static void *serve_urgent(void *arg)
{
	struct server *v = arg;

	v->err = serve(v, -1);
	bell_ring(v->o->stop);
	return NULL;
}

/* The urgent connection failed: maybe the main one says that all is well. */
static int last_words(struct server *v)
{
	u64 until = stream_now_ns() + LAST_WORDS_MS * 1000000ull;
	struct pollfd fd = { v->s->fd, POLLIN };
	int err = 0;

	while (!v->over && !err && stream_now_ns() < until) {
		poll(&fd, 1, LAST_WORDS_MS);
		err = receive(v);
	}
	if (v->over && !err)
		stream_flush(v->s);
	return v->over ? 0 : -EPIPE;
}

/* Unless it is the VM that is bad there. */
static void abort_both(const char *why, struct stream *main, struct stream *urgent)
{
	if (!why[0])
		return;
	stream_abort(main, why);
	stream_abort(urgent, why);
}

int origin_serve(struct origin *o, struct stream *main, struct stream *urgent, int cancel)
{
	struct server *servers = calloc(2, sizeof(*servers));
	struct server *m = &servers[0], *u = &servers[1];
	pthread_t thread;
	int err;

	if (!servers)
		return kuf_error(-ENOMEM, "queues");
	pageset_free(&o->told);
	err = pageset_make(&o->told, o->mem->size / PAGE_SIZE);
	if (err)
		goto out;
	o->stop = eventfd(0, EFD_CLOEXEC);
	if (o->stop < 0) {
		err = kuf_error(-errno, "eventfd");
		goto out;
	}
	*m = (struct server){ .o = o, .s = main, .budget_ns = stream_now_ns(),
			      .pause_ns = PAUSE_MIN_NS,
			      .told = { .set = &o->told, .mem = o->mem, .left = o->told.size } };
	*u = (struct server){ .o = o, .s = urgent, .urgent = true, .pause_ns = PAUSE_MIN_NS };
	err = -pthread_create(&thread, NULL, serve_urgent, u);
	if (err) {
		kuf_error(err, "a thread for urgent pages");
		goto out_fd;
	}
	err = serve(m, cancel);
	bell_ring(o->stop);
	pthread_join(thread, NULL);
	/* What came there cannot be right, or this side ends: there is nothing to wait for. */
	if ((u->err == -EBADMSG || origin_is_over(u->err)) && !m->over)
		err = u->err;
	if (!err && !m->over)
		err = last_words(m);
	if (err == -EBADMSG)
		abort_both(m->s->why[0] ? m->s->why : u->s->why, main, urgent);
	if (!err && o->differs)
		err = kuf_error(-EBADMSG, "what the destination has is not what is here (digest)");
out_fd:
	close(o->stop);
out:
	free(servers);
	return err;
}
