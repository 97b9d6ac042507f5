// SPDX-License-Identifier: GPL-2.0
/*
 * Pages by the connections of a migration.  A page is asked for at most once on each
 * connection at a time, replies may come in any order, and what comes without having
 * been asked for is an error.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bell.h"
#include "crc32c.h"
#include "net.h"
#include "stream_done.h"

#define MAIN		0
#define URGENT		1
#define TIMEOUT_MS	30000
#define FINISH_MS	5000

static const u8 zeroes[PAGE_SIZE];

int stream_source_init(struct stream_source *ss, const struct mem *mem, struct stream *main,
		       struct stream *urgent)
{
	u64 nr = mem->size / PAGE_SIZE;

	*ss = (struct stream_source){
		.mem = mem,
		.timeout_ms = TIMEOUT_MS,
		.sides = { { .s = main }, { .s = urgent } },
	};
	ss->next[0].fd = -1;
	ss->next[1].fd = -1;
	pthread_mutex_init(&ss->lock, NULL);
	ss->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ss->crcs = calloc(nr, sizeof(*ss->crcs));
	if (ss->bell >= 0 && ss->crcs && !pageset_make(&ss->came, nr) &&
	    !pageset_make(&ss->cleared, nr))
		return 0;
	stream_source_free(ss);
	return kuf_error(-ENOMEM, "the account of %llu pages", (unsigned long long)nr);
}

void stream_source_free(struct stream_source *ss)
{
	if (ss->bell >= 0)
		close(ss->bell);
	if (ss->has_next) {
		stream_close(&ss->next[MAIN]);
		stream_close(&ss->next[URGENT]);
	}
	free(ss->crcs);
	pageset_free(&ss->came);
	pageset_free(&ss->cleared);
	stream_done_forget(ss);
	ss->has_next = false;
	ss->bell = -1;
	ss->crcs = NULL;
}

static void ring(struct stream_source *ss)
{
	bell_ring(ss->bell);
	__atomic_store_n(&ss->rung, true, __ATOMIC_RELEASE);
}

void stream_source_start(struct stream_source *ss)
{
	__atomic_store_n(&ss->open, true, __ATOMIC_RELEASE);
	ring(ss);
}

static bool is_open(const struct stream_source *ss)
{
	return __atomic_load_n(&ss->open, __ATOMIC_ACQUIRE);
}

static void set_end(struct stream_source *ss, enum stream_source_end end)
{
	__atomic_store_n(&ss->end, end, __ATOMIC_RELEASE);
}

/* What came cannot be right: nothing of it is used any more.  After a message. */
static int bad(struct stream_source *ss, int err)
{
	set_end(ss, STREAM_SOURCE_BAD);
	if (!ss->done_sent) {
		stream_done_put(ss, PROTO_DONE_BAD);
		stream_flush(ss->sides[MAIN].s);
	}
	return err;
}

/* The guest goes on as far as it gets.  @how: what became of the source. */
static int cut(struct stream_source *ss, const char *how)
{
	int i;

	set_end(ss, STREAM_SOURCE_CUT);
	/* The origin is to notice it, if it is only slow. */
	for (i = 0; i < 2; i++)
		shutdown(ss->sides[i].s->fd, SHUT_RDWR);
	if (ss->complete) {
		kuf_say("the source of the VM %s, and all of its memory is here", how);
		return -EAGAIN;
	}
	kuf_error(0, "the source of the VM %s: %llu of %llu pages did not come", how,
		  (unsigned long long)(ss->mem->size / PAGE_SIZE - ss->came.count),
		  (unsigned long long)(ss->mem->size / PAGE_SIZE));
	kuf_say("vCPUs wait where they need one of these pages,");
	kuf_say("until the source connects again (kuf recover there)");
	return -EAGAIN;
}

/*
 * Somebody else's bytes, or damaged ones: no page of them was used.  By other connections
 * all of it may come right.
 */
static int hang_up(struct stream_source *ss, const char *why)
{
	stream_abort(ss->sides[URGENT].s, why);
	stream_abort(ss->sides[MAIN].s, why);
	return cut(ss, "was hung up on");
}

static int failed(struct stream_source *ss, const struct stream_side *side, int err)
{
	if (err == -EAGAIN || ss->end == STREAM_SOURCE_BAD)
		return err;
	return err == -EBADMSG ? hang_up(ss, side->s->why) : cut(ss, "is gone");
}

void stream_source_replace(struct stream_source *ss, struct stream *main,
			   struct stream *urgent)
{
	pthread_mutex_lock(&ss->lock);
	if (ss->has_next) {
		stream_close(&ss->next[MAIN]);
		stream_close(&ss->next[URGENT]);
	}
	ss->next[MAIN] = *main;
	ss->next[URGENT] = *urgent;
	__atomic_store_n(&ss->has_next, true, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&ss->lock);
	ring(ss);
}

void stream_source_clear(struct stream_source *ss, u64 gpa, u64 len)
{
	int64_t at = mem_offset(ss->mem, gpa, len);
	u64 i;

	for (i = 0; at >= 0 && i < len; i += PAGE_SIZE)
		pageset_add(&ss->cleared, (at + i) / PAGE_SIZE);
}

static void take_over(struct stream_source *ss)
{
	if (!__atomic_load_n(&ss->has_next, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&ss->lock);
	stream_side_replace(&ss->sides[MAIN], &ss->next[MAIN]);
	stream_side_replace(&ss->sides[URGENT], &ss->next[URGENT]);
	__atomic_store_n(&ss->has_next, false, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&ss->lock);
	ss->next_range = 0;
	ss->nr_ranges = 0;
	ss->urgent_closed = false;
	ss->done_sent = false;
	stream_done_forget(ss);
	if (ss->end == STREAM_SOURCE_BAD)
		stream_done_put(ss, PROTO_DONE_BAD);
	else
		set_end(ss, STREAM_SOURCE_SERVES);
}

static int flush(struct stream_source *ss)
{
	int err = stream_side_flush(&ss->sides[URGENT]);

	if (!err || err == -EAGAIN)
		err = stream_side_flush(&ss->sides[MAIN]);
	return err == -EAGAIN ? 0 : err;
}

static int request(void *source, const struct kuf_request *request)
{
	struct stream_source *ss = source;
	struct stream_side *side = &ss->sides[request->flags & KUF_REQUEST_URGENT ? URGENT : MAIN];
	u64 nr = request->len / PAGE_SIZE;

	if (!nr || nr > PROTO_REQUEST_PAGES ||
	    mem_offset(ss->mem, request->gpa, request->len) < 0)
		return -EINVAL;
	/* Later, or never: who needs it waits. */
	if (!is_open(ss) || ss->end != STREAM_SOURCE_SERVES)
		return -EAGAIN;
	return stream_side_ask(side, request->gpa, request->len);
}

/* When it is too late for a reply; ~0: none is missing. */
static u64 deadline(const struct stream_source *ss, const struct stream_side *side)
{
	const struct stream_asked *a = stream_side_oldest(side);
	u64 begin;

	if (!a)
		return ~0ull;
	begin = a->time_ns;
	/* Much is asked for on main, and it may be slow, as long as it goes on. */
	if (side == &ss->sides[MAIN] && side->last_ns > begin)
		begin = side->last_ns;
	return begin + ss->timeout_ms * 1000000ull;
}

/*
 * If what was asked for later did not come either the origin may have been stopped for a
 * while.  Otherwise a reply is lost, or the origin waits for the page itself.
 */
static int check_time(struct stream_source *ss)
{
	const struct stream_asked *a;
	struct stream_side *side;
	u64 now = stream_now_ns();
	int i;

	for (i = 0; i < 2; i++) {
		side = &ss->sides[i];
		if (deadline(ss, side) > now)
			continue;
		a = stream_side_oldest(side);
		if (!stream_side_overtaken(side))
			return cut(ss, "is gone");
		kuf_error(-ETIMEDOUT,
			  "the page at 0x%llx, asked for %llu ms ago, does not come, but later ones did: its reply is lost, or its source waits for it",
			  (unsigned long long)(a->gpa + __builtin_ctzll(a->missing) * PAGE_SIZE),
			  (unsigned long long)(now - a->time_ns) / 1000000);
		if (!ss->faulted)
			return hang_up(ss, "a page does not come, but later ones did");
		ss->counts.wrong_pages++;
		return bad(ss, -ETIMEDOUT);
	}
	return -EAGAIN;
}

/* Not how it was said, but what: no other connection makes that right. */
static int wrong(struct stream_source *ss, u64 gpa, const char *why)
{
	ss->counts.wrong_pages++;
	return bad(ss, kuf_error(-EBADMSG, "the page at 0x%llx %s", (unsigned long long)gpa, why));
}

static int not_asked(struct stream_side *side, u64 gpa)
{
	return stream_bad(side->s, "the page at 0x%llx came without having been asked for",
			  (unsigned long long)gpa);
}

/* What the guest can use though its content only comes now is wrong. */
static bool let_go_early(struct stream_source *ss, u64 gpa, u64 page)
{
	enum kuf_state state;

	return ss->k && !kuf_page_state(ss->k, 0, gpa, &state) && state == KUF_PRESENT &&
	       !pageset_has(&ss->cleared, page);
}

/* To be handed on.  The source's memory stands still: what comes twice is the same. */
static int record(struct stream_source *ss, struct stream_side *side, u64 gpa, u64 nr,
		  const u32 *crcs, u64 *counter)
{
	u64 page = mem_offset(ss->mem, gpa, nr * PAGE_SIZE) / PAGE_SIZE, i;
	u32 crc, zero = crc32c(0, zeroes, PAGE_SIZE);

	for (i = 0; i < nr; i++, page++) {
		crc = crcs ? crcs[i] : zero;
		if (pageset_has(&ss->came, page)) {
			ss->counts.repeated_pages++;
			if (ss->crcs[page] != crc)
				return wrong(ss, gpa + i * PAGE_SIZE, "comes twice, and differs");
			continue;
		}
		if (let_go_early(ss, gpa + i * PAGE_SIZE, page))
			return wrong(ss, gpa + i * PAGE_SIZE,
				     "was let go before its content came");
		ss->crcs[page] = crc;
		pageset_add(&ss->came, page);
		++*counter;
	}
	return 0;
}

/* 1: the reply is to be ignored. */
static int make_fault(struct stream_source *ss, u64 gpa, const u8 **data)
{
	if (!ss->fault || ss->faulted)
		return 0;
	ss->faulted = true;
	kuf_say("--break=%s: the page at 0x%llx", break_name(ss->fault),
		(unsigned long long)gpa);
	switch (ss->fault) {
	case BREAK_DROP:
		ss->sides[URGENT].newest = ss->sides[URGENT].end;
		return 1;
	case BREAK_FLIP:
		memcpy(ss->page, *data, PAGE_SIZE);
		ss->page[PAGE_SIZE / 2] ^= 0x10;
		*data = ss->page;
		return 0;
	default:
		if (ss->k)
			kuf_install_zero(ss->k, 0, gpa, PAGE_SIZE, NULL);
		return 0;
	}
}

static int take_page(struct stream_source *ss, struct stream_side *side,
		     const struct stream_frame *f, struct kuf_reply *reply)
{
	bool urgent = side == &ss->sides[URGENT];
	const u8 *at = f->data, *data;
	u32 crcs[PROTO_PAGES];
	struct proto_page head;

	memcpy(&head, at, sizeof(head));
	if (!head.nr || head.nr > PROTO_PAGES || head.reserved ||
	    f->length != sizeof(head) + head.nr * (sizeof(crcs[0]) + PAGE_SIZE) ||
	    head.gpa % PAGE_SIZE || mem_offset(ss->mem, head.gpa, head.nr * PAGE_SIZE) < 0)
		return stream_bad(side->s, "a PAGE that does not make sense");
	memcpy(crcs, at + sizeof(head), head.nr * sizeof(crcs[0]));
	data = at + sizeof(head) + head.nr * sizeof(crcs[0]);
	if (urgent && make_fault(ss, head.gpa, &data))
		return 0;
	if (!stream_side_answered(side, head.gpa, head.nr * PAGE_SIZE))
		return not_asked(side, head.gpa);
	reply->gpa = head.gpa;
	reply->len = head.nr * PAGE_SIZE;
	reply->type = KUF_REPLY_DATA;
	reply->data = data;
	return record(ss, side, head.gpa, head.nr, crcs, urgent ? &ss->counts.demand_pages :
		      &ss->counts.background_pages) ?: 1;
}

static int take_zero(struct stream_source *ss, struct stream_side *side,
		     const struct stream_frame *f)
{
	if (f->length % sizeof(ss->ranges[0]))
		return stream_bad(side->s, "a ZERO of %u bytes", f->length);
	memcpy(ss->ranges, f->data, f->length);
	ss->ranges_side = side;
	ss->nr_ranges = f->length / sizeof(ss->ranges[0]);
	ss->next_range = 0;
	return 0;
}

static int next_zero(struct stream_source *ss, struct kuf_reply *reply)
{
	const struct proto_range *r = &ss->ranges[ss->next_range++];

	if (!r->len || r->gpa % PAGE_SIZE || r->len % PAGE_SIZE ||
	    r->len > PROTO_REQUEST_PAGES * PAGE_SIZE || mem_offset(ss->mem, r->gpa, r->len) < 0)
		return stream_bad(ss->ranges_side->s, "a ZERO that does not make sense");
	if (!stream_side_answered(ss->ranges_side, r->gpa, r->len))
		return not_asked(ss->ranges_side, r->gpa);
	reply->gpa = r->gpa;
	reply->len = r->len;
	reply->type = KUF_REPLY_ZERO;
	return record(ss, ss->ranges_side, r->gpa, r->len / PAGE_SIZE, NULL,
		      &ss->counts.zero_pages) ?: 1;
}

static int take_failed(struct stream_source *ss, struct stream_side *side,
		       const struct stream_frame *f, struct kuf_reply *reply)
{
	struct proto_failed failed;

	memcpy(&failed, f->data, sizeof(failed));
	if (!failed.len || failed.gpa % PAGE_SIZE || failed.len % PAGE_SIZE || failed.reserved ||
	    failed.len > PROTO_REQUEST_PAGES * PAGE_SIZE || failed.err >= 0 ||
	    failed.err < -4095 || mem_offset(ss->mem, failed.gpa, failed.len) < 0 ||
	    !stream_side_answered(side, failed.gpa, failed.len))
		return stream_bad(side->s, "a FAILED that does not make sense");
	reply->gpa = failed.gpa;
	reply->len = failed.len;
	if (failed.err == -EHWPOISON) {
		kuf_say("the page at 0x%llx is lost at its source: poisoned",
			(unsigned long long)failed.gpa);
		__atomic_fetch_add(&ss->counts.lost_pages, failed.len / PAGE_SIZE,
				   __ATOMIC_RELAXED);
		reply->type = KUF_REPLY_POISON;
		return 1;
	}
	kuf_error(failed.err, "the source cannot give the page at 0x%llx",
		  (unsigned long long)failed.gpa);
	reply->type = KUF_REPLY_FAILED;
	reply->error = failed.err;
	return 1;
}

/* 1: there is a reply; 0: there is none, but maybe in the next frame. */
static int take(struct stream_source *ss, struct stream_side *side,
		const struct stream_frame *f, struct kuf_reply *reply)
{
	switch (f->type) {
	case PROTO_PAGE:
		return take_page(ss, side, f, reply);
	case PROTO_ZERO:
		return take_zero(ss, side, f);
	case PROTO_FAILED:
		return take_failed(ss, side, f, reply);
	case PROTO_ABORT:
		return stream_aborted(side->s, f);
	case PROTO_BYE:
		if (side == &ss->sides[MAIN])
			return stream_done_take_bye(ss, f);
		break;
	}
	return stream_bad(side->s, "a frame of type %u does not belong here", f->type);
}

static int receive_side(struct stream_source *ss, struct stream_side *side,
			struct kuf_reply *reply)
{
	struct stream_frame f;
	int r;

	while (ss->end == STREAM_SOURCE_SERVES) {
		if (ss->next_range < ss->nr_ranges)
			return next_zero(ss, reply);
		r = stream_next(side->s, &f);
		if (r > 0) {
			side->last_ns = stream_now_ns();
			r = take(ss, side, &f, reply);
		} else if (!r) {
			r = stream_fill(side->s);
			if (r == -EAGAIN)
				return 0;
		}
		if (r)
			return r;
	}
	return 0;
}

/* All that came before is in place when this is called. */
static int check_complete(struct stream_source *ss, int err)
{
	if (!ss->complete && stream_done_is_complete(ss))
		__atomic_store_n(&ss->complete, true, __ATOMIC_RELAXED);
	while (!err && ss->complete && !ss->done_sent && stream_is_flushed(ss->sides[MAIN].s))
		err = stream_done_put(ss, PROTO_DONE_ALL) ?: flush(ss);
	return err;
}

static int receive(void *source, struct kuf_reply *reply)
{
	struct stream_source *ss = source;
	struct stream_side *side = &ss->sides[URGENT];
	int r;

	if (!is_open(ss))
		return -EAGAIN;
	take_over(ss);
	if (ss->end == STREAM_SOURCE_CUT || ss->end == STREAM_SOURCE_COMPLETE)
		return -EAGAIN;
	if (ss->end == STREAM_SOURCE_BAD)
		return -EBADMSG;
	r = check_complete(ss, flush(ss));
	if (!r && !ss->urgent_closed)
		r = receive_side(ss, side, reply);
	/* The origin closes both when it has said BYE, which is on the other one. */
	if (r == -EPIPE && ss->done_sent) {
		ss->urgent_closed = true;
		r = 0;
	}
	if (!r) {
		side = &ss->sides[MAIN];
		r = receive_side(ss, side, reply);
	}
	if (r > 0)
		return 0;
	if (r < 0)
		return failed(ss, side, r);
	return ss->end == STREAM_SOURCE_SERVES ? check_time(ss) : -EAGAIN;
}

/* True: there is something to be looked at. */
static bool hear_bell(struct stream_source *ss)
{
	u64 rings;

	if (!__atomic_exchange_n(&ss->rung, false, __ATOMIC_ACQ_REL))
		return false;
	if (read(ss->bell, &rings, sizeof(rings)) < 0 && errno != EAGAIN)
		kuf_error(-errno, "eventfd");
	return true;
}

static void bound_timeout(struct stream_source *ss, int *timeout_ms)
{
	u64 now = stream_now_ns(), until, ms;
	int i;

	for (i = 0; i < 2; i++) {
		until = deadline(ss, &ss->sides[i]);
		if (until == ~0ull)
			continue;
		ms = until > now ? (until - now) / 1000000 + 1 : 0;
		if (*timeout_ms < 0 || ms < (u64)*timeout_ms)
			*timeout_ms = ms;
	}
}

static int pollfds(void *source, struct pollfd *fds, unsigned int nr, unsigned int *used,
		   int *timeout_ms)
{
	struct stream_source *ss = source;
	int i;

	if (nr - *used < 3)
		return -ENOSPC;
	fds[(*used)++] = (struct pollfd){ .fd = ss->bell, .events = POLLIN };
	if (is_open(ss) && hear_bell(ss))
		*timeout_ms = 0;
	if (!is_open(ss) || ss->end != STREAM_SOURCE_SERVES)
		return 0;
	flush(ss);
	for (i = 0; i < (ss->urgent_closed ? 1 : 2); i++) {
		fds[*used] = (struct pollfd){ .fd = ss->sides[i].s->fd, .events = POLLIN };
		if (!stream_is_flushed(ss->sides[i].s))
			fds[*used].events |= POLLOUT;
		++*used;
		/* A frame that was read already does not make the socket readable. */
		if (stream_has_frame(ss->sides[i].s))
			*timeout_ms = 0;
	}
	if (ss->next_range < ss->nr_ranges)
		*timeout_ms = 0;
	bound_timeout(ss, timeout_ms);
	return 0;
}

static int verify(void *source, const struct kuf_request *page, const void *content)
{
	struct stream_source *ss = source;

	if (crc32c(0, content, PAGE_SIZE) ==
	    ss->crcs[mem_offset(ss->mem, page->gpa, PAGE_SIZE) / PAGE_SIZE])
		return 0;
	return wrong(ss, page->gpa, "is not in memory as it was sent (CRC32C)");
}

const struct kuf_source_ops *stream_source_ops(void)
{
	static const struct kuf_source_ops ops = {
		.size = sizeof(ops),
		.request = request,
		.receive = receive,
		.pollfds = pollfds,
		.verify = verify,
	};

	return &ops;
}

void stream_source_finish(struct stream_source *ss)
{
	struct stream_side *main = &ss->sides[MAIN];
	u64 until = stream_now_ns() + FINISH_MS * 1000000ull;
	struct stream_frame f;
	int r = 0;

	take_over(ss);
	if (!is_open(ss) || ss->end != STREAM_SOURCE_SERVES)
		return;
	if (!ss->done_sent)
		stream_done_put(ss, PROTO_DONE_ENDED);
	while (ss->end == STREAM_SOURCE_SERVES && stream_now_ns() < until) {
		stream_flush(main->s);
		while ((r = stream_next(main->s, &f)) > 0) {
			if (f.type == PROTO_BYE && stream_done_take_bye(ss, &f))
				return;
		}
		if (!r)
			r = stream_fill(main->s);
		if (r && r != -EAGAIN)
			return;
		if (r)
			net_wait(main->s->fd, POLLIN, 100, -1);
	}
}
