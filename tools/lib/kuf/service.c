// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Rounds of serving.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

#include "internal.h"

struct round {
	struct kuf *k;
	struct kuf_service *s;
	uint64_t left;		/* of the budget */
	int error;		/* the first one */
};

static void failed(struct round *r, int error)
{
	if (!r->error)
		r->error = error;
}

static void charge(struct round *r, uint64_t pages)
{
	r->left -= pages < r->left ? pages : r->left;
}

/* A look costs as well, or whoever has us look for nothing gets all of our time. */
static void charge_look(struct round *r, uint64_t left_before)
{
	if (r->left == left_before)
		charge(r, 1);
}

static void wake_one(struct kuf *k, struct kufi_region *region, uint64_t page)
{
	struct kufi_wake wake = { .k = k, .region = region };

	if (k->uffd < 0)
		return;
	kufi_wake_page(&wake, page, KUFI_EVENT);
	kufi_wake_flush(&wake);
}

/* Content that cannot be had: who needs it waits for kuf_retry(). */
static void give_up(struct round *r, struct kufi_region *region, uint64_t page, int error)
{
	if (!kufi_page_fail(&region->words[page]))
		KUFI_COUNT(r->k, failed, 1);
	failed(r, error);
}

/* Returns false if the source has no room now. */
static bool ask_urgent(struct round *r, struct kufi_region *region, uint64_t page)
{
	int ret = kufi_ask(r->k, region, page, 1, KUF_REQUEST_URGENT);

	if (ret == -EAGAIN) {
		kufi_set_put(&region->need, page);
		return false;
	}
	if (ret)
		give_up(r, region, page, ret);
	charge(r, 1);
	return true;
}

static struct kufi_pending *pending(struct kuf *k, uint32_t as_id, uint64_t gpa)
{
	return &k->pending[((gpa >> k->page_shift) ^ as_id) % KUFI_NR_PENDING];
}

/* How long was the page waited for in KVM? */
static void waited(struct kuf *k, struct kufi_region *region, uint64_t page, uint64_t now)
{
	uint64_t gpa = kufi_page_gpa(k, region, page);
	struct kufi_pending *p = pending(k, region->r.as_id, gpa);

	if (!p->time_ns || p->gpa != gpa || p->as_id != region->r.as_id)
		return;
	if (kufi_state(kufi_load(&region->words[page])) != KUF_PRESENT)
		return;
	if (now > p->time_ns)
		kufi_latency(k, now - p->time_ns);
	p->time_ns = 0;
}

static void zero_here(struct round *r, struct kufi_region *region, uint64_t page)
{
	struct kufi_wake wake = { .k = r->k, .region = region };
	bool filled;
	int ret;

	ret = kufi_fill_page(&wake, page, KUFI_ZERO, NULL, &filled);
	kufi_wake_flush(&wake);
	if (ret)
		failed(r, ret);
	r->s->done += filled;
	waited(r->k, region, page, kufi_now());
	charge(r, 1);
}

/* Somebody, in whatever process, put the page into the set. */
static bool attend(struct round *r, struct kufi_region *region, uint64_t page)
{
	if (page >= region->nr_pages)
		return true;
	switch (kufi_state(kufi_load(&region->words[page]))) {
	case KUF_REQUESTED:
		return ask_urgent(r, region, page);
	case KUF_DISCARDED:
		zero_here(r, region, page);
		fallthrough;
	case KUF_PRESENT:
	case KUF_POISONED:
		wake_one(r->k, region, page);
		return true;
	default:
		/* Whoever holds a claim wakes; what failed is not tried again here. */
		return true;
	}
}

static void needs(struct round *r)
{
	struct kuf *k = r->k;
	uint64_t n, page, left;
	unsigned int i;

	/* First this: what is put in later rings again. */
	while (read(k->bell, &n, sizeof(n)) < 0 && errno == EINTR)
		;
	for (i = 0; i < KUF_MAX_REGIONS; i++) {
		struct kufi_region *region = &k->regions[i];

		if (!__atomic_load_n(&region->used, __ATOMIC_ACQUIRE))
			continue;
		while (r->left && !k->source_full && kufi_set_take(&region->need, &page)) {
			left = r->left;
			if (!attend(r, region, page))
				return;
			charge_look(r, left);
		}
	}
}

/*
 * Whoever waits for it in KVM finds poison there, if this file descriptor may say so.  It
 * is known to KVM already if the VM's own process poisoned it since the event.
 */
static int settle_poison(struct kuf *k, const struct kvm_userfault_event *e, uint64_t gpa)
{
	struct kvm_userfault_range range = {
		.gpa = gpa,
		.size = k->page_size,
		.flags = KVM_USERFAULT_WAKE_POISON,
		.as_id = e->as_id,
	};

	KUFI_COUNT(k, wakes, 1);
	return kufi_ioctl(k->uffd, KVM_USERFAULT_WAKE, &range);
}

static void event(struct round *r, const struct kvm_userfault_event *e)
{
	struct kufi_region *region = kufi_region_find(r->k, e->as_id, e->gpa);
	uint64_t page, gpa = e->gpa & ~(r->k->page_size - 1);
	struct kufi_pending *p;
	bool fresh;
	int ret;

	kufi_count_fault(r->k, e->flags);
	/* A bitmap that is not ours is not ours to serve either. */
	if (!region || e->type != KVM_USERFAULT_EVENT_FAULT)
		return;
	page = (gpa - region->r.gpa) >> r->k->page_shift;
	ret = kufi_page_request(&region->words[page], KUFI_URGENT | KUFI_EVENT, &fresh);
	if (!ret || ret == -EBUSY || ret == -ESTALE) {
		p = pending(r->k, e->as_id, gpa);
		p->time_ns = e->time_ns;
		p->gpa = gpa;
		p->as_id = e->as_id;
	}
	switch (ret) {
	case 0:
		if (fresh)
			ask_urgent(r, region, page);
		return;
	case -EEXIST:
		wake_one(r->k, region, page);
		return;
	case -EBUSY:
		return;
	case -ESTALE:
		zero_here(r, region, page);
		return;
	case -EHWPOISON:
		KUFI_COUNT(r->k, poison_hits, 1);
		if (!settle_poison(r->k, e, gpa))
			return;
		r->s->poison_hit = 1;
		r->s->poison_as_id = e->as_id;
		r->s->poison_gpa = gpa;
		return;
	default:
		failed(r, ret);
	}
}

static void events(struct round *r)
{
	struct kuf *k = r->k;
	uint64_t left;
	ssize_t n, i;

	while (k->uffd >= 0 && !k->uffd_end && r->left) {
		n = read(k->uffd, k->events, sizeof(k->events));
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				failed(r, -errno);
			return;
		}
		if (!n) {
			k->uffd_end = true;
			return;
		}
		n /= sizeof(k->events[0]);
		KUFI_COUNT(k, events, n);
		/* All of them, whatever the budget: they are told only once. */
		for (i = 0; i < n; i++) {
			left = r->left;
			event(r, &k->events[i]);
			charge_look(r, left);
		}
		if (n < KUFI_NR_EVENTS)
			return;
	}
}

static void fill(struct round *r, struct kufi_region *region, uint64_t first, uint64_t nr,
		 const struct kuf_reply *reply)
{
	struct kufi_wake wake = { .k = r->k, .region = region };
	bool zero = reply->type == KUF_REPLY_ZERO;
	uint64_t i, now;
	bool filled;
	int ret;

	for (i = 0; i < nr; i++) {
		ret = kufi_fill_page(&wake, first + i, zero ? KUFI_REPLY_ZERO : KUFI_REPLY,
				     zero ? NULL :
				     (const char *)reply->data + (i << r->k->page_shift),
				     &filled);
		r->s->done += filled;
		/* It was counted there. */
		if (ret) {
			kufi_page_fail(&region->words[first + i]);
			failed(r, ret);
		}
	}
	kufi_wake_flush(&wake);
	now = kufi_now();
	for (i = 0; i < nr; i++)
		waited(r->k, region, first + i, now);
}

static void poison(struct round *r, struct kufi_region *region, uint64_t first, uint64_t nr)
{
	uint64_t i;
	int ret;

	for (i = 0; i < nr; i++) {
		unsigned int state = kufi_state(kufi_load(&region->words[first + i]));

		/* What was had in another way is not lost. */
		if (state != KUF_ABSENT && state != KUF_REQUESTED)
			continue;
		ret = kuf_poison(r->k, region->r.as_id, kufi_page_gpa(r->k, region, first + i),
				 r->k->page_size);
		if (ret && ret != -EOPNOTSUPP)
			failed(r, ret);
	}
}

static void handle(struct round *r, const struct kuf_reply *reply)
{
	struct kufi_region *region;
	uint64_t first, nr, i;

	if (kufi_region_range(r->k, reply->as_id, reply->gpa, reply->len, &region, &first,
			      &nr)) {
		failed(r, -EBADMSG);
		return;
	}
	switch (reply->type) {
	case KUF_REPLY_DATA:
		if (!reply->data) {
			failed(r, -EBADMSG);
			break;
		}
		fallthrough;
	case KUF_REPLY_ZERO:
		fill(r, region, first, nr, reply);
		break;
	case KUF_REPLY_POISON:
		poison(r, region, first, nr);
		break;
	case KUF_REPLY_FAILED:
		for (i = 0; i < nr; i++)
			give_up(r, region, first + i, reply->error < 0 ? reply->error : -EIO);
		break;
	default:
		failed(r, -EBADMSG);
	}
	charge(r, nr);
}

/* One reply; false: there is none. */
static bool receive(struct round *r)
{
	struct kuf_reply reply = { .size = sizeof(reply) };
	int ret;

	if (!r->k->ops.receive)
		return false;
	ret = r->k->ops.receive(r->k->source, &reply);
	if (ret) {
		if (ret != -EAGAIN)
			failed(r, ret);
		return false;
	}
	/* It has room again, and what came may have been what it lacked room for. */
	r->k->source_full = false;
	handle(r, &reply);
	return true;
}

static void serve(struct round *r)
{
	unsigned int i = 0;
	uint64_t used;
	int ret;

	r->k->source_full = false;
	do {
		/* A look at the fd is a system call, one at the set is none. */
		if (i++ % 8 == 0)
			events(r);
		needs(r);
	} while (r->left && receive(r));
	if (r->left) {
		ret = kufi_ahead_step(r->k, r->left, &used);
		if (ret)
			failed(r, ret);
		charge(r, used);
	}
}

int kuf_service(struct kuf *k, struct kuf_service *user)
{
	struct kuf_service s;
	struct round r = { .k = k, .s = &s };
	int ret;

	ret = kufi_copy_in(&s, sizeof(s), user);
	if (ret)
		return ret;
	if (atomic_flag_test_and_set(&k->serving))
		return -EBUSY;
	s.done = 0;
	s.more = 0;
	s.end = 0;
	s.poison_hit = 0;
	r.left = s.budget ? s.budget : 64;
	serve(&r);
	s.more = !r.left;
	s.end = k->uffd_end;
	atomic_flag_clear(&k->serving);
	kufi_copy_out(user, &s);
	return r.error;
}

int kuf_set_fd(struct kuf *k, int fd)
{
	int flags;

	if (fd >= 0) {
		flags = fcntl(fd, F_GETFL);
		if (flags < 0)
			return -errno;
		if (!(flags & O_NONBLOCK))
			return -EINVAL;
	}
	k->uffd = fd < 0 ? -1 : fd;
	k->uffd_end = false;
	return 0;
}

static bool need_work(struct kuf *k)
{
	unsigned int i;

	for (i = 0; i < KUF_MAX_REGIONS; i++)
		if (__atomic_load_n(&k->regions[i].used, __ATOMIC_ACQUIRE) &&
		    !kufi_set_empty(&k->regions[i].need))
			return true;
	return false;
}

int kuf_pollfds(struct kuf *k, struct kuf_poll *user)
{
	struct kuf_poll p;
	int ret;

	ret = kufi_copy_in(&p, sizeof(p), user);
	if (ret)
		return ret;
	p.used = 0;
	p.timeout_ms = -1;
	if (!p.fds || p.nr < 2)
		return -ENOSPC;
	p.fds[p.used++] = (struct pollfd){ .fd = k->bell, .events = POLLIN };
	if (k->uffd >= 0 && !k->uffd_end)
		p.fds[p.used++] = (struct pollfd){ .fd = k->uffd, .events = POLLIN };
	if ((!k->source_full && need_work(k)) || kufi_ahead_work(k))
		p.timeout_ms = 0;
	if (k->ops.pollfds) {
		ret = k->ops.pollfds(k->source, p.fds, p.nr, &p.used, &p.timeout_ms);
		if (ret)
			return ret;
	}
	kufi_copy_out(user, &p);
	return 0;
}
