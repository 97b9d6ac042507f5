// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and what an SVM hypervisor shares with KVM: its VMCB when L2 is entered
 * and left, its bitmaps of MSRs and ports, its nested page tables.  None of that can
 * fail because a page is absent: a VMCB that cannot be written would be the end of L1.
 */
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_l2.h"

#define DATA		0x6677889900112233ull

static u64 own_waits(struct kvm_vcpu *vcpu)
{
	return vcpu_get_stat(vcpu, userfault_own_waits);
}

/* L1's order up to L2's port, or beyond it to L1's next. */
static void run_to(struct userfault_taker *t, struct kvm_vcpu *vcpu, u16 port)
{
	userfault_take_run_ok(t, vcpu);
	userfault_assert_port(vcpu, port);
}

/* The whole way round, with everything there. */
static void round_trip(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	userfault_l2_order(vcpu->vm, USERFAULT_L1_VMRUN, USERFAULT_L2_NOTHING);
	run_to(t, vcpu, USERFAULT_L2_PORT);
	TEST_ASSERT_EQ(t->nr_events, 0);
	run_to(t, vcpu, USERFAULT_L1_PORT);
	TEST_ASSERT_EQ(t->nr_events, 0);
}

static void test_vmcb(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	struct vmcb *vmcb = userfault_alias(t->s, USERFAULT_VMCB);
	u64 waits = own_waits(vcpu);

	/* VMRUN. */
	userfault_l2_order(vcpu->vm, USERFAULT_L1_VMRUN, USERFAULT_L2_NOTHING);
	userfault_take(t, USERFAULT_VMCB);
	run_to(t, vcpu, USERFAULT_L2_PORT);
	userfault_take_assert_one(t, USERFAULT_VMCB, USERFAULT_OWN_WRITE);
	TEST_ASSERT_EQ(vmcb->control.exit_code, 0);

	/* #VMEXIT; L1 looks at what is in there. */
	userfault_take(t, USERFAULT_VMCB);
	run_to(t, vcpu, USERFAULT_L1_PORT);
	userfault_take_assert_one(t, USERFAULT_VMCB, USERFAULT_OWN_WRITE);
	TEST_ASSERT_EQ(own_waits(vcpu), waits + 2);

	round_trip(t, vcpu);
}

/* Nobody serves for a while: the #VMEXIT stays where it is, signals or not. */
static void test_late_fd(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	struct userfault_runner r;

	TEST_ASSERT_EQ(t->fd, -1);
	userfault_l2_order(vcpu->vm, USERFAULT_L1_VMRUN, USERFAULT_L2_NOTHING);
	userfault_run(vcpu);
	userfault_assert_port(vcpu, USERFAULT_L2_PORT);

	userfault_take(t, USERFAULT_VMCB);
	userfault_runner_start(&r, vcpu);
	userfault_runner_assert_waits(&r);
	userfault_runner_kick(&r);
	userfault_runner_assert_waits(&r);

	t->fd = userfault_fd_create(t->s->vm, KVM_USERFAULT_FD_NONBLOCK);
	userfault_take_event(t, USERFAULT_VMCB, USERFAULT_OWN_WRITE);
	userfault_give(t, USERFAULT_VMCB);
	userfault_fd_wake(t->fd, userfault_gpa(t->s, USERFAULT_VMCB), PAGE_SIZE);
	userfault_runner_join(&r);
	/* The signal is from before, so it may have come first or not at all. */
	if (r.ret) {
		TEST_ASSERT_EQ(r.error, EINTR);
		userfault_run(vcpu);
	}
	userfault_assert_port(vcpu, USERFAULT_L1_PORT);
}

/* If the CPU carries them out, it is the guest that accesses the page. */
static void test_vmload(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	enum userfault_l1_op op;

	if (get_kvm_amd_param_integer("vls"))
		return;
	for (op = USERFAULT_L1_VMLOAD; op <= USERFAULT_L1_VMSAVE; op++) {
		userfault_l2_order(vcpu->vm, op, USERFAULT_L2_NOTHING);
		userfault_take(t, USERFAULT_VMCB);
		run_to(t, vcpu, USERFAULT_L1_PORT);
		userfault_take_assert_one(t, USERFAULT_VMCB, USERFAULT_OWN_WRITE);
		round_trip(t, vcpu);
	}
}

static void test_bitmaps(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->vm;
	u64 expected;

	userfault_l2_intercept(vm, BIT_ULL(INTERCEPT_MSR_PROT));
	round_trip(t, vcpu);

	/* VMRUN looks at the MSRs that KVM itself would pass through. */
	userfault_take(t, USERFAULT_MSRPM);
	userfault_l2_order(vm, USERFAULT_L1_VMRUN, USERFAULT_L2_RDMSR);
	run_to(t, vcpu, USERFAULT_L2_PORT);
	userfault_take_assert_event(t, 1, 0, USERFAULT_MSRPM, USERFAULT_OWN_READ);

	/* So does an access to one that it does not. */
	expected = vcpu_get_msr(vcpu, MSR_IA32_APICBASE);
	userfault_take(t, USERFAULT_MSRPM);
	run_to(t, vcpu, USERFAULT_L1_PORT);
	userfault_take_assert_one(t, USERFAULT_MSRPM, USERFAULT_OWN_READ);
	TEST_ASSERT_EQ(userfault_l2_result(vm), expected);

	/* A port that L1 lets L2 have. */
	userfault_l2_intercept(vm, BIT_ULL(INTERCEPT_IOIO_PROT));
	round_trip(t, vcpu);
	userfault_l2_order(vm, USERFAULT_L1_VMRUN, USERFAULT_L2_NOTHING);
	userfault_take(t, USERFAULT_IOPM);
	run_to(t, vcpu, USERFAULT_L2_PORT);
	userfault_take_assert_one(t, USERFAULT_IOPM, USERFAULT_OWN_READ);
	run_to(t, vcpu, USERFAULT_L1_PORT);
	TEST_ASSERT_EQ(t->nr_events, 0);
}

static void forget_data(struct userfault_slot *s)
{
	userfault_set_bit(s, USERFAULT_L2_DATA);
	userfault_rescan(s, USERFAULT_L2_DATA, 1);
	userfault_clear_bit(s, USERFAULT_L2_DATA);
}

/* L1's nested tables, of which KVM makes its own. */
static void test_nested_tables(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->vm;
	u64 waits = own_waits(vcpu);
	u64 table;

	*(u64 *)userfault_alias(t->s, USERFAULT_L2_DATA) = DATA;
	for (table = USERFAULT_PDPT; table <= USERFAULT_PT; table++) {
		userfault_l2_order(vm, USERFAULT_L1_VMRUN, USERFAULT_L2_LOAD);
		run_to(t, vcpu, USERFAULT_L2_PORT);
		forget_data(t->s);
		userfault_take(t, table);
		run_to(t, vcpu, USERFAULT_L1_PORT);
		userfault_take_assert_one(t, table, USERFAULT_OWN_WALK);
		TEST_ASSERT_EQ(userfault_l2_result(vm), DATA);
	}
	/* Not in place. */
	TEST_ASSERT_EQ(own_waits(vcpu), waits);
}

static void test_nested_tables_exit(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->vm;
	int i;

	*(u64 *)userfault_alias(t->s, USERFAULT_L2_DATA) = DATA;
	userfault_l2_order(vm, USERFAULT_L1_VMRUN, USERFAULT_L2_LOAD);
	userfault_run(vcpu);
	userfault_assert_port(vcpu, USERFAULT_L2_PORT);
	forget_data(t->s);
	userfault_take(t, USERFAULT_PT);
	for (i = 0; i < 2; i++)
		userfault_run_expect(vcpu, userfault_gpa(t->s, USERFAULT_PT),
				     USERFAULT_OWN_WALK);
	userfault_give(t, USERFAULT_PT);
	userfault_run(vcpu);
	userfault_assert_port(vcpu, USERFAULT_L1_PORT);
	TEST_ASSERT_EQ(userfault_l2_result(vm), DATA);
}

static void test(enum userfault_backing backing, bool npt)
{
	struct userfault_taker *t;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	pr_info("%s, L1 %s nested page tables\n", userfault_backing_name(backing),
		npt ? "has" : "has no");
	s = userfault_l2_create(&vcpu, true, npt, backing);
	vm = s->vm;
	t = userfault_taker_create(s, false);

	if (npt)
		test_nested_tables_exit(t, vcpu);
	test_late_fd(t, vcpu);
	test_vmcb(t, vcpu);
	test_vmload(t, vcpu);
	if (npt)
		test_nested_tables(t, vcpu);
	test_bitmaps(t, vcpu);

	userfault_taker_free(t);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));

	test(USERFAULT_ANON, false);
	test(USERFAULT_SHMEM, false);
	if (kvm_cpu_has_npt()) {
		test(USERFAULT_ANON, true);
		test(USERFAULT_GMEM, true);
	}
	return 0;
}
