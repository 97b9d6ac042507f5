// SPDX-License-Identifier: GPL-2.0
/*
 * Serving guest memory through userfaultfd.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bell.h"
#include "engine_uffd.h"
#include "guard.h"
#include "pager.h"
#include "pageset.h"
#include "poison.h"
#include "vm.h"

#define MAX_FDS		16
#define EVENTS		16
#define NEEDS		256	/* faults that the source had no room for, at most */
#define PENDING		256	/* faults whose latency is measured */
#define AHEAD		32	/* pages outstanding that nobody waits for: as libkuf */
#define AHEAD_RUN	16	/* of them in one request */
#define BUDGET		64	/* replies before the next look at faults */

/* What a page is to the thread. */
enum { ABSENT, REQUESTED, NEEDED, PRESENT };

struct engine_uffd {
	int fd;
	struct vm *vm;
	const struct kuf_source_ops *ops;
	void *source;
	u64 nr_pages;
	u64 nr_never;		/* poisoned from the beginning on */

	/* What is needed by threads that do not wait for it; they ring. */
	struct pageset wanted;
	int bell;

	/* The thread's alone; others may look at @pages. */
	u8 *pages;
	u64 next;		/* to fetch ahead, if that is wanted */
	unsigned int nr_ahead;	/* requested, and not here yet */
	unsigned int nr_needs;
	u64 needs[NEEDS];
	struct {
		u64 page, since_ns;
	} pending[PENDING];

	struct kuf_report counts;	/* the thread changes them atomically */
};

static void count(u64 *counter, u64 n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static u64 page_gpa(const struct engine_uffd *e, u64 page)
{
	return mem_gpa(&e->vm->mem, page * PAGE_SIZE);
}

static void wake(struct engine_uffd *e, u64 page)
{
	struct uffdio_range range = {
		.start = (uintptr_t)e->vm->mem.area + page * PAGE_SIZE,
		.len = PAGE_SIZE,
	};

	ioctl(e->fd, UFFDIO_WAKE, &range);
}

/* -EAGAIN: the source has no room now. */
static int ask(struct engine_uffd *e, u64 page, u64 nr, u32 flags)
{
	struct kuf_request request = {
		.size = sizeof(request),
		.gpa = page_gpa(e, page),
		.len = nr * PAGE_SIZE,
		.flags = flags,
	};

	return e->ops->request(e->source, &request);
}

/* Memory gets the page, and whoever waits for it goes on, in one step; -errno, not told. */
static int try_place(struct engine_uffd *e, u64 page, const void *data)
{
	u64 to = (uintptr_t)e->vm->mem.area + page * PAGE_SIZE;
	struct uffdio_copy copy = { .dst = to, .src = (uintptr_t)data, .len = PAGE_SIZE };
	struct uffdio_zeropage zero = { .range = { .start = to, .len = PAGE_SIZE } };
	int ret;

	do {
		copy.copy = 0;
		zero.zeropage = 0;
		ret = data ? ioctl(e->fd, UFFDIO_COPY, &copy) :
			     ioctl(e->fd, UFFDIO_ZEROPAGE, &zero);
	} while (ret && errno == EAGAIN);
	return ret ? -errno : 0;
}

/* With nobody waiting any more nothing is registered, which is no fault of the page's. */
static int failed(struct engine_uffd *e, u64 page, int err)
{
	if (__atomic_load_n(&e->vm->pager->cancelled, __ATOMIC_ACQUIRE))
		return -ECANCELED;
	return kuf_error(err, "userfaultfd: the page at 0x%llx",
			 (unsigned long long)page_gpa(e, page));
}

/* What the source had no room for, in the order in which it was needed. */
static int ask_needs(struct engine_uffd *e)
{
	unsigned int i, n = 0;
	int err = 0;

	for (i = 0; i < e->nr_needs && !err; i++) {
		if (e->pages[e->needs[i]] == NEEDED)
			err = ask(e, e->needs[i], 1, KUF_REQUEST_URGENT);
		if (err)
			break;
	}
	while (i < e->nr_needs)
		e->needs[n++] = e->needs[i++];
	e->nr_needs = n;
	return err == -EAGAIN ? 0 : err;
}

static void need(struct engine_uffd *e, u64 page)
{
	switch (e->pages[page]) {
	case PRESENT:
	case NEEDED:
		return;
	case REQUESTED:
		e->nr_ahead--;
		break;
	}
	e->pages[page] = NEEDED;
	e->pending[page % PENDING].page = page;
	e->pending[page % PENDING].since_ns = pager_now();
	e->needs[e->nr_needs++] = page;
}

static int fault(struct engine_uffd *e, u64 address)
{
	u64 page = (address - (uintptr_t)e->vm->mem.area) / PAGE_SIZE;
	int err;

	count(&e->counts.events, 1);
	if (e->pages[page] != PRESENT) {
		need(e, page);
		return 0;
	}
	count(&e->counts.repeated, 1);
	/* Or it was poisoned, is usable again, and zero. */
	err = try_place(e, page, NULL);
	if (err == -EEXIST)
		wake(e, page);
	return !err || err == -EEXIST ? 0 : failed(e, page, err);
}

/* What there is no room for now is found when there is. */
static void take_wanted(struct engine_uffd *e)
{
	u64 page = 0, nr, rings;

	/* First this: what is added later rings again. */
	if (read(e->bell, &rings, sizeof(rings)) < 0 && errno != EAGAIN)
		kuf_error(-errno, "eventfd");
	while (READ_ONCE(e->wanted.count) && e->nr_needs + EVENTS <= NEEDS &&
	       pageset_next(&e->wanted, &page, &nr)) {
		pageset_remove(&e->wanted, page);
		need(e, page);
	}
}

static int read_faults(struct engine_uffd *e)
{
	struct uffd_msg msgs[EVENTS];
	ssize_t n, i;
	int err;

	/* What is not read now is read when there is room. */
	while (e->nr_needs + EVENTS <= NEEDS) {
		n = read(e->fd, msgs, sizeof(msgs));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return !n || errno == EAGAIN ? 0 : kuf_error(-errno, "userfaultfd");
		n /= sizeof(msgs[0]);
		for (i = 0; i < n; i++) {
			if (msgs[i].event != UFFD_EVENT_PAGEFAULT)
				continue;
			err = fault(e, msgs[i].arg.pagefault.address);
			if (err)
				return err;
		}
		if (n < EVENTS)
			return 0;
	}
	return 0;
}

static void count_latency(struct engine_uffd *e, u64 page)
{
	u64 ns, us, bucket;

	if (e->pending[page % PENDING].page != page || !e->pending[page % PENDING].since_ns)
		return;
	ns = pager_now() - e->pending[page % PENDING].since_ns;
	e->pending[page % PENDING].since_ns = 0;
	us = ns / 1000;
	bucket = us ? 63 - __builtin_clzll(us) : 0;
	count(&e->counts.latency[bucket < KUF_LATENCY_BUCKETS ? bucket : KUF_LATENCY_BUCKETS - 1],
	      1);
	count(&e->counts.latency_sum_ns, ns);
	count(&e->counts.latency_count, 1);
}

static int verify(struct engine_uffd *e, u64 page, const void *data)
{
	static const u8 zeroes[PAGE_SIZE];
	struct kuf_request request = {
		.size = sizeof(request),
		.gpa = page_gpa(e, page),
		.len = PAGE_SIZE,
	};

	return e->ops->verify ? e->ops->verify(e->source, &request, data ?: zeroes) : 0;
}

static int fill(struct engine_uffd *e, u64 page, const void *data)
{
	int err;

	if (e->pages[page] == PRESENT) {
		count(&e->counts.repeated, 1);
		return 0;
	}
	err = verify(e, page, data);
	if (!err) {
		err = try_place(e, page, data);
		err = err ? failed(e, page, err) : 0;
	}
	if (err) {
		count(&e->counts.failed, 1);
		return err;
	}
	if (!data)
		count(&e->counts.zero, 1);
	if (e->pages[page] == NEEDED) {
		count(&e->counts.demand, 1);
		count_latency(e, page);
	} else {
		e->nr_ahead -= e->pages[page] == REQUESTED;
		count(&e->counts.background, 1);
	}
	__atomic_store_n(&e->pages[page], PRESENT, __ATOMIC_RELEASE);
	count(&e->counts.present, 1);
	return 0;
}

/* One reply; -EAGAIN: there is none. */
static int receive(struct engine_uffd *e)
{
	struct kuf_reply reply = { .size = sizeof(reply) };
	int64_t offset;
	u64 i;
	int err;

	err = e->ops->receive(e->source, &reply);
	if (err)
		return err;
	offset = reply.len && reply.len % PAGE_SIZE == 0 && reply.gpa % PAGE_SIZE == 0 ?
		 mem_offset(&e->vm->mem, reply.gpa, reply.len) : -1;
	if (offset < 0 || (reply.type == KUF_REPLY_DATA && !reply.data))
		return kuf_error(-EBADMSG, "a reply that cannot be right");
	if (reply.type == KUF_REPLY_FAILED || reply.type == KUF_REPLY_POISON) {
		count(&e->counts.failed, reply.len / PAGE_SIZE);
		if (reply.type == KUF_REPLY_POISON)
			return kuf_error(-EHWPOISON, "--engine=uffd: the page at 0x%llx is lost",
					 (unsigned long long)reply.gpa);
		return reply.error ?: -EIO;
	}
	for (i = 0; i < reply.len && !err; i += PAGE_SIZE)
		err = fill(e, (offset + i) / PAGE_SIZE, reply.type == KUF_REPLY_DATA ?
			   (const u8 *)reply.data + i : NULL);
	return err;
}

/* Pages side by side, and on one side of the hole. */
static int fetch_ahead(struct engine_uffd *e)
{
	u64 n, i;
	int err;

	while (e->nr_ahead < AHEAD) {
		while (e->next < e->nr_pages && e->pages[e->next] != ABSENT)
			e->next++;
		if (e->next == e->nr_pages)
			return 0;
		for (n = 1; n < AHEAD_RUN && e->nr_ahead + n < AHEAD; n++) {
			i = e->next + n;
			if (i == e->nr_pages || e->pages[i] != ABSENT ||
			    i * PAGE_SIZE == MEM_LOW_MAX)
				break;
		}
		err = ask(e, e->next, n, 0);
		if (err)
			return err == -EAGAIN ? 0 : err;
		for (i = 0; i < n; i++)
			e->pages[e->next + i] = REQUESTED;
		e->nr_ahead += n;
	}
	return 0;
}

static bool fetches_ahead(const struct pager *p)
{
	return p->config.policy.kind == KUF_EAGER;
}

/* What is needed first, then what came, then what may be needed. */
static int round_of(struct pager *p, struct engine_uffd *e)
{
	int i, err;

	err = read_faults(e);
	take_wanted(e);
	if (!err)
		err = ask_needs(e);
	for (i = 0; !err && i < BUDGET; i++)
		err = receive(e);
	if (err == -EAGAIN)
		err = 0;
	/* It may have room now, and that is not for what nobody waits for. */
	if (!err)
		err = ask_needs(e);
	if (!err && !e->nr_needs && fetches_ahead(p))
		err = fetch_ahead(e);
	if (e->counts.demand >= REPORT_WORKING_SET)
		pager_note_time(&p->shared->working_set_ns);
	if (e->counts.present + e->nr_never == e->nr_pages)
		pager_note_time(&p->shared->populated_ns);
	return err;
}

static int serve(struct pager *p, struct engine_uffd *e, int stop)
{
	struct pollfd fds[MAX_FDS] = {
		{ .fd = stop, .events = POLLIN },
		{ .fd = e->fd, .events = POLLIN },
		{ .fd = e->bell, .events = POLLIN },
	};
	unsigned int used = 0;
	int timeout_ms, err;

	for (;;) {
		err = round_of(p, e);
		if (err)
			return err == -ECANCELED ? 0 :
			       kuf_error(err, "pages cannot be filled any more");
		/* With no room for faults only the source has news. */
		fds[1].fd = e->nr_needs + EVENTS <= NEEDS ? e->fd : -1;
		timeout_ms = -1;
		used = 0;
		if (e->ops->pollfds)
			err = e->ops->pollfds(e->source, fds + 3, MAX_FDS - 3, &used, &timeout_ms);
		if (err)
			return kuf_error(err, "the pager's file descriptors");
		if (poll(fds, 3 + used, timeout_ms) < 0 && errno != EINTR)
			return kuf_error(-errno, "poll of userfaultfd");
		if (fds[0].revents)
			return 0;
	}
}

static void *serve_thread(void *arg)
{
	struct pager *p = arg;

	int err = serve(p, p->uffd, p->server.stop);

	if (!err)
		return NULL;
	__atomic_store_n(&p->server.err, err, __ATOMIC_SEQ_CST);
	vm_stop(p->vm, KUF_EXIT_PAGER);
	/* Whoever cancels does this and looks then for an error: one of the two sees both. */
	if (__atomic_load_n(&p->cancelled, __ATOMIC_SEQ_CST))
		engine_uffd_cancel(p);
	return NULL;
}

static int open_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), err;

	if (fd < 0 && errno == EPERM)
		return kuf_error(-EPERM,
				 "userfaultfd: needs root, or sysctl vm.unprivileged_userfaultfd=1");
	if (fd < 0)
		return kuf_error(-errno, "userfaultfd (CONFIG_USERFAULTFD)");
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	err = kuf_error(-errno, "userfaultfd for shmem (UFFDIO_API)");
	close(fd);
	return err;
}

/* Loading the state of a VM may have left something there. */
static int drop_memory(const struct mem *mem)
{
	if (madvise(mem->area, mem->size, mem->backing == MEM_ANON ? MADV_DONTNEED : MADV_REMOVE))
		return kuf_error(-errno, "dropping the guest's memory");
	return 0;
}

static int register_memory(struct engine_uffd *e)
{
	struct uffdio_register args = {
		.range = { .start = (uintptr_t)e->vm->mem.area, .len = e->vm->mem.size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (ioctl(e->fd, UFFDIO_REGISTER, &args))
		return kuf_error(-errno, "userfaultfd for %s",
				 mem_backing_name(e->vm->mem.backing));
	return 0;
}

static int check(const struct pager *p)
{
	if (p->vm->mem.backing == MEM_GMEM)
		return kuf_error(-EOPNOTSUPP,
				 "--engine=uffd: not on guest_memfd; use --backing=shmem");
	if (p->config.mode != PAGER_THREAD || p->config.policy.record ||
	    p->config.policy.kind == KUF_RECORDED)
		return kuf_error(-EOPNOTSUPP,
				 "--engine=uffd: in a thread, without recordings");
	return 0;
}

/* KVM keeps the guest from it, and pager_access() the VMM: it is never asked for. */
static void leave_out_poison(struct pager *p, struct engine_uffd *e)
{
	u64 gpa = 0, len, page;

	for (; !pager_next_poisoned(p, &gpa, &len); gpa += len) {
		page = mem_offset(&p->vm->mem, gpa, len) / PAGE_SIZE;
		memset(e->pages + page, PRESENT, len / PAGE_SIZE);
		e->nr_never += len / PAGE_SIZE;
	}
}

int engine_uffd_start(struct pager *p)
{
	struct engine_uffd *e;
	int err = check(p);

	if (err)
		return err;
	e = calloc(1, sizeof(*e));
	if (!e)
		return kuf_error(-ENOMEM, "no memory");
	e->vm = p->vm;
	e->ops = p->config.ops;
	e->source = p->config.source;
	e->nr_pages = p->nr_pages;
	p->uffd = e;
	e->fd = -1;
	e->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->pages = calloc(e->nr_pages, 1);
	if (e->bell < 0 || !e->pages)
		return kuf_error(-ENOMEM, "no memory, or no eventfd");
	err = pageset_make(&e->wanted, e->nr_pages);
	if (err)
		return err;
	e->fd = open_uffd();
	if (e->fd < 0)
		return e->fd;
	err = drop_memory(&p->vm->mem);
	if (!err)
		err = register_memory(e);
	if (err)
		return err;
	leave_out_poison(p, e);
	p->armed_ns = pager_now();
	return server_start(&p->server, p, serve_thread);
}

struct touch {
	const u8 *from, *to;
};

static int touch(void *arg)
{
	const struct touch *t = arg;
	const u8 *at;

	for (at = t->from; at < t->to; at = (u8 *)align_down((uintptr_t)at, PAGE_SIZE) + PAGE_SIZE)
		READ_ONCE(*at);
	return 0;
}

int engine_uffd_access(struct pager *p, u64 gpa, u64 len)
{
	const u8 *from = p->vm->mem.area + mem_offset(&p->vm->mem, gpa, len);
	struct touch t = { from, from + len };
	void *broken;
	int err;

	err = guard_call(touch, &t, &broken);
	if (err)
		return vm_lost(p->vm, broken) ?: err;
	return __atomic_load_n(&p->cancelled, __ATOMIC_ACQUIRE) ? -ECANCELED : 0;
}

int engine_uffd_try_access(struct pager *p, u64 gpa, u64 len)
{
	u64 page = mem_offset(&p->vm->mem, gpa, len) / PAGE_SIZE, nr = len / PAGE_SIZE;
	struct engine_uffd *e = p->uffd;
	bool absent = false;

	if (__atomic_load_n(&p->cancelled, __ATOMIC_ACQUIRE))
		return -ECANCELED;
	for (; nr; nr--, page++) {
		if (__atomic_load_n(&e->pages[page], __ATOMIC_ACQUIRE) == PRESENT)
			continue;
		pageset_add(&e->wanted, page);
		absent = true;
	}
	if (!absent)
		return engine_uffd_access(p, gpa, len);
	bell_ring(e->bell);
	return -EAGAIN;
}

void engine_uffd_cancel(struct pager *p)
{
	if (__atomic_load_n(&p->server.err, __ATOMIC_SEQ_CST))
		engine_uffd_let_go(p);
}

void engine_uffd_let_go(struct pager *p)
{
	struct uffdio_range range;

	if (!p->uffd || !p->armed_ns)
		return;
	range.start = (uintptr_t)p->vm->mem.area;
	range.len = p->vm->mem.size;
	if (ioctl(p->uffd->fd, UFFDIO_UNREGISTER, &range))
		kuf_error(-errno, "UFFDIO_UNREGISTER");
}

void engine_uffd_report(struct pager *p, struct kuf_report *r)
{
	u64 *from = &p->uffd->counts.pages, *to = &r->pages, poisoned = r->poisoned;
	size_t i;

	/* All from there on are numbers of the same kind. */
	for (i = 0; i < (sizeof(*r) - offsetof(struct kuf_report, pages)) / sizeof(u64); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	r->pages = p->nr_pages;
	r->poisoned = poisoned;
}

void engine_uffd_release(struct pager *p)
{
	if (!p->uffd)
		return;
	if (p->uffd->fd >= 0)
		close(p->uffd->fd);
	if (p->uffd->bell >= 0)
		close(p->uffd->bell);
	pageset_free(&p->uffd->wanted);
	free(p->uffd->pages);
	free(p->uffd);
	p->uffd = NULL;
}
