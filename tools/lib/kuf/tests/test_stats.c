// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What is counted of pages and faults, and whether bits and states agree.
 */
#include "test.h"

/* Filled because somebody needed it, whoever had asked first, or just filled. */
static void demanded(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	char data[PAGE] = "";
	bool fresh;

	EQUAL(kuf_install(k, 0, GPA, PAGE, data, NULL), 0);
	EQUAL(kuf_install_zero(k, 0, GPA + PAGE, PAGE, NULL), 0);
	EQUAL(kufi_page_request(word_of(k, GPA + 2 * PAGE), 0, &fresh), 0);
	EQUAL(kuf_install(k, 0, GPA + 2 * PAGE, PAGE, data, NULL), 0);
	EQUAL(stats_of(k).demanded, 0);

	EQUAL(kuf_access(k, GPA + 3 * PAGE, 1, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(kuf_install(k, 0, GPA + 3 * PAGE, PAGE, data, NULL), 0);
	EQUAL(kufi_page_request(word_of(k, GPA + 4 * PAGE), 0, &fresh), 0);
	EQUAL(kuf_access(k, GPA + 4 * PAGE, 1, 0, 0, NULL), -ETIMEDOUT);
	EQUAL(kuf_install_zero(k, 0, GPA + 4 * PAGE, PAGE, NULL), 0);
	EQUAL(stats_of(k).demanded, 2);
	EQUAL(stats_of(k).installed + stats_of(k).zeroed, 5);
	kuf_destroy(k);
	free_region(&r);
}

static void exit_with(struct kuf *k, uint64_t flags)
{
	struct kuf_exit ex = { .size = sizeof(ex) };
	struct kvm_run run = { .exit_reason = KUFI_EXIT_MEMORY_FAULT };
	struct kufi_memory_fault fault = {
		.flags = KVM_MEMORY_EXIT_FLAG_USERFAULT | flags, .gpa = GPA, .size = PAGE,
	};

	memcpy(&run.hw, &fault, sizeof(fault));
	EQUAL(kuf_vcpu_exit(k, &run, EFAULT, &ex), 0);
	EQUAL(ex.action, KUF_WAIT);
}

static void faults(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 8, 0);
	struct kuf_service s = { .size = sizeof(s) };
	struct kvm_userfault_event e = {
		.gpa = GPA, .size = PAGE, .time_ns = kufi_now(),
		.flags = KVM_MEMORY_EXIT_FLAG_USERFAULT | KVM_MEMORY_EXIT_FLAG_OWN |
			 KVM_MEMORY_EXIT_FLAG_PAGE_WALK,
	};
	int ends[2];

	exit_with(k, 0);
	exit_with(k, KVM_MEMORY_EXIT_FLAG_OWN);
	exit_with(k, KVM_MEMORY_EXIT_FLAG_PAGE_WALK);
	EQUAL(stats_of(k).own, 1);
	EQUAL(stats_of(k).walks, 1);

	CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends));
	EQUAL(kuf_set_fd(k, ends[0]), 0);
	EQUAL(write(ends[1], &e, sizeof(e)), sizeof(e));
	EQUAL(kuf_service(k, &s), 0);
	EQUAL(stats_of(k).exits, 3);
	EQUAL(stats_of(k).events, 1);
	EQUAL(stats_of(k).own, 2);
	EQUAL(stats_of(k).walks, 2);
	close(ends[0]);
	close(ends[1]);
	kuf_destroy(k);
	free_region(&r);
}

static uint64_t wrong(struct kuf *k)
{
	uint64_t n = 99;

	EQUAL(kuf_check(k, &n), 0);
	return n;
}

static void check(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 100, 0);
	struct kufi_region *region = &k->regions[r.id];

	EQUAL(kuf_check(k, NULL), -EINVAL);
	EQUAL(wrong(k), 0);
	EQUAL(kuf_install_zero(k, 0, GPA + 60 * PAGE, 10 * PAGE, NULL), 0);
	EQUAL(kuf_discard(k, 0, GPA + 62 * PAGE, PAGE), 0);
	EQUAL(kuf_poison(k, 0, GPA + 63 * PAGE, PAGE), -EOPNOTSUPP);
	EQUAL(wrong(k), 0);

	/* Let go too early; kept back. */
	kufi_bit_clear(region, 99);
	kufi_bit_set(region, 60);
	kufi_bit_clear(region, 63);
	EQUAL(wrong(k), 3);
	kufi_bit_set(region, 99);
	kufi_bit_clear(region, 60);
	kufi_bit_set(region, 63);
	EQUAL(wrong(k), 0);

	/* The bit is the claim's holder's to change. */
	EQUAL(kufi_page_claim(&region->words[1], 0, false), 0);
	kufi_bit_clear(region, 1);
	EQUAL(wrong(k), 0);
	kuf_destroy(k);
	free_region(&r);
}

static const struct test tests[] = {
	TEST(demanded), TEST(faults), TEST(check),
};

MAIN(tests)
