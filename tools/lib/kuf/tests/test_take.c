// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Discarding and poisoning.
 */
#include "test.h"

static struct kuf *armed(struct kuf_region *r, uint64_t pages, uint64_t features)
{
	struct kuf *k = new_kuf(features);

	*r = new_region(k, GPA, pages, 0);
	EQUAL(kuf_arm(k, r->id), 0);
	return k;
}

static void discard_present(void)
{
	struct kuf_region r;
	struct kuf *k = armed(&r, 8, ALL_FEATURES);
	struct mock_call c;

	EQUAL(kuf_install_zero(k, 0, GPA, 8 * PAGE, NULL), 0);
	memset(r.hva, 0x77, r.len);
	EQUAL(kuf_discard(k, 0, GPA + PAGE, 3 * PAGE), 0);
	EQUAL(mock_count(KVM_USERFAULT_RESCAN, &c), 1);
	EQUAL(c.fd, MOCK_VM);
	EQUAL(c.range.gpa, GPA + PAGE);
	EQUAL(c.range.size, 3 * PAGE);
	EQUAL(state_of(k, GPA), KUF_PRESENT);
	EQUAL(state_of(k, GPA + PAGE), KUF_DISCARDED);
	EQUAL(state_of(k, GPA + 3 * PAGE), KUF_DISCARDED);
	EQUAL(state_of(k, GPA + 4 * PAGE), KUF_PRESENT);
	EQUAL(bit_of(k, GPA + PAGE), 1);
	EQUAL(bit_of(k, GPA + 4 * PAGE), 0);
	/* Their memory was given back, the others' was not. */
	CHECK(is_zero((char *)r.hva + PAGE) && is_zero((char *)r.hva + 3 * PAGE));
	EQUAL(((char *)r.hva)[0], 0x77);
	EQUAL(((char *)r.hva)[4 * PAGE], 0x77);
	EQUAL(stats_of(k).discarded, 3);

	/* Again: nothing to do. */
	EQUAL(kuf_discard(k, 0, GPA + PAGE, 3 * PAGE), 0);
	EQUAL(mock_count(KVM_USERFAULT_RESCAN, NULL), 1);
	EQUAL(stats_of(k).discarded, 3);
	kuf_destroy(k);
	free_region(&r);
}

/* The bit is set before KVM is asked, and the memory goes only after that. */
static struct kuf_region *order_region;
static struct kuf *order_k;

static int order_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == KVM_USERFAULT_RESCAN) {
		EQUAL(bit_of(order_k, GPA), 1);
		EQUAL(state_of(order_k, GPA), KUF_TAKING);
		EQUAL(((char *)order_region->hva)[0], 0x77);
	}
	return mock_ioctl(fd, request, arg);
}

static void order(void)
{
	struct kuf_region r;
	struct kuf *k = armed(&r, 1, ALL_FEATURES);

	order_k = k;
	order_region = &r;
	EQUAL(kuf_install_zero(k, 0, GPA, PAGE, NULL), 0);
	memset(r.hva, 0x77, r.len);
	kufi_ioctl = order_ioctl;
	EQUAL(kuf_discard(k, 0, GPA, PAGE), 0);
	EQUAL(mock_count(KVM_USERFAULT_RESCAN, NULL), 1);
	CHECK(is_zero(r.hva));
	kuf_destroy(k);
	free_region(&r);
}

static void discard_absent(void)
{
	struct kuf_region r;
	struct kuf *k = armed(&r, 8, KVM_USERFAULT_FEATURE_EXIT);

	/* Needs no RESCAN, as nobody can have them mapped. */
	EQUAL(kuf_discard(k, 0, GPA, 4 * PAGE), 0);
	EQUAL(state_of(k, GPA + 3 * PAGE), KUF_DISCARDED);
	EQUAL(mock_count(KVM_USERFAULT_RESCAN, NULL), 0);
	/* A page that is present does, and stays what it is. */
	EQUAL(kuf_install_zero(k, 0, GPA + 4 * PAGE, PAGE, NULL), 0);
	memset((char *)r.hva + 4 * PAGE, 0x77, PAGE);
	EQUAL(kuf_discard(k, 0, GPA + 4 * PAGE, PAGE), -EOPNOTSUPP);
	EQUAL(state_of(k, GPA + 4 * PAGE), KUF_PRESENT);
	EQUAL(bit_of(k, GPA + 4 * PAGE), 0);
	EQUAL(((char *)r.hva)[4 * PAGE], 0x77);
	/* Unless KVM does not look at the bitmap at all. */
	EQUAL(kuf_disarm(k, r.id, KUF_DISARM_FORCE), 0);
	EQUAL(kuf_discard(k, 0, GPA + 4 * PAGE, PAGE), 0);
	kuf_destroy(k);
	free_region(&r);
}

static void discard_anon(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = {
		.size = sizeof(r), .gpa = GPA, .len = 4 * PAGE, .fd = -1, .gmem_fd = -1,
	};

	r.hva = mmap(NULL, r.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EQUAL(kuf_region_add(k, &r), 0);
	EQUAL(kuf_install_zero(k, 0, GPA, 4 * PAGE, NULL), 0);
	memset(r.hva, 0x77, r.len);
	EQUAL(kuf_discard(k, 0, GPA + PAGE, PAGE), 0);
	CHECK(is_zero((char *)r.hva + PAGE));
	EQUAL(((char *)r.hva)[2 * PAGE], 0x77);
	kuf_destroy(k);
	munmap(r.hva, r.len);
}

/* More than is dealt with at once, in pieces by KVM, with signals. */
static void discard_many(void)
{
	uint64_t pages = 3 * KUFI_TAKE_CHUNK + 5, i;
	struct kuf_region r;
	struct kuf *k = armed(&r, pages, ALL_FEATURES);

	EQUAL(kuf_install_zero(k, 0, GPA, r.len, NULL), 0);
	mock.at_once = 100 * PAGE;
	mock_fail(KVM_USERFAULT_RESCAN, EINTR, 2);
	EQUAL(kuf_discard(k, 0, GPA, r.len), 0);
	for (i = 0; i < pages; i++) {
		EQUAL(state_of(k, GPA + i * PAGE), KUF_DISCARDED);
		EQUAL(bit_of(k, GPA + i * PAGE), 1);
	}
	EQUAL(mock_count(KVM_USERFAULT_RESCAN, NULL), 3 * 3 + 1 + 2);
	kuf_destroy(k);
	free_region(&r);
}

/* KVM or the file fails: what was present stays so, with its content. */
static void failures(void)
{
	struct kuf_region r;
	struct kuf *k = armed(&r, 8, ALL_FEATURES);

	EQUAL(kuf_install_zero(k, 0, GPA, 8 * PAGE, NULL), 0);
	memset(r.hva, 0x77, r.len);
	mock_fail(KVM_USERFAULT_RESCAN, EFAULT, 1);
	EQUAL(kuf_discard(k, 0, GPA, 4 * PAGE), -EFAULT);
	EQUAL(state_of(k, GPA), KUF_PRESENT);
	EQUAL(bit_of(k, GPA), 0);
	k->regions[r.id].backing_fd = 0x7000;
	EQUAL(kuf_discard(k, 0, GPA, 4 * PAGE), -EBADF);
	EQUAL(state_of(k, GPA + 3 * PAGE), KUF_PRESENT);
	EQUAL(bit_of(k, GPA + 3 * PAGE), 0);
	EQUAL(((char *)r.hva)[0], 0x77);
	EQUAL(stats_of(k).discarded, 0);
	EQUAL(kuf_discard(k, 0, GPA + 1, PAGE), -EINVAL);
	EQUAL(kuf_discard(k, 0, GPA, 9 * PAGE), -ENOENT);
	kuf_destroy(k);
	free_region(&r);
}

static void *settle_later(void *arg)
{
	struct kuf *k = arg;
	uint32_t old;
	struct kufi_wake wake = { .k = k, .region = kufi_region_find(k, 0, GPA) };

	usleep(50000);
	kufi_bit_clear(wake.region, 2);
	EQUAL(kufi_page_settle(word_of(k, GPA + 2 * PAGE), 0, &old), 0);
	kufi_wake_page(&wake, 2, old);
	return NULL;
}

/* A page that is being filled is discarded after that. */
static void discard_waits(void)
{
	struct kuf_region r;
	struct kuf *k = armed(&r, 8, ALL_FEATURES);
	pthread_t thread;

	EQUAL(kufi_page_claim(word_of(k, GPA + 2 * PAGE), 0, false), 0);
	EQUAL(pthread_create(&thread, NULL, settle_later, k), 0);
	EQUAL(kuf_discard(k, 0, GPA, 4 * PAGE), 0);
	pthread_join(thread, NULL);
	EQUAL(state_of(k, GPA + 2 * PAGE), KUF_DISCARDED);
	EQUAL(state_of(k, GPA + 3 * PAGE), KUF_DISCARDED);

	/* But not for ever. */
	k->claim_timeout_ns = 20000000;
	EQUAL(kufi_page_claim(word_of(k, GPA + 5 * PAGE), 9, false), 0);
	EQUAL(kuf_discard(k, 0, GPA + 4 * PAGE, 4 * PAGE), -ETIMEDOUT);
	EQUAL(state_of(k, GPA + 4 * PAGE), KUF_DISCARDED);
	EQUAL(state_of(k, GPA + 5 * PAGE), KUF_FILLING);
	EQUAL(state_of(k, GPA + 6 * PAGE), KUF_ABSENT);
	kuf_destroy(k);
	free_region(&r);
}

static void poison(void)
{
	struct kuf_region r;
	struct kuf *k = armed(&r, 8, ALL_FEATURES);
	char data[PAGE];

	EQUAL(kuf_install_zero(k, 0, GPA + PAGE, PAGE, NULL), 0);
	EQUAL(kuf_discard(k, 0, GPA + 2 * PAGE, PAGE), 0);
	/* KVM cannot be told; all else is done. */
	EQUAL(kuf_poison(k, 0, GPA, 3 * PAGE), -EOPNOTSUPP);
	EQUAL(mock_count(KVM_USERFAULT_RESCAN, NULL), 1);
	EQUAL(state_of(k, GPA), KUF_POISONED);
	EQUAL(state_of(k, GPA + PAGE), KUF_POISONED);
	EQUAL(state_of(k, GPA + 2 * PAGE), KUF_POISONED);
	EQUAL(bit_of(k, GPA + PAGE), 1);
	EQUAL(stats_of(k).poisoned, 3);
	EQUAL(kuf_poison(k, 0, GPA, 3 * PAGE), -EOPNOTSUPP);
	EQUAL(stats_of(k).poisoned, 3);
	/* Nothing takes it away by accident. */
	EQUAL(kuf_install(k, 0, GPA, PAGE, data, NULL), 0);
	EQUAL(kuf_install_zero(k, 0, GPA, PAGE, NULL), 0);
	EQUAL(kuf_discard(k, 0, GPA, PAGE), -EHWPOISON);
	EQUAL(state_of(k, GPA), KUF_POISONED);
	EQUAL(kuf_access(k, GPA, 1, 0, 0, NULL), -EHWPOISON);
	EQUAL(kuf_wait(k, 0, GPA, 0, NULL), -EHWPOISON);
	EQUAL(stats_of(k).poison_hits, 2);
	EQUAL(kuf_unpoison(k, 0, GPA, 8 * PAGE), 0);
	EQUAL(state_of(k, GPA), KUF_DISCARDED);
	EQUAL(state_of(k, GPA + 3 * PAGE), KUF_ABSENT);
	EQUAL(kuf_access(k, GPA, PAGE, 0, 0, NULL), 0);
	EQUAL(kuf_unpoison(k, 0, GPA, 9 * PAGE), -ENOENT);
	kuf_destroy(k);
	free_region(&r);
}

static void poison_told(void)
{
	uint64_t features = ALL_FEATURES | KVM_USERFAULT_FEATURE_POISON;
	struct kuf_region r;
	struct kuf *k = armed(&r, 8, features);
	struct mock_call c;

	mock.at_once = 2 * PAGE;
	EQUAL(kuf_poison(k, 0, GPA, 3 * PAGE), 0);
	EQUAL(mock_count(KVM_USERFAULT_POISON, &c), 2);
	EQUAL(c.range.flags, KVM_USERFAULT_POISON_SET);
	EQUAL(c.range.gpa, GPA + 2 * PAGE);
	EQUAL(c.range.size, PAGE);
	mock.at_once = 0;
	/* KVM has no room: nothing is poisoned. */
	mock_fail(KVM_USERFAULT_POISON, ENOSPC, 1);
	EQUAL(kuf_poison(k, 0, GPA + 4 * PAGE, PAGE), -ENOSPC);
	EQUAL(state_of(k, GPA + 4 * PAGE), KUF_ABSENT);
	/* What another process poisoned KVM is told by this one. */
	EQUAL(kuf_poison(k, 0, GPA, PAGE), 0);
	EQUAL(mock_count(KVM_USERFAULT_POISON, NULL), 4);
	EQUAL(kuf_unpoison(k, 0, GPA, PAGE), 0);
	mock_count(KVM_USERFAULT_POISON, &c);
	EQUAL(c.range.flags, KVM_USERFAULT_POISON_CLEAR);
	EQUAL(c.range.gpa, GPA);
	mock_fail(KVM_USERFAULT_POISON, EINVAL, 1);
	EQUAL(kuf_unpoison(k, 0, GPA + PAGE, PAGE), -EINVAL);
	EQUAL(state_of(k, GPA + PAGE), KUF_POISONED);
	kuf_destroy(k);
	free_region(&r);
}

/* Present pages are KVM's to unmap, once it knows; and whose they were is counted. */
static void poison_present(void)
{
	struct kuf_region r;
	struct kuf *k = armed(&r, 8, ALL_FEATURES | KVM_USERFAULT_FEATURE_POISON);

	EQUAL(kuf_install_zero(k, 0, GPA, 2 * PAGE, NULL), 0);
	EQUAL(kuf_poison(k, 0, GPA + PAGE, 2 * PAGE), 0);
	EQUAL(mock_count(KVM_USERFAULT_RESCAN, NULL), 0);
	EQUAL(mock_count(KVM_USERFAULT_POISON, NULL), 1);
	EQUAL(stats_of(k).poisoned, 2);
	EQUAL(stats_of(k).lost, 1);
	EQUAL(bit_of(k, GPA + PAGE), 1);
	kuf_destroy(k);
	free_region(&r);
}

/* KVM lets nobody in before the page is what he may find. */
static unsigned int clear_state, clear_bit;

static int clear_ioctl(int fd, unsigned long request, void *arg)
{
	struct kvm_userfault_range *range = arg;

	if (request == KVM_USERFAULT_POISON && range->flags == KVM_USERFAULT_POISON_CLEAR) {
		clear_state = state_of(order_k, range->gpa);
		clear_bit = bit_of(order_k, range->gpa);
		CHECK(is_zero((char *)order_region->hva + (range->gpa - GPA)));
	}
	return mock_ioctl(fd, request, arg);
}

static void unpoison(void)
{
	struct kuf_region r;
	struct kuf *k = armed(&r, 8, ALL_FEATURES | KVM_USERFAULT_FEATURE_POISON);

	order_k = k;
	order_region = &r;
	EQUAL(kuf_install_zero(k, 0, GPA, PAGE, NULL), 0);
	memset(r.hva, 0x77, PAGE);
	EQUAL(kuf_poison(k, 0, GPA, PAGE), 0);
	kufi_ioctl = clear_ioctl;
	EQUAL(kuf_unpoison(k, 0, GPA, PAGE), 0);
	EQUAL(clear_state, KUF_DISCARDED);
	EQUAL(clear_bit, 1);
	EQUAL(state_of(k, GPA), KUF_DISCARDED);
	kuf_destroy(k);
	free_region(&r);

	/* Where KVM does not look at the bit. */
	k = new_kuf(ALL_FEATURES | KVM_USERFAULT_FEATURE_POISON);
	r = new_region(k, GPA, 8, KUF_REGION_PRESENT);
	order_k = k;
	memset(r.hva, 0x77, r.len);
	EQUAL(kuf_poison(k, 0, GPA + PAGE, PAGE), 0);
	EQUAL(kuf_access(k, GPA, 2 * PAGE, 0, 0, NULL), -EHWPOISON);
	kufi_ioctl = clear_ioctl;
	EQUAL(kuf_unpoison(k, 0, GPA, 3 * PAGE), 0);
	EQUAL(clear_state, KUF_PRESENT);
	EQUAL(clear_bit, 0);
	EQUAL(state_of(k, GPA + PAGE), KUF_PRESENT);
	EQUAL(((char *)r.hva)[0], 0x77);
	EQUAL(kuf_access(k, GPA, 2 * PAGE, 0, 0, NULL), 0);
	/* KVM does not let go of it. */
	EQUAL(kuf_poison(k, 0, GPA, PAGE), 0);
	mock_fail(KVM_USERFAULT_POISON, ENOSPC, 1);
	EQUAL(kuf_unpoison(k, 0, GPA, PAGE), -ENOSPC);
	EQUAL(state_of(k, GPA), KUF_POISONED);
	EQUAL(bit_of(k, GPA), 1);
	kuf_destroy(k);
	free_region(&r);
}

static const struct test tests[] = {
	TEST(discard_present), TEST(order), TEST(discard_absent), TEST(discard_anon),
	TEST(discard_many), TEST(failures), TEST(discard_waits), TEST(poison), TEST(poison_told),
	TEST(poison_present), TEST(unpoison),
};

MAIN(tests)
