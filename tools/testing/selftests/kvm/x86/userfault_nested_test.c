// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and nested virtualisation: L2 touches a page of an armed slot,
 * through L1's nested page tables or, without them, the page tables that it has
 * in common with L1.  The exit names L1's physical address, as that is what the
 * slot and its bitmap are about; L2's is none of userspace's business.
 *
 * L1 is an SVM hypervisor here.  Under VMX the shadow MMU and the hooks in it
 * are the same; that it is compiled is all that can be said about it.
 *
 * That L1's own tables can be absent is another matter: KVM's reading of them
 * is not a guest's access.  They are always there.
 */
#include <linux/sizes.h>

#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_order.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define SPAN		(SZ_2M / PAGE_SIZE)
#define NPAGES		(2 * SPAN)
#define GENERATION	50
#define WRITTEN		0x5757575757575757ull

/* L2's address of the same memory, where L1's nested tables make one. */
#define ALIAS		0x140000000ul
#define ALIAS_PAGES	64ul

static void l1_guest_code(struct svm_test_data *svm)
{
	generic_svm_setup(svm, userfault_order_code);
	run_guest(svm->vmcb, svm->vmcb_gpa);
	/* L2 takes orders for as long as the test lasts. */
	GUEST_FAIL("L2 left to L1, exit code 0x%lx", svm->vmcb->control.exit_code);
}

static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu, struct userfault_slot **s,
				enum userfault_backing backing, u32 flags, bool npt)
{
	struct kvm_vm *vm;
	gva_t svm_gva;

	vm = vm_create_with_one_vcpu(vcpu, l1_guest_code);
	userfault_enable_access(vm);
	if (npt)
		vm_enable_npt(vm);
	vcpu_alloc_svm(vm, &svm_gva);
	vcpu_args_set(*vcpu, 1, svm_gva);

	*s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, flags);
	virt_map(vm, GPA, GPA, NPAGES);
	virt_map(vm, ALIAS, npt ? ALIAS : GPA, ALIAS_PAGES);
	if (npt) {
		tdp_identity_map_default_memslots(vm);
		tdp_map(vm, ALIAS, GPA, ALIAS_PAGES * PAGE_SIZE);
		/* As large as L1 can: sizes are then up to KVM. */
		tdp_identity_map_1g(vm, GPA, SZ_1G);
	}

	/* Into L2; an order for no page. */
	userfault_order(vm, USERFAULT_READ, 0, 0, 0, 0);
	userfault_order_run(*vcpu);
	return vm;
}

static bool in_l2(struct kvm_vcpu *vcpu)
{
	struct kvm_x86_state *state = vcpu_save_state(vcpu);
	bool ret = state->nested.flags & KVM_STATE_NESTED_GUEST_MODE;

	kvm_x86_state_cleanup(state);
	return ret;
}

/*
 * Each kind of access to an absent page exits, again and again, and goes
 * through once the page is there.  Its neighbours are in the host's memory all
 * the time and absent all the same.
 */
static void test_exits(enum userfault_backing backing, bool npt)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 page, i;

	pr_info("%s, L1 %s nested page tables\n", userfault_backing_name(backing),
		npt ? "has" : "has no");

	vm = create_vm(&vcpu, &s, backing, KVM_MEM_USERFAULT, npt);
	for (page = 0; page < ALIAS_PAGES; page++)
		userfault_scribble(s, page);
	TEST_ASSERT(in_l2(vcpu), "Not in L2");

	for (page = 0; page < 16; page++) {
		userfault_order_exits(vcpu, s, USERFAULT_READ, ALIAS, page);
		userfault_order_exits(vcpu, s, USERFAULT_EXEC, ALIAS, page);
		userfault_order_exits(vcpu, s, USERFAULT_WRITE, ALIAS, page);
		TEST_ASSERT(in_l2(vcpu), "Not in L2");

		switch (page % 3) {
		case 0:
			userfault_order(vm, USERFAULT_CHECK,
					ALIAS + page * PAGE_SIZE,
					userfault_gfn(s, page), 1, GENERATION);
			for (i = 0; i < 2; i++)
				userfault_run_expect(vcpu, userfault_gpa(s, page),
						     KVM_MEMORY_EXIT_FLAG_READ);
			userfault_resolve(s, page, GENERATION);
			userfault_order_run(vcpu);
			break;
		case 1:
			userfault_resolve(s, page, GENERATION);
			userfault_order_ok(vcpu, s, USERFAULT_WRITE, ALIAS, page,
					   1, WRITTEN);
			TEST_ASSERT_EQ(*(u64 *)userfault_alias(s, page), WRITTEN);
			break;
		case 2:
			userfault_fill_code(s, page);
			userfault_clear_bit(s, page);
			userfault_order_ok(vcpu, s, USERFAULT_EXEC, ALIAS, page,
					   1, 0);
			break;
		}
	}

	/* Page 0 is there, its bit is set late: L2's mapping is dropped too. */
	userfault_disarm(s);
	userfault_order_ok(vcpu, s, USERFAULT_CHECK, ALIAS, 0, 1, GENERATION);
	userfault_set_bit(s, 0);
	userfault_arm(s);
	userfault_scribble(s, 0);
	userfault_order_exits(vcpu, s, USERFAULT_READ, ALIAS, 0);
	/* By L2's other address of the page as well. */
	userfault_order_exits(vcpu, s, USERFAULT_READ, GPA, 0);
	userfault_resolve(s, 0, GENERATION + 1);
	userfault_order_ok(vcpu, s, USERFAULT_CHECK, ALIAS, 0, 1, GENERATION + 1);
	userfault_order_ok(vcpu, s, USERFAULT_CHECK, GPA, 0, 1, GENERATION + 1);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/*
 * L1 maps with 1G, and KVM shadows that with the sizes that the host memory and
 * the bits allow: 2M, or 4K around an absent page.
 */
static void test_levels(void)
{
	const u64 absent = 100;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 huge, page;

	pr_info("levels\n");

	vm = create_vm(&vcpu, &s, USERFAULT_ANON_THP, 0, true);
	userfault_fill_all(s, GENERATION);
	huge = vm_get_stat(vm, pages_2m);
	userfault_order_ok(vcpu, s, USERFAULT_CHECK, GPA, 0, NPAGES, GENERATION);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 2);

	userfault_set_bit(s, absent);
	userfault_arm(s);
	userfault_scribble(s, absent);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);
	for (page = 0; page < SPAN; page++) {
		if (page != absent)
			userfault_order_ok(vcpu, s, USERFAULT_CHECK, GPA, page, 1,
					   GENERATION);
		if (page % 64 == 0)
			userfault_order_exits(vcpu, s, USERFAULT_READ, GPA, absent);
	}
	userfault_order_ok(vcpu, s, USERFAULT_CHECK, GPA, SPAN, SPAN, GENERATION);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);

	userfault_resolve(s, absent, GENERATION);
	userfault_order_ok(vcpu, s, USERFAULT_CHECK, GPA, absent, 1, GENERATION);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 2);
	userfault_order_ok(vcpu, s, USERFAULT_CHECK, GPA, 0, NPAGES, GENERATION);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 2);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));

	test_exits(USERFAULT_ANON, false);
	test_exits(USERFAULT_SHMEM, false);
	if (kvm_cpu_has_npt()) {
		test_exits(USERFAULT_ANON, true);
		test_exits(USERFAULT_ANON_THP, true);
		test_exits(USERFAULT_GMEM, true);
		test_levels();
	}
	return 0;
}
