// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Structures of older and newer programs, names, contexts.
 */
#include "test.h"

static void sizes(void)
{
	struct {
		struct kuf_stats stats;
		uint64_t newer;
	} s = { .stats.size = sizeof(s) };
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_stats old;

	/* A newer program, that uses nothing new; one that does. */
	EQUAL(kuf_get_stats(k, &s.stats), 0);
	s.newer = 1;
	EQUAL(kuf_get_stats(k, &s.stats), -E2BIG);
	EQUAL(s.stats.size, sizeof(s));

	/* An older one: nothing behind its structure is touched. */
	memset(&old, 0xaa, sizeof(old));
	old.size = offsetof(struct kuf_stats, events);
	EQUAL(kuf_get_stats(k, &old), 0);
	EQUAL(old.exits, 0);
	EQUAL(old.events, 0xaaaaaaaaaaaaaaaa);

	old.size = 0;
	EQUAL(kuf_get_stats(k, &old), -EINVAL);
	old.size = sizeof(size_t) - 1;
	EQUAL(kuf_get_stats(k, &old), -EINVAL);
	EQUAL(kuf_get_stats(k, NULL), -EINVAL);
	kuf_destroy(k);
}

static void contexts(void)
{
	struct kuf_params p = { .size = sizeof(p), .vm_fd = -1 };
	struct kuf *k;

	memset(&mock, 0, sizeof(mock));
	kufi_ioctl = mock_ioctl;
	EQUAL(kuf_create(&p, NULL), -EINVAL);
	EQUAL(kuf_create(NULL, &k), -EINVAL);
	p.flags = 1;
	EQUAL(kuf_create(&p, &k), -EINVAL);
	p.flags = 0;
	p.vm_fd = -2;
	EQUAL(kuf_create(&p, &k), -EINVAL);
	p.vm_fd = -1;
	p.claim_timeout_ns = -1;
	EQUAL(kuf_create(&p, &k), -EINVAL);
	p.claim_timeout_ns = 0;

	/* Features need a VM, and one that has them. */
	p.features = KVM_USERFAULT_FEATURE_FD;
	EQUAL(kuf_create(&p, &k), -EOPNOTSUPP);
	p.vm_fd = MOCK_VM;
	mock.features = KVM_USERFAULT_FEATURE_EXIT;
	EQUAL(kuf_create(&p, &k), -EOPNOTSUPP);
	EQUAL(mock_count(KVM_ENABLE_CAP, NULL), 0);
	mock.features = ALL_FEATURES;
	mock_fail(KVM_ENABLE_CAP, ENOMEM, 1);
	EQUAL(kuf_create(&p, &k), -ENOMEM);
	mock_fail(KVM_CHECK_EXTENSION, EBADF, 1);
	EQUAL(kuf_create(&p, &k), -EBADF);
	EQUAL(kuf_create(&p, &k), 0);
	kuf_destroy(k);
	kuf_destroy(NULL);
}

static void fds(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct mock_call call;
	int fd = -7, pipes[2];

	mock.uffd = 99;
	EQUAL(kuf_fd_create(k, KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_NONBLOCK, &fd), 0);
	EQUAL(fd, 99);
	EQUAL(mock_count(KVM_USERFAULT_CREATE_FD, &call), 1);
	EQUAL(call.create.flags, KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_NONBLOCK);
	EQUAL(call.create.event_size, 64);
	mock_fail(KVM_USERFAULT_CREATE_FD, EBUSY, 1);
	EQUAL(kuf_fd_create(k, 0, &fd), -EBUSY);
	EQUAL(kuf_fd_create(k, 0, NULL), -EINVAL);

	/* One that could make kuf_service() wait is refused. */
	CHECK(!pipe(pipes));
	EQUAL(kuf_set_fd(k, pipes[0]), -EINVAL);
	EQUAL(kuf_set_fd(k, MOCK_VM), -EBADF);
	CHECK(!fcntl(pipes[0], F_SETFL, O_NONBLOCK));
	EQUAL(kuf_set_fd(k, pipes[0]), 0);
	EQUAL(kuf_set_fd(k, -1), 0);
	close(pipes[0]);
	close(pipes[1]);
	kuf_destroy(k);
}

static void no_vm(void)
{
	struct kuf_params p = { .size = sizeof(p), .vm_fd = -1 };
	struct kuf_region r;
	struct kuf *k;
	int fd;

	kufi_ioctl = mock_ioctl;
	EQUAL(kuf_create(&p, &k), 0);
	EQUAL(kuf_fd_create(k, 0, &fd), -EOPNOTSUPP);
	r = new_region(k, GPA, 1, 0);
	EQUAL(kuf_arm(k, r.id), -EOPNOTSUPP);
	EQUAL(kuf_disarm(k, r.id, 0), -EOPNOTSUPP);
	kuf_destroy(k);
	free_region(&r);
}

static void names(void)
{
	EQUAL(strcmp(kuf_state_name(KUF_DISCARDED), "discarded"), 0);
	EQUAL(strcmp(kuf_state_name(KUF_ABSENT), "absent"), 0);
	EQUAL(strcmp(kuf_state_name(KUF_NR_STATES), "?"), 0);
	EQUAL(kuf_version(), KUF_VERSION);
}

/* Bucket n is [2^n, 2^(n+1)) microseconds; the ends take the rest. */
static void latency_buckets(void)
{
	static const struct {
		uint64_t ns;
		unsigned int bucket;
	} cases[] = {
		{ 0, 0 }, { 999, 0 }, { 1000, 0 }, { 1999, 0 }, { 2000, 1 }, { 3999, 1 },
		{ 4000, 2 }, { 1023999, 9 }, { 1024000, 10 }, { 8388608000, 23 },
		{ 16777216000, 23 }, { ~0ull, 23 },
	};
	unsigned int i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct kuf *k = new_kuf(ALL_FEATURES);

		kufi_latency(k, cases[i].ns);
		EQUAL(stats_of(k).latency[cases[i].bucket], 1);
		EQUAL(stats_of(k).latency_count, 1);
		EQUAL(stats_of(k).latency_sum_ns, cases[i].ns);
		kuf_destroy(k);
	}
}

static const struct test tests[] = {
	TEST(sizes), TEST(contexts), TEST(fds), TEST(no_vm), TEST(names), TEST(latency_buckets),
};

MAIN(tests)
