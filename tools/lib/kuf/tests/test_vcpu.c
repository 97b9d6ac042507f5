// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * vCPU exits: what they are, and what is to be done.
 */
#include "test.h"

static struct kvm_run run;

static void set_exit(uint64_t gpa, uint64_t flags)
{
	struct kufi_memory_fault fault = { .flags = flags, .gpa = gpa, .size = PAGE };

	memset(&run, 0, sizeof(run));
	run.exit_reason = KUFI_EXIT_MEMORY_FAULT;
	memcpy(&run.hw, &fault, sizeof(fault));
}

#define USERFAULT	KVM_MEMORY_EXIT_FLAG_USERFAULT

static struct kuf_exit exit_of(struct kuf *k, int error, uint32_t flags)
{
	struct kuf_exit ex = { .size = sizeof(ex), .flags = flags, .action = -1 };

	EQUAL(kuf_vcpu_exit(k, &run, error, &ex), 0);
	return ex;
}

static void not_mine(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);

	set_exit(GPA, USERFAULT);
	EQUAL(exit_of(k, 0, 0).action, KUF_NOT_MINE);
	EQUAL(exit_of(k, EINTR, 0).action, KUF_NOT_MINE);
	run.exit_reason = 2;
	EQUAL(exit_of(k, EFAULT, 0).action, KUF_NOT_MINE);
	/* A conversion between shared and private, a write-protected page. */
	set_exit(GPA, 1 << 3);
	EQUAL(exit_of(k, EFAULT, 0).action, KUF_NOT_MINE);
	set_exit(GPA, KVM_MEMORY_EXIT_FLAG_USERFAULT_WP);
	EQUAL(exit_of(k, EFAULT, 0).action, KUF_NOT_MINE);
	/* Somewhere else. */
	set_exit(GPA - 1, USERFAULT);
	EQUAL(exit_of(k, EFAULT, 0).action, KUF_NOT_MINE);
	set_exit(GPA, USERFAULT);
	run.flags = 1;
	EQUAL(exit_of(k, EFAULT, 0).action, KUF_NOT_MINE);
	EQUAL(stats_of(k).exits, 0);
	kuf_destroy(k);
	free_region(&r);
}

static void bad_arguments(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_exit ex = { .size = sizeof(ex), .flags = 2 };

	EQUAL(kuf_vcpu_exit(k, &run, 0, &ex), -EINVAL);
	ex.flags = 0;
	EQUAL(kuf_vcpu_exit(k, NULL, 0, &ex), -EINVAL);
	EQUAL(kuf_vcpu_exit(k, &run, 0, NULL), -EINVAL);
	kuf_destroy(k);
}

static void states(void)
{
	static const int want[KUF_NR_STATES] = {
		[KUF_ABSENT] = KUF_WAIT, [KUF_REQUESTED] = KUF_WAIT, [KUF_FILLING] = KUF_WAIT,
		[KUF_PRESENT] = KUF_RUN_AGAIN, [KUF_TAKING] = KUF_WAIT,
		[KUF_DISCARDED] = KUF_RUN_AGAIN, [KUF_POISONED] = KUF_POISON_HIT,
	};
	static const unsigned int then[KUF_NR_STATES] = {
		KUF_REQUESTED, KUF_REQUESTED, KUF_FILLING, KUF_PRESENT, KUF_TAKING, KUF_PRESENT,
		KUF_POISONED,
	};
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	unsigned int state;

	for (state = 0; state < KUF_NR_STATES; state++) {
		struct kuf_exit ex;

		*word_of(k, GPA + PAGE) = state;
		set_exit(GPA + PAGE, USERFAULT | KVM_MEMORY_EXIT_FLAG_WRITE);
		ex = exit_of(k, EFAULT, 0);
		EQUAL(ex.action, want[state]);
		EQUAL(ex.gpa, GPA + PAGE);
		EQUAL(ex.len, PAGE);
		EQUAL(ex.access, USERFAULT | KVM_MEMORY_EXIT_FLAG_WRITE);
		EQUAL(ex.as_id, 0);
		EQUAL(state_of(k, GPA + PAGE), then[state]);
	}
	EQUAL(stats_of(k).exits, KUF_NR_STATES);
	*word_of(k, GPA) = 7;
	set_exit(GPA, USERFAULT);
	EQUAL(kuf_vcpu_exit(k, &run, EFAULT, &(struct kuf_exit){ .size = sizeof(struct kuf_exit) }),
	      -EUCLEAN);
	kuf_destroy(k);
	free_region(&r);
}

static void kvm_says_poison(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, KUF_REGION_PRESENT);
	struct kuf_exit ex;

	set_exit(GPA + 2 * PAGE, KVM_MEMORY_EXIT_FLAG_POISON | KVM_MEMORY_EXIT_FLAG_READ);
	ex = exit_of(k, EHWPOISON, 0);
	EQUAL(ex.action, KUF_POISON_HIT);
	EQUAL(ex.gpa, GPA + 2 * PAGE);
	EQUAL(stats_of(k).poison_hits, 1);
	EQUAL(stats_of(k).exits, 0);
	kuf_destroy(k);
	free_region(&r);
}

/* Nobody can run on without the bitmap. */
static void unreadable(void)
{
	struct kuf_exit ex = { .size = sizeof(ex) };
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);

	set_exit(GPA, USERFAULT | KVM_MEMORY_EXIT_FLAG_BITMAP);
	EQUAL(kuf_vcpu_exit(k, &run, EFAULT, &ex), -EFAULT);
	EQUAL(ex.gpa, GPA);
	kuf_destroy(k);
	free_region(&r);
}

static void smm(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	struct kuf_region s = {
		.size = sizeof(s), .gpa = GPA, .len = PAGE, .hva = r.hva, .fd = -1,
		.gmem_fd = -1, .as_id = 1,
	};
	struct kuf_exit ex;

	EQUAL(kuf_region_add(k, &s), 0);
	set_exit(GPA, USERFAULT);
	run.flags = 1;
	ex = exit_of(k, EFAULT, 0);
	EQUAL(ex.action, KUF_WAIT);
	EQUAL(ex.as_id, 1);
	EQUAL(state_of(k, GPA), KUF_ABSENT);
	EQUAL(kufi_state(k->regions[s.id].words[0]), KUF_REQUESTED);
	kuf_destroy(k);
	free_region(&r);
}

/* The vCPU's own thread fetches. */
static int fetch_result, fetches;

static int fetch(void *source, const struct kuf_request *request, void *to)
{
	EQUAL((uintptr_t)source, 5);
	EQUAL(request->len, PAGE);
	EQUAL(request->flags, KUF_REQUEST_URGENT);
	fetches++;
	if (!fetch_result)
		pattern(to, request->gpa);
	return fetch_result;
}

static void serves_itself(void)
{
	struct kuf_source_ops ops = { .size = sizeof(ops), .fetch = fetch };
	struct kuf_exit ex = { .size = sizeof(ex), .flags = KUF_EXIT_SERVE };
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);

	EQUAL(kuf_set_source(k, &ops, (void *)5), 0);
	set_exit(GPA, USERFAULT);
	EQUAL(exit_of(k, EFAULT, 0).action, KUF_WAIT);
	EQUAL(exit_of(k, EFAULT, KUF_EXIT_SERVE).action, KUF_RUN_AGAIN);
	CHECK(is_pattern(r.hva, GPA));
	EQUAL(bit_of(k, GPA), 0);
	EQUAL(stats_of(k).latency_count, 1);
	/* Once. */
	EQUAL(exit_of(k, EFAULT, KUF_EXIT_SERVE).action, KUF_RUN_AGAIN);
	EQUAL(fetches, 1);
	/* It fails: absent still, and nothing is present by accident. */
	set_exit(GPA + PAGE, USERFAULT);
	fetch_result = -EIO;
	EQUAL(kuf_vcpu_exit(k, &run, EFAULT, &ex), -EIO);
	EQUAL(state_of(k, GPA + PAGE), KUF_ABSENT);
	EQUAL(bit_of(k, GPA + PAGE), 1);
	fetch_result = 0;
	EQUAL(kuf_vcpu_exit(k, &run, EFAULT, &ex), 0);
	EQUAL(ex.action, KUF_RUN_AGAIN);
	/* So do device models. */
	EQUAL(kuf_access(k, GPA + PAGE, 4 * PAGE, KUF_ACCESS_SERVE, 0, NULL), 0);
	CHECK(is_pattern((char *)r.hva + 4 * PAGE, GPA + 4 * PAGE));
	fetch_result = -EIO;
	EQUAL(kuf_access(k, GPA + 6 * PAGE, 1, KUF_ACCESS_SERVE, 0, NULL), -EIO);
	kuf_destroy(k);
	free_region(&r);
}

static const struct test tests[] = {
	TEST(not_mine), TEST(bad_arguments), TEST(states), TEST(kvm_says_poison),
	TEST(unreadable), TEST(smm), TEST(serves_itself),
};

MAIN(tests)
