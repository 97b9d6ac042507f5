// SPDX-License-Identifier: GPL-2.0
/*
 * Where pages come from, and how they come through userfaultfd: on any host, without
 * KVM.  What libkuf does with the same sources is tested there, and in the test VM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "crc32c.h"
#include "engine_uffd.h"
#include "guest.h"
#include "image.h"
#include "pager.h"
#include "recording.h"
#include "vm.h"

#define FILE_NAME	"/tmp/kuf-pager-test"
#define MEM_SIZE	MIN_MEM
#define NR_PAGES	(MEM_SIZE / PAGE_SIZE)
#define THREADS		4

/* What was said first. */
static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;
static char said[512];

int kuf_error(int err, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&said_lock);
	if (!said[0]) {
		va_start(ap, fmt);
		vsnprintf(said, sizeof(said), fmt, ap);
		va_end(ap);
	}
	pthread_mutex_unlock(&said_lock);
	return err ?: -EINVAL;
}

void kuf_say(const char *fmt, ...)
{
}

/* A third of the pages is zero, in runs of several lengths. */
static bool is_zero_page(u64 page)
{
	return page % 9 < 3 || page / 64 % 8 == 5;
}

static void make_page(u64 page, u64 *to)
{
	u64 i;

	memset(to, 0, PAGE_SIZE);
	for (i = 0; !is_zero_page(page) && i < PAGE_SIZE / sizeof(*to); i++)
		to[i] = page * 0x9e3779b97f4a7c15 + i;
}

static bool page_is(u64 page, const void *content)
{
	u64 want[PAGE_SIZE / sizeof(u64)];

	make_page(page, want);
	return !memcmp(content, want, PAGE_SIZE);
}

static struct image image;
static u32 crcs[NR_PAGES];
static int image_fd;

/* A saved VM's memory, behind something else. */
static void make_image(void)
{
	u64 page, content[PAGE_SIZE / sizeof(u64)];

	image_fd = memfd_create("image", MFD_CLOEXEC);
	for (page = 0; page < NR_PAGES; page++) {
		make_page(page, content);
		crcs[page] = crc32c(0, content, PAGE_SIZE);
		if (pwrite(image_fd, content, PAGE_SIZE, (page + 3) * PAGE_SIZE) != PAGE_SIZE)
			perror("the image");
	}
	image_init(&image, image_fd, 3 * PAGE_SIZE, MEM_SIZE, crcs);
}

static int ask(u64 page, u64 nr, u32 flags)
{
	struct kuf_request request = {
		.size = sizeof(request),
		.gpa = page * PAGE_SIZE,
		.len = nr * PAGE_SIZE,
		.flags = flags,
	};

	return image_ops(&image)->request(&image, &request);
}

/* The next reply is for these pages, and right. */
static bool replied(u64 page, u64 nr, int type)
{
	struct kuf_reply reply = { .size = sizeof(reply) };
	u64 i;

	if (image_ops(&image)->receive(&image, &reply) || reply.type != type ||
	    reply.gpa != page * PAGE_SIZE || reply.len != nr * PAGE_SIZE)
		return false;
	for (i = 0; type == KUF_REPLY_DATA && i < nr; i++) {
		if (!page_is(page + i, (const u8 *)reply.data + i * PAGE_SIZE))
			return false;
	}
	return true;
}

static void test_image(void)
{
	struct kuf_request request = { .size = sizeof(request), .gpa = 4 * PAGE_SIZE,
				       .len = PAGE_SIZE };
	const struct kuf_source_ops *ops = image_ops(&image);
	u64 content[PAGE_SIZE / sizeof(u64)];
	struct kuf_reply reply = { .size = sizeof(reply) };
	int timeout = -1, i;
	unsigned int used = 0;
	bool ok;

	ok = ops->receive(&image, &reply) == -EAGAIN && !ops->pollfds(&image, NULL, 0, &used,
								    &timeout) && timeout < 0;
	/* Zeroes and content apart; what is urgent comes in between. */
	ok = ok && !ask(0, 16, 0) && replied(0, 3, KUF_REPLY_ZERO) &&
	     !ask(1000, 1, KUF_REQUEST_URGENT) && !ops->pollfds(&image, NULL, 0, &used, &timeout) &&
	     !timeout && replied(1000, 1, KUF_REPLY_ZERO) &&
	     replied(3, 6, KUF_REPLY_DATA) && replied(9, 3, KUF_REPLY_ZERO) &&
	     replied(12, 4, KUF_REPLY_DATA) && ops->receive(&image, &reply) == -EAGAIN;
	ktap_result(ok, "image-replies");

	ok = !ops->fetch(&image, &request, content) && page_is(4, content) &&
	     !ops->verify(&image, &request, content);
	content[7] ^= 1;
	said[0] = '\0';
	ok = ok && ops->verify(&image, &request, content) == -EBADMSG &&
	     strstr(said, "offset 0x4000 is damaged (CRC32C)");
	ok = ok && !image_read_page(&image, 5 * PAGE_SIZE, content) && page_is(5, content);
	ktap_result(ok, "image-verify");

	/* No room; beyond memory. */
	for (i = 0; i < IMAGE_QUEUE; i++)
		ok = ok && !ask(3, 1, 0);
	ok = ok && ask(3, 1, 0) == -EAGAIN && ask(NR_PAGES - 1, 2, 0) == -ERANGE;
	for (i = 0; i < IMAGE_QUEUE; i++)
		ok = ok && replied(3, 1, KUF_REPLY_DATA);
	ktap_result(ok, "image-limits");
}

/* A file that is shorter than it said is an error, for the pages that are not there. */
static void test_image_short(void)
{
	struct kuf_reply reply = { .size = sizeof(reply) };
	struct image cut;
	int fd = memfd_create("cut", MFD_CLOEXEC);
	struct kuf_request request = { .size = sizeof(request), .gpa = 16 * PAGE_SIZE,
				       .len = 2 * PAGE_SIZE };
	u64 content[PAGE_SIZE / sizeof(u64)];
	bool ok = !ftruncate(fd, 17 * PAGE_SIZE);

	image_init(&cut, fd, 0, MEM_SIZE, NULL);
	said[0] = '\0';
	ok = ok && !image_ops(&cut)->verify && !image_ops(&cut)->request(&cut, &request) &&
	     !image_ops(&cut)->receive(&cut, &reply) && reply.type == KUF_REPLY_FAILED &&
	     reply.error == -ENODATA && strstr(said, "offset 0x10000") &&
	     image_read_page(&cut, 17 * PAGE_SIZE, content) == -ENODATA;
	close(fd);
	ktap_result(ok, "image-short");
}

static bool reads(int want)
{
	struct kuf_trace_entry *entries;
	u64 nr;
	int err;

	said[0] = '\0';
	err = recording_read(FILE_NAME, &entries, &nr);
	if (!err)
		free(entries);
	return err == want && (!err || strstr(said, FILE_NAME));
}

static void change(off_t at)
{
	int fd = open(FILE_NAME, O_RDWR);
	u8 byte = 0;

	if (pread(fd, &byte, 1, at) == 1) {
		byte ^= 4;
		if (pwrite(fd, &byte, 1, at) != 1)
			perror(FILE_NAME);
	}
	close(fd);
}

static void test_recording(void)
{
	struct kuf_trace_entry out[100], *in = NULL;
	u64 nr = 0, i;
	bool ok;

	for (i = 0; i < ARRAY_SIZE(out); i++)
		out[i] = (struct kuf_trace_entry){ .gpa = i * 7 * PAGE_SIZE, .time_us = i };
	unlink(FILE_NAME);
	ok = reads(-ENOENT) && !recording_write(FILE_NAME, out, ARRAY_SIZE(out)) &&
	     !recording_read(FILE_NAME, &in, &nr) && nr == ARRAY_SIZE(out) &&
	     !memcmp(in, out, sizeof(out));
	free(in);
	ktap_result(ok, "recording");

	change(3);
	ok = reads(-EBADMSG);
	change(3);
	change(400);
	ok = ok && reads(-EBADMSG);
	change(400);
	ok = ok && reads(0) && !truncate(FILE_NAME, 400) && reads(-EBADMSG) &&
	     !truncate(FILE_NAME, 0) && reads(-EINVAL) &&
	     !truncate(FILE_NAME, 1ll << 40) && reads(-EINVAL);
	ok = ok && !recording_write(FILE_NAME, NULL, 0) && reads(0);
	unlink(FILE_NAME);
	ok = ok && recording_write("/none/file", out, 1) == -ENOENT;
	ktap_result(ok, "recording-damaged");
}

/* A VM that has only memory. */
static struct vm vm;
static struct pager pager;

static int start(enum mem_backing backing, enum kuf_policy_kind kind,
		 const struct kuf_source_ops *ops, void *source)
{
	struct pager_config config = {
		.engine = PAGER_UFFD,
		.mode = PAGER_THREAD,
		.ops = ops,
		.source = source,
		.policy.kind = kind,
	};
	pthread_condattr_t attr;

	vm = (struct vm){ .fd = -1, .kvm_fd = -1 };
	pthread_mutex_init(&vm.lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&vm.stopped_cond, &attr);
	pthread_condattr_destroy(&attr);
	said[0] = '\0';
	if (mem_create(&vm.mem, backing, MEM_SIZE, -1))
		return -ENOMEM;
	/* What loading a VM left there. */
	memset(vm.mem.area, 0xee, 16 * PAGE_SIZE);
	pager_init(&pager);
	return pager_start(&pager, &vm, &config);
}

static void end(void)
{
	mem_destroy(&vm.mem);
	pager_release(&pager);
}

struct reader {
	pthread_t thread;
	unsigned int nr;
	u64 wrong;
};

/* Threads in each other's way: all of them read all pages, each in its own order. */
static void *read_pages(void *arg)
{
	struct reader *r = arg;
	u64 i, page;
	void *p;

	for (i = 0; i < NR_PAGES; i++) {
		page = (i * (2 * r->nr + 1) * 4099 + r->nr * 1000) % NR_PAGES;
		/* As the guest does it, and as devices do. */
		if (r->nr & 1 && pager_access(&pager, page * PAGE_SIZE, PAGE_SIZE, false))
			r->wrong++;
		p = vm.mem.area + page * PAGE_SIZE;
		r->wrong += !page_is(page, p);
	}
	return NULL;
}

static u64 read_all_pages(void)
{
	struct reader readers[THREADS];
	unsigned int i;
	u64 wrong = 0;

	for (i = 0; i < THREADS; i++) {
		readers[i] = (struct reader){ .nr = i };
		if (pthread_create(&readers[i].thread, NULL, read_pages, &readers[i]))
			return 1;
	}
	for (i = 0; i < THREADS; i++) {
		pthread_join(readers[i].thread, NULL);
		wrong += readers[i].wrong;
	}
	return wrong;
}

/* Has room for one request at a time. */
static int narrow_request(void *source, const struct kuf_request *request)
{
	if (image.urgent.nr + image.background.nr)
		return -EAGAIN;
	return image_ops(&image)->request(source, request);
}

static void test_uffd(enum mem_backing backing, enum kuf_policy_kind kind, bool narrow)
{
	struct kuf_source_ops ops = *image_ops(&image);
	struct kuf_report r;
	u64 sum = 0, i;
	bool ok;

	if (narrow)
		ops.request = narrow_request;
	ok = !start(backing, kind, &ops, &image) && !read_all_pages();
	ok = !pager_stop(&pager) && ok;
	pager_report(&pager, &r);
	for (i = 0; i < KUF_LATENCY_BUCKETS; i++)
		sum += r.latency[i];
	ok = ok && r.pages == NR_PAGES && r.present == NR_PAGES && r.failed == 0 &&
	     r.demand + r.background == NR_PAGES && r.populated_ns > r.armed_ns &&
	     r.zero > NR_PAGES / 4 && r.zero < NR_PAGES / 2 && sum == r.latency_count &&
	     r.latency_count <= r.demand && r.events >= r.demand;
	ok = ok && (kind == KUF_LAZY ? !r.background && r.working_set_ns : r.background > 0);
	if (!ok)
		printf("# said: %s; %llu needed, %llu ahead, %llu zeroes, %llu events\n", said,
		       (unsigned long long)r.demand, (unsigned long long)r.background,
		       (unsigned long long)r.zero, (unsigned long long)r.events);
	end();
	ktap_result(ok, "uffd-%s-%s%s", mem_backing_name(backing),
		    kind == KUF_LAZY ? "lazy" : "background", narrow ? "-narrow" : "");
}

/* Nobody reads anything, and it all comes. */
static void test_uffd_populated(void)
{
	struct kuf_report r;
	bool ok;
	int i;

	ok = !start(MEM_SHMEM, KUF_EAGER, image_ops(&image), &image);
	for (i = 0; ok && i < 6000; i++) {
		pager_report(&pager, &r);
		if (r.populated_ns)
			break;
		usleep(10000);
	}
	ok = !pager_stop(&pager) && ok;
	pager_report(&pager, &r);
	ok = ok && r.populated_ns && r.background == NR_PAGES && !r.events;
	end();
	ktap_result(ok, "uffd-populated");
}

/* A damaged page stops the VM, and whoever waits for it is told, not given zeroes. */
static void test_uffd_damaged(void)
{
	bool ok, stopped;

	crcs[5000] ^= 1;
	ok = !start(MEM_ANON, KUF_LAZY, image_ops(&image), &image) &&
	     !pager_access(&pager, 4999 * PAGE_SIZE, PAGE_SIZE, false);
	if (ok) {
		struct reader r = { .nr = 1 };

		/* Reads until it comes to that page. */
		pthread_create(&r.thread, NULL, read_pages, &r);
		stopped = !vm_wait(&vm, 60) && vm.exit_code == KUF_EXIT_PAGER;
		pager_cancel(&pager);
		pthread_join(r.thread, NULL);
		ok = stopped && r.wrong && strstr(said, "offset 0x1388000 is damaged");
		ok = ok && pager_access(&pager, 0, PAGE_SIZE, false) == -ECANCELED;
	}
	ok = pager_stop(&pager) == -EIO && ok;
	end();
	crcs[5000] ^= 1;
	ktap_result(ok, "uffd-damaged");
}

/* Who does not wait is told so, and gets it later on. */
static void test_uffd_try(void)
{
	static u64 page = 77;
	bool ok;
	int i, err = -EAGAIN;

	ok = !start(MEM_SHMEM, KUF_LAZY, image_ops(&image), &image) &&
	     pager_try_access(&pager, page * PAGE_SIZE, 2 * PAGE_SIZE) == -EAGAIN;
	for (i = 0; ok && i < 6000 && err == -EAGAIN; i++) {
		usleep(1000);
		err = pager_try_access(&pager, page * PAGE_SIZE, 2 * PAGE_SIZE);
	}
	ok = ok && !err && page_is(page, vm.mem.area + page * PAGE_SIZE) &&
	     page_is(page + 1, vm.mem.area + (page + 1) * PAGE_SIZE);
	pager_cancel(&pager);
	ok = ok && pager_try_access(&pager, page * PAGE_SIZE, PAGE_SIZE) == -ECANCELED &&
	     pager_try_access(&pager, 500 * PAGE_SIZE, PAGE_SIZE) == -ECANCELED;
	ok = !pager_stop(&pager) && ok;
	end();
	ktap_result(ok, "uffd-try");
}

static void *read_word(void *arg)
{
	return (void *)READ_ONCE(*(u64 *)arg);
}

/* It was poisoned, and its memory given back when it was made usable again. */
static void test_uffd_cleared(enum mem_backing backing)
{
	struct timespec until;
	pthread_t thread;
	void *word = NULL, *at;
	bool ok;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 60;
	ok = !start(backing, KUF_LAZY, image_ops(&image), &image);
	at = vm.mem.area + 77 * PAGE_SIZE;
	ok = ok && !pager_access(&pager, 77 * PAGE_SIZE, PAGE_SIZE, false) && *(u64 *)at &&
	     !madvise(at, PAGE_SIZE, backing == MEM_ANON ? MADV_DONTNEED : MADV_REMOVE) &&
	     !pthread_create(&thread, NULL, read_word, at);
	if (ok && pthread_timedjoin_np(thread, &word, &until)) {
		/* Nothing ends that one. */
		ktap_result(false, "uffd-cleared-%s", mem_backing_name(backing));
		exit(1);
	}
	ok = ok && !word && !pager_access(&pager, 77 * PAGE_SIZE, PAGE_SIZE, false);
	ok = !pager_stop(&pager) && ok;
	end();
	ktap_result(ok, "uffd-cleared-%s", mem_backing_name(backing));
}

static bool gate;

static int gated_receive(void *source, struct kuf_reply *reply)
{
	return __atomic_load_n(&gate, __ATOMIC_ACQUIRE) ?
	       image_ops(&image)->receive(source, reply) : -EAGAIN;
}

static int gated_pollfds(void *source, struct pollfd *fds, unsigned int nr, unsigned int *used,
			 int *timeout_ms)
{
	*timeout_ms = 10;
	return 0;
}

static void *access_page(void *arg)
{
	return (void *)(intptr_t)pager_access(&pager, *(u64 *)arg * PAGE_SIZE, PAGE_SIZE, false);
}

/* The VM ends while a device waits for a page that does not come, or comes too late. */
static void test_uffd_let_go(void)
{
	struct kuf_source_ops ops = *image_ops(&image);
	struct kuf_report r = {};
	struct timespec until;
	void *access = NULL;
	u64 page = 77;
	pthread_t thread;
	bool ok;
	int i;

	ops.receive = gated_receive;
	ops.pollfds = gated_pollfds;
	ok = !start(MEM_SHMEM, KUF_LAZY, &ops, &image) &&
	     !pthread_create(&thread, NULL, access_page, &page);
	for (i = 0; ok && i < 6000 && !r.events; i++) {
		usleep(10000);
		pager_report(&pager, &r);
	}
	pager_cancel(&pager);
	pager_let_go(&pager);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 60;
	if (ok && pthread_timedjoin_np(thread, &access, &until)) {
		ktap_result(false, "uffd-let-go");
		exit(1);
	}
	__atomic_store_n(&gate, true, __ATOMIC_RELEASE);
	/* It ends by itself, or is about to. */
	usleep(100000);
	ok = !pager_stop(&pager) && ok;
	if (!ok || said[0])
		printf("# said: %s; %td\n", said, (intptr_t)access);
	end();
	ktap_result(ok && (intptr_t)access == -ECANCELED && !said[0], "uffd-let-go");
}

static void test_uffd_refused(void)
{
	bool ok = start(MEM_ANON, KUF_RECORDED, image_ops(&image), &image) == -EOPNOTSUPP &&
		  strstr(said, "without recordings");

	pager_stop(&pager);
	end();
	ktap_result(ok, "uffd-refused");
}

int main(void)
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	make_image();
	ktap_plan(6 + (fd < 0 ? 0 : 12));
	test_image();
	test_image_short();
	test_recording();
	if (fd < 0) {
		printf("# no userfaultfd here: %s\n", strerror(errno));
		return ktap_end();
	}
	close(fd);
	test_uffd(MEM_ANON, KUF_LAZY, false);
	test_uffd(MEM_SHMEM, KUF_LAZY, false);
	test_uffd(MEM_ANON, KUF_EAGER, false);
	test_uffd(MEM_SHMEM, KUF_EAGER, false);
	test_uffd(MEM_ANON, KUF_EAGER, true);
	test_uffd_populated();
	test_uffd_damaged();
	test_uffd_try();
	test_uffd_cleared(MEM_ANON);
	test_uffd_cleared(MEM_SHMEM);
	test_uffd_let_go();
	test_uffd_refused();
	return ktap_end();
}
