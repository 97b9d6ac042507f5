/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tests of libkuf, without KVM: what goes to it ends here.
 */
#ifndef KUF_TEST_H
#define KUF_TEST_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "internal.h"

#define PAGE		4096ull
#define GPA		0x100000ull

static const char *test_name;

#define FAIL(...) do {								\
	printf("# %s:%d: ", __FILE__, __LINE__);				\
	printf(__VA_ARGS__);							\
	printf("\nnot ok %d %s\n", test_number, test_name);			\
	fflush(stdout);								\
	_exit(1);								\
} while (0)

#define CHECK(condition) do {							\
	if (!(condition))							\
		FAIL("%s", #condition);						\
} while (0)

#define EQUAL(a, b) do {							\
	long long is_ = (long long)(a), want_ = (long long)(b);			\
										\
	if (is_ != want_)							\
		FAIL("%s is %lld, not %s (%lld)", #a, is_, #b, want_);		\
} while (0)

static int test_number;

struct test {
	const char *name;
	void (*run)(void);
};

#define TEST(function)	{ #function, function }

static inline void run_tests(const struct test *tests, int nr)
{
	alarm(120);
	printf("KTAP version 1\n1..%d\n", nr);
	fflush(stdout);
	for (test_number = 1; test_number <= nr; test_number++) {
		test_name = tests[test_number - 1].name;
		tests[test_number - 1].run();
		printf("ok %d %s\n", test_number, test_name);
		fflush(stdout);
	}
}

#define MAIN(tests)								\
int main(void)									\
{										\
	run_tests(tests, sizeof(tests) / sizeof((tests)[0]));			\
}

/*
 * KVM.
 */

#define MOCK_VM		700	/* no open file has this number */
#define MOCK_CALLS	4096

struct mock_call {
	unsigned long request;
	int fd;
	union {
		struct kvm_userfault_range range;
		struct kufi_memslot memslot;
		struct kvm_userfault_fd create;
		struct kvm_enable_cap cap;
	};
};

static struct {
	struct mock_call calls[MOCK_CALLS];
	unsigned int nr;
	int features;		/* what CHECK_EXTENSION says */
	unsigned long fail;	/* this request fails, */
	int error;		/* like this, */
	unsigned int fail_times;	/* so often */
	uint64_t at_once;	/* RESCAN, POISON: so many bytes a call; 0: all */
	int uffd;		/* what CREATE_FD returns */
	int may_poison;		/* and what it is allowed */
} mock;

static pthread_mutex_t mock_lock = PTHREAD_MUTEX_INITIALIZER;

static inline int mock_answer(unsigned long request, void *arg)
{
	struct kvm_userfault_range *range = arg;
	uint64_t n;

	switch (request) {
	case KVM_CHECK_EXTENSION:
		return (uintptr_t)arg == KVM_CAP_USERFAULT ? !!mock.features : mock.features;
	case KVM_USERFAULT_CREATE_FD:
		return mock.uffd;
	case KVM_USERFAULT_RESCAN:
	case KVM_USERFAULT_POISON:
		n = mock.at_once && mock.at_once < range->size ? mock.at_once : range->size;
		range->gpa += n;
		range->size -= n;
		return 0;
	case KVM_USERFAULT_WAKE:
		return range->flags & KVM_USERFAULT_WAKE_POISON && !mock.may_poison ? -EPERM : 0;
	case KVM_GET_API_VERSION:
		return -ENOTTY;
	default:
		return 0;
	}
}

static inline int mock_ioctl(int fd, unsigned long request, void *arg)
{
	struct mock_call *call;
	int ret;

	pthread_mutex_lock(&mock_lock);
	call = &mock.calls[mock.nr++ % MOCK_CALLS];
	memset(call, 0, sizeof(*call));
	call->request = request;
	call->fd = fd;
	if (_IOC_SIZE(request) && _IOC_SIZE(request) <= sizeof(call->memslot))
		memcpy(&call->memslot, arg, _IOC_SIZE(request));
	if (mock.fail == request && mock.fail_times) {
		mock.fail_times--;
		ret = -mock.error;
	} else {
		ret = mock_answer(request, arg);
	}
	pthread_mutex_unlock(&mock_lock);
	return ret;
}

/* How many calls there were, and the last of them. */
static inline unsigned int mock_count(unsigned long request, struct mock_call *last)
{
	unsigned int i, n = 0;

	if (last)
		memset(last, 0, sizeof(*last));
	for (i = 0; i < mock.nr && i < MOCK_CALLS; i++) {
		if (mock.calls[i].request != request)
			continue;
		n++;
		if (last)
			*last = mock.calls[i];
	}
	return n;
}

#define ALL_FEATURES	(KVM_USERFAULT_FEATURE_EXIT | KVM_USERFAULT_FEATURE_ACCESS | \
			 KVM_USERFAULT_FEATURE_RESCAN | KVM_USERFAULT_FEATURE_FD)

static inline void mock_fail(unsigned long request, int error, unsigned int times)
{
	mock.fail = request;
	mock.error = error;
	mock.fail_times = times;
}

static inline struct kuf *new_kuf(uint64_t features)
{
	struct kuf_params params = { .size = sizeof(params), .vm_fd = MOCK_VM };
	struct kuf *k;

	memset(&mock, 0, sizeof(mock));
	mock.features = features;
	kufi_ioctl = mock_ioctl;
	params.features = features;
	EQUAL(kuf_create(&params, &k), 0);
	return k;
}

/* A region of shared memory. */
static inline struct kuf_region new_region(struct kuf *k, uint64_t gpa, uint64_t pages,
					   uint32_t flags)
{
	struct kuf_region r = {
		.size = sizeof(r),
		.gpa = gpa,
		.len = pages * PAGE,
		.gmem_fd = -1,
		.flags = flags,
	};

	r.fd = memfd_create("test", MFD_CLOEXEC);
	CHECK(r.fd >= 0 && !ftruncate(r.fd, r.len));
	r.hva = mmap(NULL, r.len, PROT_READ | PROT_WRITE, MAP_SHARED, r.fd, 0);
	CHECK(r.hva != MAP_FAILED);
	EQUAL(kuf_region_add(k, &r), 0);
	return r;
}

static inline void free_region(struct kuf_region *r)
{
	munmap(r->hva, r->len);
	close(r->fd);
}

static inline unsigned int state_of(struct kuf *k, uint64_t gpa)
{
	enum kuf_state state;

	EQUAL(kuf_page_state(k, 0, gpa, &state), 0);
	return state;
}

static inline bool bit_of(struct kuf *k, uint64_t gpa)
{
	struct kufi_region *region = kufi_region_find(k, 0, gpa);

	CHECK(region);
	return kufi_bit(region, (gpa - region->r.gpa) / PAGE);
}

static inline uint32_t *word_of(struct kuf *k, uint64_t gpa)
{
	struct kufi_region *region = kufi_region_find(k, 0, gpa);

	CHECK(region);
	return &region->words[(gpa - region->r.gpa) / PAGE];
}

/* Content that tells which page it is. */
static inline void pattern(void *to, uint64_t gpa)
{
	uint64_t *p = to, i;

	for (i = 0; i < PAGE / 8; i++)
		p[i] = gpa * 0x9e3779b97f4a7c15 + i;
}

static inline bool is_pattern(const void *page, uint64_t gpa)
{
	uint64_t want[PAGE / 8];

	pattern(want, gpa);
	return !memcmp(page, want, PAGE);
}

static inline bool is_zero(const void *page)
{
	static const char zero[PAGE];

	return !memcmp(page, zero, PAGE);
}

static inline struct kuf_stats stats_of(struct kuf *k)
{
	struct kuf_stats stats = { .size = sizeof(stats) };

	EQUAL(kuf_get_stats(k, &stats), 0);
	return stats;
}

#endif /* KUF_TEST_H */
