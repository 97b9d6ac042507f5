// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Regions, arming, and looking pages up.
 */
#include "test.h"

static struct kuf_region good(void)
{
	return (struct kuf_region){
		.size = sizeof(struct kuf_region),
		.gpa = GPA,
		.len = 16 * PAGE,
		.hva = (void *)0x10000000,
		.gmem_fd = -1,
		.fd = -1,
	};
}

#define BAD(statement, error) do {						\
	struct kuf_region r = good();						\
										\
	statement;								\
	EQUAL(kuf_region_add(k, &r), -(error));					\
} while (0)

static void refused(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = good();

	BAD(r.gpa++, EINVAL);
	BAD(r.len++, EINVAL);
	BAD(r.len = 0, EINVAL);
	BAD(r.gpa = -r.len + PAGE, EINVAL);
	BAD(r.hva = (char *)r.hva + 1, EINVAL);
	BAD(r.hva = NULL, EINVAL);
	BAD(r.fd_offset = 1, EINVAL);
	BAD(r.gmem_offset = 2048, EINVAL);
	BAD(r.gmem_offset = -PAGE, EINVAL);
	BAD(r.slot = 0x10000, EINVAL);
	BAD(r.as_id = 0x10000, EINVAL);
	BAD(r.flags = 4, EINVAL);
	BAD(r.kvm_flags = KVM_MEM_USERFAULT, EINVAL);
	BAD(r.kvm_flags = KUFI_MEM_GUEST_MEMFD, EINVAL);
	/* Private memory is guest_memfd's; only that takes an install function. */
	BAD(r.flags = KUF_REGION_PRIVATE, EINVAL);
	BAD(r.install = (kuf_install_fn)refused, EINVAL);
	BAD(r.len = 1ull << 50, EINVAL);
	BAD(r.size = 4, EINVAL);
	EQUAL(kuf_region_add(k, NULL), -EINVAL);

	EQUAL(kuf_region_add(k, &r), 0);
	BAD((void)0, EEXIST);
	BAD(r.gpa += 15 * PAGE, EEXIST);
	BAD(r.gpa -= 15 * PAGE, EEXIST);
	BAD((r.gpa += PAGE, r.len = PAGE), EEXIST);
	BAD((r.gpa -= PAGE, r.len += 2 * PAGE), EEXIST);
	kuf_destroy(k);
}

static void neighbours(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = good(), low = good(), high = good(), smm = good(), top = good();

	EQUAL(kuf_region_add(k, &r), 0);
	low.gpa -= low.len;
	EQUAL(kuf_region_add(k, &low), 0);
	high.gpa += high.len;
	EQUAL(kuf_region_add(k, &high), 0);
	smm.as_id = 1;
	EQUAL(kuf_region_add(k, &smm), 0);
	/* Up to the very end of the address space. */
	top.gpa = -top.len;
	EQUAL(kuf_region_add(k, &top), 0);

	EQUAL(kufi_region_find(k, 0, GPA - 1)->id, low.id);
	EQUAL(kufi_region_find(k, 0, GPA)->id, r.id);
	EQUAL(kufi_region_find(k, 0, GPA + r.len - 1)->id, r.id);
	EQUAL(kufi_region_find(k, 0, GPA + r.len)->id, high.id);
	EQUAL(kufi_region_find(k, 1, GPA)->id, smm.id);
	EQUAL(kufi_region_find(k, 0, ~0ull)->id, top.id);
	CHECK(!kufi_region_find(k, 0, 0));
	CHECK(!kufi_region_find(k, 1, GPA - 1));
	CHECK(!kufi_region_find(k, 2, GPA));

	EQUAL(kuf_region_remove(k, r.id), 0);
	CHECK(!kufi_region_find(k, 0, GPA));
	EQUAL(kuf_region_remove(k, r.id), -ENOENT);
	EQUAL(kuf_region_remove(k, KUF_MAX_REGIONS), -ENOENT);
	EQUAL(kuf_region_add(k, &r), 0);
	kuf_destroy(k);
}

static void full(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = good();
	unsigned int i;

	for (i = 0; i < KUF_MAX_REGIONS; i++) {
		EQUAL(kuf_region_add(k, &r), 0);
		EQUAL(r.id, i);
		r.gpa += r.len;
	}
	EQUAL(kuf_region_add(k, &r), -ENOSPC);
	kuf_destroy(k);
}

/* Bits and states agree from the start, also in a last word that is not full. */
static void initial(void)
{
	static const unsigned int sizes[] = { 1, 63, 64, 65, 1000 };
	unsigned int i, page;

	for (i = 0; i < 5; i++) {
		struct kuf *k = new_kuf(ALL_FEATURES);
		struct kuf_region r = good(), p = good();

		r.len = sizes[i] * PAGE;
		p.len = r.len;
		p.gpa = GPA + r.len;
		p.flags = KUF_REGION_PRESENT;
		EQUAL(kuf_region_add(k, &r), 0);
		EQUAL(kuf_region_add(k, &p), 0);
		for (page = 0; page < sizes[i]; page++) {
			EQUAL(state_of(k, GPA + page * PAGE), KUF_ABSENT);
			EQUAL(bit_of(k, GPA + page * PAGE), 1);
			EQUAL(state_of(k, p.gpa + page * PAGE), KUF_PRESENT);
			EQUAL(bit_of(k, p.gpa + page * PAGE), 0);
		}
		kuf_destroy(k);
	}
}

static void arming(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = good(), g = good();
	struct mock_call c;

	r.slot = 7;
	r.as_id = 1;
	r.kvm_flags = 1;
	EQUAL(kuf_region_add(k, &r), 0);
	g.gpa += g.len;
	g.gmem_fd = 33;
	g.gmem_offset = 5 * PAGE;
	EQUAL(kuf_region_add(k, &g), 0);

	EQUAL(kuf_arm(k, KUF_MAX_REGIONS), -ENOENT);
	EQUAL(kuf_arm(k, 5), -ENOENT);
	mock_fail(KUFI_SET_MEMSLOT, EEXIST, 1);
	EQUAL(kuf_arm(k, r.id), -EEXIST);
	EQUAL(kuf_region_remove(k, r.id), 0);
	EQUAL(kuf_region_add(k, &r), 0);
	EQUAL(kuf_arm(k, r.id), 0);
	EQUAL(mock_count(KUFI_SET_MEMSLOT, &c), 2);
	EQUAL(c.fd, MOCK_VM);
	EQUAL(c.memslot.slot, 1 << 16 | 7);
	EQUAL(c.memslot.flags, 1 | KVM_MEM_USERFAULT);
	EQUAL(c.memslot.gpa, GPA);
	EQUAL(c.memslot.len, r.len);
	EQUAL(c.memslot.hva, (uintptr_t)r.hva);
	EQUAL(c.memslot.bitmap, (uintptr_t)k->regions[r.id].bitmap);
	EQUAL(kuf_arm(k, g.id), 0);
	mock_count(KUFI_SET_MEMSLOT, &c);
	EQUAL(c.memslot.flags, KUFI_MEM_GUEST_MEMFD | KVM_MEM_USERFAULT);
	EQUAL(c.memslot.gmem_fd, 33);
	EQUAL(c.memslot.gmem_offset, 5 * PAGE);

	EQUAL(kuf_region_remove(k, r.id), -EBUSY);
	EQUAL(kuf_disarm(k, r.id, 2), -EINVAL);
	EQUAL(kuf_disarm(k, 5, 0), -ENOENT);
	/* Pages without content would become visible. */
	EQUAL(kuf_disarm(k, r.id, 0), -EBUSY);
	mock_fail(KUFI_SET_MEMSLOT, ENOMEM, 1);
	EQUAL(kuf_disarm(k, r.id, KUF_DISARM_FORCE), -ENOMEM);
	EQUAL(kuf_region_remove(k, r.id), -EBUSY);
	EQUAL(kuf_disarm(k, r.id, KUF_DISARM_FORCE), 0);
	mock_count(KUFI_SET_MEMSLOT, &c);
	EQUAL(c.memslot.flags, 1);
	EQUAL(c.memslot.bitmap, 0);
	EQUAL(kuf_disarm(k, r.id, 0), 0);
	EQUAL(kuf_region_remove(k, r.id), 0);
	kuf_destroy(k);
}

static void disarm_when_complete(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region r = new_region(k, GPA, 4, 0);

	EQUAL(kuf_arm(k, r.id), 0);
	EQUAL(kuf_install_zero(k, 0, GPA, 3 * PAGE, NULL), 0);
	EQUAL(kuf_disarm(k, r.id, 0), -EBUSY);
	EQUAL(kuf_install_zero(k, 0, GPA, 4 * PAGE, NULL), 0);
	EQUAL(kuf_disarm(k, r.id, 0), 0);
	kuf_destroy(k);
	free_region(&r);
}

static struct kuf_cursor at(uint64_t gpa, uint32_t mask)
{
	return (struct kuf_cursor){ .size = sizeof(struct kuf_cursor), .gpa = gpa, .mask = mask };
}

static void cursors(void)
{
	struct kuf *k = new_kuf(ALL_FEATURES);
	struct kuf_region b = new_region(k, GPA + 64 * PAGE, 8, 0);
	struct kuf_region a = new_region(k, GPA, 8, 0);
	struct kuf_region top = new_region(k, -8 * PAGE, 8, 0);
	struct kuf_cursor c = at(0, 0);

	EQUAL(kuf_install_zero(k, 0, GPA + 2 * PAGE, 3 * PAGE, NULL), 0);
	EQUAL(kuf_install_zero(k, 0, b.gpa, 8 * PAGE, NULL), 0);
	EQUAL(kuf_poison(k, 0, GPA + 6 * PAGE, PAGE), -EOPNOTSUPP);
	EQUAL(kuf_next_absent(k, &c), 0);
	EQUAL(c.gpa, GPA);
	EQUAL(c.len, 2 * PAGE);
	EQUAL(kuf_next_absent(k, &c), 0);
	EQUAL(c.gpa, GPA + 5 * PAGE);
	EQUAL(c.len, PAGE);
	EQUAL(kuf_next_absent(k, &c), 0);
	EQUAL(c.gpa, GPA + 7 * PAGE);
	EQUAL(c.len, PAGE);
	EQUAL(kuf_next_absent(k, &c), 0);
	EQUAL(c.gpa, -8 * PAGE);
	EQUAL(c.len, 8 * PAGE);
	EQUAL(kuf_next_absent(k, &c), -ENOENT);

	c = at(0, 0);
	EQUAL(kuf_next_poisoned(k, &c), 0);
	EQUAL(c.gpa, GPA + 6 * PAGE);
	EQUAL(c.len, PAGE);
	EQUAL(kuf_next_poisoned(k, &c), -ENOENT);

	c = at(GPA + 3 * PAGE, KUF_MASK(KUF_PRESENT));
	EQUAL(kuf_next(k, &c), 0);
	EQUAL(c.gpa, GPA + 3 * PAGE);
	EQUAL(c.len, 2 * PAGE);

	c = at(0, 0);
	EQUAL(kuf_next(k, &c), -EINVAL);
	c = at(0, 1 << KUF_NR_STATES);
	EQUAL(kuf_next(k, &c), -EINVAL);
	c = at(0, KUF_MASK(KUF_ABSENT));
	c.as_id = 1;
	EQUAL(kuf_next(k, &c), -ENOENT);
	EQUAL(kuf_page_state(k, 0, GPA, NULL), -EINVAL);
	EQUAL(kuf_page_state(k, 0, GPA - 1, &(enum kuf_state){0}), -ENOENT);
	*word_of(k, GPA) = 7;
	EQUAL(kuf_page_state(k, 0, GPA, &(enum kuf_state){0}), -EUCLEAN);
	kuf_destroy(k);
	free_region(&a);
	free_region(&b);
	free_region(&top);
}

static const struct test tests[] = {
	TEST(refused), TEST(neighbours), TEST(full), TEST(initial), TEST(arming),
	TEST(disarm_when_complete), TEST(cursors),
};

MAIN(tests)
