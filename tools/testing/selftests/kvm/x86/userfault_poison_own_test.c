// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and poison in what KVM shares with its guest: pages of paravirtual
 * clocks, which the guest lives without, and userspace is told of once; and what a
 * hypervisor in the guest has of L2, which comes to an end, but not in silence.
 */
#include <asm/kvm_para.h>

#include "hyperv.h"
#include "kvm_util.h"
#include "mce.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_l2.h"
#include "userfault_poison.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define NPAGES		4ul
#define PAGE		2ul

#define NR_BANKS	10
#define NO_MSR		0x12345678
#define ROUNDS		6

#define SET		KVM_USERFAULT_POISON_SET
#define CLEAR		KVM_USERFAULT_POISON_CLEAR

static u64 guest_checks;

static void on_machine_check(struct ex_regs *regs)
{
	guest_checks++;
	wrmsr(MSR_IA32_MCG_STATUS, 0);
}

/* Exceptions that are the guest's own doing, beside KVM's hits. */
static void guest_code(void)
{
	u64 value;

	set_cr4(get_cr4() | X86_CR4_MCE);
	for (;;) {
		GUEST_SYNC(0);
		GUEST_ASSERT_EQ(rdmsr_safe(NO_MSR, &value), GP_VECTOR);
	}
}

struct shared {
	const char *name;
	u32 msr;
	u64 value;
	bool clock;
};

static const struct shared shared[] = {
	{ "steal time", MSR_KVM_STEAL_TIME, GPA + PAGE * PAGE_SIZE + KVM_MSR_ENABLED },
	{ "kvmclock", MSR_KVM_SYSTEM_TIME_NEW, GPA + PAGE * PAGE_SIZE + KVM_MSR_ENABLED, true },
};

/* The guest gets on; returns how often userspace is told. */
static unsigned int run_rounds(struct kvm_vcpu *vcpu, const struct shared *sh)
{
	unsigned int told = 0, ret;

	for (int i = 0; i < ROUNDS; i++) {
		if (sh->clock)
			vcpu_ioctl(vcpu, KVM_KVMCLOCK_CTRL, NULL);
		while ((ret = __userfault_run(vcpu))) {
			userfault_assert_poison_exit(vcpu, ret, GPA + PAGE * PAGE_SIZE,
						     KVM_MEMORY_EXIT_FLAG_WRITE, true);
			TEST_ASSERT(told++ < ROUNDS, "It is told again and again");
		}
		userfault_assert_sync(vcpu);
	}
	return told;
}

static bool holds_only(const u8 *part, u8 c)
{
	return part[0] == c && !memcmp(part, part + 1, PAGE_SIZE - 1);
}

/* A guest that takes machine checks, and a slot. */
static struct userfault_slot *create_slot(struct kvm_vcpu **vcpu, void *code,
					  void (*handler)(struct ex_regs *), bool in_kernel)
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, code);

	userfault_setup_mce(*vcpu, NR_BANKS);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES,
		      KVM_USERFAULT_FEATURE_POISON | KVM_USERFAULT_FEATURE_ACCESS |
		      (in_kernel ? KVM_USERFAULT_FEATURE_POISON_INJECT : 0));
	vm_install_exception_handler(vm, MC_VECTOR, handler);
	guest_checks = 0;
	sync_global_to_guest(vm, guest_checks);
	return userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON, 0);
}

static void test_shared(const struct shared *sh, bool in_kernel)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	gpa_t gpa;
	u8 *part;

	pr_info("%s%s\n", sh->name, in_kernel ? ", in the kernel" : "");
	s = create_slot(&vcpu, guest_code, on_machine_check, in_kernel);
	vm = s->vm;
	gpa = userfault_gpa(s, PAGE);
	part = userfault_alias(s, PAGE);
	memset(part, 0, PAGE_SIZE);
	userfault_run_sync(vcpu);
	vcpu_set_msr(vcpu, sh->msr, sh->value);
	TEST_ASSERT_EQ(run_rounds(vcpu, sh), 0);
	TEST_ASSERT(!holds_only(part, 0), "KVM does not use the page");

	for (int i = 0; i < 2; i++) {
		userfault_poison(vm, gpa, PAGE_SIZE, SET);
		memset(part, 0x5a, PAGE_SIZE);
		TEST_ASSERT_EQ(run_rounds(vcpu, sh), 1);
		TEST_ASSERT(holds_only(part, 0x5a), "KVM uses the page");

		memset(part, 0, PAGE_SIZE);
		userfault_poison(vm, gpa, PAGE_SIZE, CLEAR);
		TEST_ASSERT_EQ(run_rounds(vcpu, sh), 0);
		TEST_ASSERT(!holds_only(part, 0), "KVM does not use the page again");
	}

	sync_global_from_guest(vm, guest_checks);
	TEST_ASSERT_EQ(guest_checks, 0);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* KVM would make a #GP of it that what the guest asks for cannot be done. */
static void guest_hypercall_page(void)
{
	set_cr4(get_cr4() | X86_CR4_MCE);
	wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
	GUEST_SYNC(0);
	wrmsr(HV_X64_MSR_HYPERCALL, GPA + PAGE * PAGE_SIZE + 1);
	GUEST_SYNC(0);
}

/* Without another try. */
static void skip_wrmsr(struct ex_regs *regs)
{
	on_machine_check(regs);
	regs->rip += 2;
}

static void test_msr(bool in_kernel)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	gpa_t gpa;

	pr_info("hypercall page%s\n", in_kernel ? ", in the kernel" : "");
	s = create_slot(&vcpu, guest_hypercall_page, skip_wrmsr, in_kernel);
	vm = s->vm;
	vcpu_set_hv_cpuid(vcpu);
	gpa = userfault_gpa(s, PAGE);
	memset(userfault_alias(s, PAGE), 0x5a, PAGE_SIZE);
	userfault_run_sync(vcpu);

	userfault_poison(vm, gpa, PAGE_SIZE, SET);
	if (!in_kernel) {
		for (int i = 0; i < 2; i++)
			userfault_assert_poison_exit(vcpu, __userfault_run(vcpu), gpa,
						     KVM_MEMORY_EXIT_FLAG_WRITE, true);
		TEST_ASSERT_EQ(userfault_inject(vcpu, gpa, KVM_MEMORY_EXIT_FLAG_WRITE, 0),
			       KVM_USERFAULT_INJECT_QUEUED);
	}
	userfault_run_sync(vcpu);
	sync_global_from_guest(vm, guest_checks);
	TEST_ASSERT_EQ(guest_checks, 1);
	TEST_ASSERT_EQ(vcpu_get_msr(vcpu, MSR_IA32_MCx_ADDR(NR_BANKS - 1)), gpa);
	TEST_ASSERT(holds_only(userfault_alias(s, PAGE), 0x5a), "KVM uses the page");
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/*
 * L1 and L2.
 */
#define DATA		0x6677889900112233ull
#define MC_EXIT		(0x40 + MC_VECTOR)

struct world {
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct vmcb *vmcb;
};

static void create(struct world *w, bool npt)
{
	w->s = userfault_l2_create(&w->vcpu, true, npt, USERFAULT_ANON);
	vm_enable_cap(w->s->vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_POISON);
	userfault_clear_all(w->s);
	w->vmcb = userfault_alias(w->s, USERFAULT_VMCB);
}

static void destroy(struct world *w)
{
	struct kvm_vm *vm = w->s->vm;

	userfault_slot_free(w->s);
	kvm_vm_free(vm);
}

static void poison(struct world *w, u64 page, u64 flags)
{
	userfault_poison(w->s->vm, userfault_gpa(w->s, page), PAGE_SIZE, flags);
}

static void assert_exit(struct world *w, u64 page, u64 access, bool own)
{
	userfault_assert_poison_exit(w->vcpu, __userfault_run(w->vcpu),
				     userfault_gpa(w->s, page), access, own);
}

static void run_to(struct world *w, u16 port)
{
	userfault_run(w->vcpu);
	userfault_assert_port(w->vcpu, port);
}

static void test_vmcb(bool npt)
{
	struct world w;

	pr_info("VMCB, L1 %s nested page tables\n", npt ? "has" : "has no");
	create(&w, npt);
	/* VMRUN has not happened. */
	userfault_l2_order(w.s->vm, USERFAULT_L1_VMRUN, USERFAULT_L2_NOTHING);
	poison(&w, USERFAULT_VMCB, SET);
	for (int i = 0; i < 2; i++)
		assert_exit(&w, USERFAULT_VMCB, KVM_MEMORY_EXIT_FLAG_WRITE, true);
	poison(&w, USERFAULT_VMCB, CLEAR);
	run_to(&w, USERFAULT_L2_PORT);
	run_to(&w, USERFAULT_L1_PORT);

	/* L2 has been left, and L1 cannot be told with what; userspace can. */
	run_to(&w, USERFAULT_L2_PORT);
	poison(&w, USERFAULT_VMCB, SET);
	assert_exit(&w, USERFAULT_VMCB, KVM_MEMORY_EXIT_FLAG_WRITE, true);
	userfault_run(w.vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(w.vcpu, KVM_EXIT_SHUTDOWN);
	TEST_ASSERT_EQ(w.vmcb->control.exit_code, 0);
	destroy(&w);
}

/* L1's nested tables, and a page of L2's; L1 wants to know of machine checks. */
static void test_l2(bool in_kernel)
{
	struct kvm_sregs sregs;
	struct ucall uc;
	struct world w;

	pr_info("L2%s\n", in_kernel ? ", in the kernel" : "");
	create(&w, true);
	userfault_setup_mce(w.vcpu, NR_BANKS);
	*(u64 *)userfault_alias(w.s, USERFAULT_L2_DATA) = DATA;
	userfault_l2_order(w.s->vm, USERFAULT_L1_VMRUN, USERFAULT_L2_LOAD);

	run_to(&w, USERFAULT_L2_PORT);
	poison(&w, USERFAULT_PT, SET);
	for (int i = 0; i < 2; i++)
		assert_exit(&w, USERFAULT_PT, KVM_MEMORY_EXIT_FLAG_PAGE_WALK, true);
	poison(&w, USERFAULT_PT, CLEAR);
	run_to(&w, USERFAULT_L1_PORT);
	TEST_ASSERT_EQ(userfault_l2_result(w.s->vm), DATA);

	vcpu_sregs_get(w.vcpu, &sregs);
	sregs.cr4 |= X86_CR4_MCE;
	vcpu_sregs_set(w.vcpu, &sregs);
	w.vmcb->save.cr4 |= X86_CR4_MCE;
	w.vmcb->control.intercept_exceptions |= BIT(MC_VECTOR);
	if (in_kernel)
		vm_enable_cap(w.s->vm, KVM_CAP_USERFAULT_FEATURES,
			      KVM_USERFAULT_FEATURE_POISON_INJECT);

	run_to(&w, USERFAULT_L2_PORT);
	poison(&w, USERFAULT_L2_DATA, SET);
	if (!in_kernel) {
		assert_exit(&w, USERFAULT_L2_DATA, KVM_MEMORY_EXIT_FLAG_READ, false);
		TEST_ASSERT_EQ(userfault_inject(w.vcpu, userfault_gpa(w.s, USERFAULT_L2_DATA),
						KVM_MEMORY_EXIT_FLAG_READ, 0),
			       KVM_USERFAULT_INJECT_NESTED_EXIT);
	}
	/* L1 has not expected that. */
	TEST_ASSERT_EQ(__vcpu_run(w.vcpu), 0);
	TEST_ASSERT_EQ(get_ucall(w.vcpu, &uc), UCALL_ABORT);
	TEST_ASSERT_EQ(w.vmcb->control.exit_code, MC_EXIT);
	TEST_ASSERT_EQ(vcpu_get_msr(w.vcpu, MSR_IA32_MCx_ADDR(NR_BANKS - 1)),
		       userfault_gpa(w.s, USERFAULT_L2_DATA));
	destroy(&w);
}

int main(void)
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_USERFAULT_FEATURES) & KVM_USERFAULT_FEATURE_POISON);

	for (int in_kernel = 0; in_kernel < 2; in_kernel++) {
		for (int i = 0; i < ARRAY_SIZE(shared); i++)
			test_shared(&shared[i], in_kernel);
		test_msr(in_kernel);
	}

	if (!kvm_cpu_has(X86_FEATURE_SVM))
		return 0;
	test_vmcb(false);
	if (kvm_cpu_has_npt()) {
		test_vmcb(true);
		test_l2(false);
		test_l2(true);
	}
	return 0;
}
