// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault: how large the mappings are, with memory whose size is known
 * (hugetlb) besides transparent huge pages; that a 2M fill costs one exit, one
 * fault and one mapping; and slots with different memory side by side.
 *
 * For nested paging: with shadow paging the guest's own tables decide about
 * sizes, see userfault_shadow_test.  On EPT the code is the same; it is not run.
 */
#include <linux/sizes.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_order.h"
#include "userfault_poison.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define SPAN		(SZ_2M / PAGE_SIZE)
#define NPAGES		(2 * SPAN)
#define GENERATION	11

static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu)
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, userfault_order_code);

	userfault_enable_access(vm);
	return vm;
}

static void ok(struct kvm_vcpu *vcpu, struct userfault_slot *s,
	       enum userfault_op op, u64 page, u64 nr, u64 arg)
{
	userfault_order_ok(vcpu, s, op, userfault_gpa(s, 0), page, nr, arg);
}

static void exits(struct kvm_vcpu *vcpu, struct userfault_slot *s,
		  enum userfault_op op, u64 page)
{
	userfault_order_exits(vcpu, s, op, userfault_gpa(s, 0), page);
}

/* Have everything mapped that the guest itself needs, then nothing of the slot. */
static void warm_up(struct kvm_vcpu *vcpu, struct userfault_slot *s, u64 generation)
{
	ok(vcpu, s, USERFAULT_READ, 0, 1, 0);
	ok(vcpu, s, USERFAULT_WRITE, 0, 1, 0);
	userfault_fill_all(s, generation);
	ok(vcpu, s, USERFAULT_CHECK, 0, s->npages, generation);
	userfault_set_all(s);
	userfault_arm(s);
}

static struct userfault_slot *create_slot(struct kvm_vcpu *vcpu,
					  enum userfault_backing backing)
{
	struct kvm_vm *vm = vcpu->vm;
	struct userfault_slot *s;
	const char *why;

	if (!userfault_backing_usable(vm, backing, &why))
		TEST_FAIL("This memory has to be there: %s", why);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	warm_up(vcpu, s, GENERATION);
	return s;
}

struct counts {
	u64 huge, small, faults, fixed, exits;
};

static struct counts get_counts(struct kvm_vcpu *vcpu)
{
	return (struct counts) {
		.huge = vm_get_stat(vcpu->vm, pages_2m),
		.small = vm_get_stat(vcpu->vm, pages_4k),
		.faults = vcpu_get_stat(vcpu, pf_taken),
		.fixed = vcpu_get_stat(vcpu, pf_fixed),
		.exits = vcpu_get_stat(vcpu, userfault_exits),
	};
}

static void check_pages(struct kvm_vcpu *vcpu, struct counts *since, u64 huge,
			u64 small)
{
	TEST_ASSERT_EQ(vm_get_stat(vcpu->vm, pages_2m), since->huge + huge);
	TEST_ASSERT_EQ(vm_get_stat(vcpu->vm, pages_4k), since->small + small);
}

/*
 * A single bit keeps its span small, page by page and no further than to the
 * page itself, and leaves the other span alone.
 */
static void test_one_bit(enum userfault_backing backing)
{
	const u64 absent[] = { 0, 1, 63, 64, 255, 511 };
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct counts start;
	struct kvm_vm *vm;
	u64 page;
	int i;

	pr_info("one bit: %s\n", userfault_backing_name(backing));

	vm = create_vm(&vcpu);
	s = create_slot(vcpu, backing);
	start = get_counts(vcpu);

	for (i = 0; i < ARRAY_SIZE(absent); i++) {
		userfault_clear_all(s);
		userfault_set_bit(s, absent[i]);

		/* Up to the page, which is where it ends. */
		for (page = 0; page < absent[i]; page += 16)
			ok(vcpu, s, USERFAULT_CHECK, page, 1, GENERATION);
		exits(vcpu, s, USERFAULT_READ, absent[i]);
		check_pages(vcpu, &start, 0, DIV_ROUND_UP(absent[i], 16));

		/* Mapped huge, although its neighbour span cannot be. */
		ok(vcpu, s, USERFAULT_CHECK, SPAN, SPAN, GENERATION);
		check_pages(vcpu, &start, 1, DIV_ROUND_UP(absent[i], 16));

		/* All the others of the span, except for the page. */
		if (absent[i])
			ok(vcpu, s, USERFAULT_CHECK, 0, absent[i], GENERATION);
		if (absent[i] < SPAN - 1)
			ok(vcpu, s, USERFAULT_CHECK, absent[i] + 1,
			   SPAN - 1 - absent[i], GENERATION);
		check_pages(vcpu, &start, 1, SPAN - 1);
		exits(vcpu, s, USERFAULT_WRITE, absent[i]);

		/* The one fault that is left makes the span one mapping. */
		userfault_resolve(s, absent[i], GENERATION);
		ok(vcpu, s, USERFAULT_CHECK, absent[i], 1, GENERATION);
		check_pages(vcpu, &start, 2, 0);
		ok(vcpu, s, USERFAULT_CHECK, 0, NPAGES, GENERATION);
		check_pages(vcpu, &start, 2, 0);

		userfault_disarm(s);
		userfault_set_all(s);
		userfault_arm(s);
		check_pages(vcpu, &start, 0, 0);
	}

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/*
 * Every bit of the span is set, and the VMM fills all of it on the exit that
 * it gets: that was the only exit, and one fault maps all there is.
 */
static void test_fill_2m(enum userfault_backing backing)
{
	struct counts start, end;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 page, first;

	pr_info("2M fill: %s\n", userfault_backing_name(backing));

	vm = create_vm(&vcpu);
	s = create_slot(vcpu, backing);

	for (first = 0; first < NPAGES; first += SPAN) {
		start = get_counts(vcpu);
		userfault_order(vm, USERFAULT_CHECK, userfault_gpa(s, first),
				userfault_gfn(s, first), SPAN, GENERATION + 1);
		userfault_run_expect(vcpu, userfault_gpa(s, first),
				     KVM_MEMORY_EXIT_FLAG_READ);

		for (page = first; page < first + SPAN; page++)
			userfault_fill(s, page, GENERATION + 1);
		userfault_clear_bits(s, first, SPAN);
		userfault_order_run(vcpu);

		end = get_counts(vcpu);
		check_pages(vcpu, &start, 1, 0);
		TEST_ASSERT_EQ(end.exits, start.exits + 1);
		TEST_ASSERT_EQ(end.fixed, start.fixed + 1);
		/* The one that exited; it was mapped at re-entry. */
		TEST_ASSERT_EQ(end.faults, start.faults + 1);
	}
	TEST_ASSERT_EQ(userfault_count_bits(s), 0);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/*
 * Slots of different memory side by side, one page absent in each: each has its
 * own bitmap and its own sizes, and switching one leaves the others alone.
 */
static void test_side_by_side(void)
{
	static const struct {
		enum userfault_backing backing;
		bool huge;
	} kinds[] = {
		{ USERFAULT_ANON_HUGETLB, true },
		{ USERFAULT_ANON, false },
		{ USERFAULT_GMEM, false },
		{ USERFAULT_ANON_THP, true },
		{ USERFAULT_SHMEM, false },
	};
	struct userfault_slot *s[ARRAY_SIZE(kinds)];
	struct counts start;
	struct kvm_vcpu *vcpu;
	u64 huge = 0, small = 0;
	struct kvm_vm *vm;
	int i, j;

	pr_info("side by side\n");

	vm = create_vm(&vcpu);
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		gpa_t gpa = GPA + i * SZ_2M;

		/* No gaps: the spans touch each other. */
		s[i] = userfault_slot_create(vm, SLOT + i, gpa, SPAN,
					     kinds[i].backing, 0);
		virt_map(vm, gpa, gpa, SPAN);
		warm_up(vcpu, s[i], GENERATION + i);
		userfault_clear_all(s[i]);
		userfault_set_bit(s[i], 100 + i);
	}
	start = get_counts(vcpu);

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		ok(vcpu, s[i], USERFAULT_CHECK, 0, 100, GENERATION + i);
		exits(vcpu, s[i], USERFAULT_READ, 100 + i);
		small += 100;
		check_pages(vcpu, &start, 0, small);
	}

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		userfault_resolve(s[i], 100 + i, GENERATION + i);
		ok(vcpu, s[i], USERFAULT_CHECK, 100 + i, 1, GENERATION + i);
		huge += kinds[i].huge;
		small += kinds[i].huge ? -100 : 1;
		check_pages(vcpu, &start, huge, small);
		for (j = i + 1; j < ARRAY_SIZE(kinds); j++)
			exits(vcpu, s[j], USERFAULT_WRITE, 100 + j);
	}

	/* One slot absent as a whole, and nothing else has moved. */
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		start = get_counts(vcpu);
		userfault_disarm(s[i]);
		userfault_set_all(s[i]);
		userfault_arm(s[i]);
		for (j = 0; j < ARRAY_SIZE(kinds); j++) {
			if (i != j)
				ok(vcpu, s[j], USERFAULT_CHECK, 0, 100,
				   GENERATION + j);
		}
		TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_taken), start.faults);
		exits(vcpu, s[i], USERFAULT_READ, 0);
		exits(vcpu, s[i], USERFAULT_READ, SPAN - 1);
		userfault_clear_all(s[i]);
		ok(vcpu, s[i], USERFAULT_CHECK, 0, 101, GENERATION + i);
	}

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		userfault_slot_free(s[i]);
	kvm_vm_free(vm);
}

/* A poisoned page is taken out of its span, and the other one stays as it is. */
static void test_poison(enum userfault_backing backing, bool armed)
{
	const u64 victims[] = { 0, 77, 511 };
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct counts start;
	struct kvm_regs regs;
	struct kvm_vm *vm;
	gpa_t gpa;
	u64 page;

	pr_info("poison: %s%s\n", userfault_backing_name(backing), armed ? ", armed" : "");

	vm = create_vm(&vcpu);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_POISON);
	s = create_slot(vcpu, backing);
	start = get_counts(vcpu);
	userfault_clear_all(s);
	if (!armed)
		userfault_disarm(s);

	for (int i = 0; i < ARRAY_SIZE(victims); i++) {
		page = victims[i];
		gpa = userfault_gpa(s, page);
		ok(vcpu, s, USERFAULT_CHECK, 0, NPAGES, GENERATION);
		check_pages(vcpu, &start, 2, 0);

		userfault_poison(vm, gpa, PAGE_SIZE, KVM_USERFAULT_POISON_SET);
		check_pages(vcpu, &start, 1, 0);
		if (page)
			ok(vcpu, s, USERFAULT_CHECK, 0, page, GENERATION);
		if (page < SPAN - 1)
			ok(vcpu, s, USERFAULT_CHECK, page + 1, SPAN - 1 - page, GENERATION);
		ok(vcpu, s, USERFAULT_CHECK, SPAN, SPAN, GENERATION);
		check_pages(vcpu, &start, 1, SPAN - 1);

		vcpu_regs_get(vcpu, &regs);
		userfault_order(vm, USERFAULT_READ, gpa, userfault_gfn(s, page), 1, 0);
		userfault_assert_poison_exit(vcpu, __userfault_run(vcpu), gpa,
					     KVM_MEMORY_EXIT_FLAG_READ, false);
		vcpu_regs_set(vcpu, &regs);
		check_pages(vcpu, &start, 1, SPAN - 1);

		userfault_poison(vm, gpa, PAGE_SIZE, KVM_USERFAULT_POISON_CLEAR);
	}
	ok(vcpu, s, USERFAULT_CHECK, 0, NPAGES, GENERATION);
	check_pages(vcpu, &start, 2, 0);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();
	__TEST_REQUIRE(kvm_is_tdp_enabled(), "needs nested paging");

	test_one_bit(USERFAULT_ANON_THP);
	test_one_bit(USERFAULT_ANON_HUGETLB);
	test_fill_2m(USERFAULT_ANON_THP);
	test_fill_2m(USERFAULT_ANON_HUGETLB);
	test_side_by_side();
	for (int armed = 0; armed <= 1; armed++) {
		test_poison(USERFAULT_ANON_THP, armed);
		test_poison(USERFAULT_ANON_HUGETLB, armed);
	}
	return 0;
}
