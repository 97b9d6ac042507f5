// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and poison: where a machine check cannot be had, or costs something.
 * An event that hits poison on its way into the guest is not lost unless userspace says
 * so; registers that forbid a machine check are obeyed; a guest that is told when it
 * cannot take it is shut down, but only by userspace.
 */
#include "kvm_util.h"
#include "mce.h"
#include "processor.h"
#include "smm.h"
#include "test_util.h"
#include "userfault_l2.h"
#include "userfault_poison.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		4ul
#define IDT		0ul
#define STACK		1ul

#define PORT		0x2040

#define NR_BANKS	10
#define BANK		9

#define MCIP		4
#define RIPV_EIPV	3

#define SMRAM_SLOT	((1 << 16) | 11)
#define SMRAM_GPA	0x1000000ul
#define SMRAM_DATA	4ul

static struct {
	u64 stack;
	u64 nmis, checks;
	u64 mcg_status, addr;
} guest;

static void on_nmi(struct ex_regs *regs)
{
	guest.nmis++;
}

static void on_machine_check(struct ex_regs *regs)
{
	guest.checks++;
	guest.mcg_status = rdmsr(MSR_IA32_MCG_STATUS);
	guest.addr = rdmsr(MSR_IA32_MCx_ADDR(BANK));
	wrmsr(MSR_IA32_MCx_STATUS(BANK), 0);
	wrmsr(MSR_IA32_MCG_STATUS, 0);
}

/* On a stack of its own, up to the next event. */
static void guest_code(void)
{
	struct desc_ptr idt = { .size = PAGE_SIZE - 1, .address = GVA + IDT * PAGE_SIZE };
	u64 seen;

	set_cr4(get_cr4() | X86_CR4_MCE);
	asm volatile("lidt %0" : : "m"(idt));
	for (;;) {
		seen = guest.nmis + guest.checks;
		asm volatile("mov %%rsp, %%rbx\n\t"
			     "mov %[stack], %%rsp\n\t"
			     "mov %[port], %%edx\n\t"
			     "inb %%dx, %%al\n\t"
			     "1: pause\n\t"
			     "mov %[nmis], %%rax\n\t"
			     "add %[checks], %%rax\n\t"
			     "cmp %[seen], %%rax\n\t"
			     "je 1b\n\t"
			     "mov %%rbx, %%rsp\n\t"
			     : : [stack] "r"(GVA + (STACK + 1) * PAGE_SIZE - 64),
			       [nmis] "m"(guest.nmis), [checks] "m"(guest.checks),
			       [seen] "r"(seen), [port] "i"(PORT) :
			     "rax", "rbx", "rdx", "memory", "cc");
	}
}

static void get_guest(struct kvm_vm *vm)
{
	sync_global_from_guest(vm, guest);
}

static void run_to_port(struct kvm_vcpu *vcpu)
{
	userfault_run(vcpu);
	userfault_assert_port(vcpu, PORT);
}

struct world {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct userfault_slot *s;
};

static void create(struct world *w, u64 more)
{
	w->vm = vm_create_with_one_vcpu(&w->vcpu, guest_code);
	userfault_setup_mce(w->vcpu, NR_BANKS);
	vm_enable_cap(w->vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_POISON |
		      KVM_USERFAULT_FEATURE_ACCESS | KVM_USERFAULT_FEATURE_RESCAN | more);
	w->s = userfault_slot_create(w->vm, SLOT, GPA, NPAGES, USERFAULT_ANON, 0);
	virt_map(w->vm, GVA, GPA, NPAGES);
	vm_install_exception_handler(w->vm, NMI_VECTOR, on_nmi);
	vm_install_exception_handler(w->vm, MC_VECTOR, on_machine_check);
	memcpy(userfault_alias(w->s, IDT), addr_gva2hva(w->vm, w->vm->arch.idt), PAGE_SIZE);
	memset(&guest, 0, sizeof(guest));
	sync_global_to_guest(w->vm, guest);
	run_to_port(w->vcpu);
}

static void destroy(struct world *w)
{
	userfault_slot_free(w->s);
	kvm_vm_free(w->vm);
}

static void poison(struct world *w, u64 page, u64 flags)
{
	userfault_poison(w->vm, userfault_gpa(w->s, page), PAGE_SIZE, flags);
}

/* An NMI's way leads over @page; nobody but userspace gives it up. */
static void test_delivery(u64 page, u64 access, u64 more)
{
	struct kvm_vcpu_events events;
	struct world w;
	u32 result;
	gpa_t gpa;

	pr_info("delivery, poisoned %s%s\n", page == IDT ? "IDT" : "stack",
		more ? ", in the kernel" : "");
	create(&w, more);
	gpa = userfault_gpa(w.s, page);

	/* It is delivered when there is a way again. */
	poison(&w, page, KVM_USERFAULT_POISON_SET);
	vcpu_ioctl(w.vcpu, KVM_NMI, NULL);
	for (int i = 0; i < 2; i++) {
		userfault_assert_poison_exit(w.vcpu, __userfault_run(w.vcpu), gpa, access, false);
		ASSERT_FAILS(__userfault_inject(w.vcpu, gpa, access, 0, &result), EBUSY);
	}
	poison(&w, page, KVM_USERFAULT_POISON_CLEAR);
	run_to_port(w.vcpu);
	get_guest(w.vm);
	TEST_ASSERT_EQ(guest.nmis, 1);
	TEST_ASSERT_EQ(guest.checks, 0);

	/* Or is lost, and the guest told that there is no way back. */
	poison(&w, page, KVM_USERFAULT_POISON_SET);
	vcpu_ioctl(w.vcpu, KVM_NMI, NULL);
	userfault_assert_poison_exit(w.vcpu, __userfault_run(w.vcpu), gpa, access, false);
	poison(&w, page, KVM_USERFAULT_POISON_CLEAR);
	TEST_ASSERT_EQ(userfault_inject(w.vcpu, gpa, access, KVM_USERFAULT_INJECT_FORCE),
		       KVM_USERFAULT_INJECT_QUEUED);
	vcpu_events_get(w.vcpu, &events);
	TEST_ASSERT(!events.nmi.injected, "There is an NMI besides");
	/* The one that is pending comes first. */
	ASSERT_FAILS(__userfault_inject(w.vcpu, gpa, access, 0, &result), EBUSY);
	run_to_port(w.vcpu);
	get_guest(w.vm);
	TEST_ASSERT_EQ(guest.nmis, 1);
	TEST_ASSERT_EQ(guest.checks, 1);
	TEST_ASSERT_EQ(guest.mcg_status, MCIP);
	TEST_ASSERT_EQ(guest.addr, gpa);
	destroy(&w);
}

static int inject(struct world *w, u32 *result)
{
	return __userfault_inject(w->vcpu, GPA + 2 * PAGE_SIZE, KVM_MEMORY_EXIT_FLAG_READ, 0,
				  result);
}

static void inject_ok(struct world *w, u32 expected)
{
	u32 result;
	int ret = inject(w, &result);

	TEST_ASSERT(!ret, KVM_IOCTL_ERROR(KVM_USERFAULT_INJECT, ret));
	TEST_ASSERT_EQ(result, expected);
}

/* What would be ignored silently is refused. */
static void test_controls(void)
{
	struct world w;
	u32 result;

	pr_info("controls\n");
	create(&w, 0);
	TEST_ASSERT(vcpu_get_msr(w.vcpu, MSR_IA32_MCG_CAP) & MCG_CTL_P, "There is no MCG_CTL");
	vcpu_set_msr(w.vcpu, MSR_IA32_MCG_CTL, 0);
	ASSERT_FAILS(inject(&w, &result), ENODEV);
	vcpu_set_msr(w.vcpu, MSR_IA32_MCG_CTL, ~0ull);

	for (int bank = 0; bank < NR_BANKS; bank++)
		vcpu_set_msr(w.vcpu, MSR_IA32_MCx_CTL(bank), 0);
	ASSERT_FAILS(inject(&w, &result), ENODEV);
	TEST_ASSERT_EQ(vcpu_get_msr(w.vcpu, MSR_IA32_MCG_STATUS), 0);

	/* Any bank will do. */
	vcpu_set_msr(w.vcpu, MSR_IA32_MCx_CTL(2), ~0ull);
	inject_ok(&w, KVM_USERFAULT_INJECT_QUEUED);
	TEST_ASSERT_EQ(vcpu_get_msr(w.vcpu, MSR_IA32_MCx_ADDR(2)), GPA + 2 * PAGE_SIZE);
	TEST_ASSERT_EQ(vcpu_get_msr(w.vcpu, MSR_IA32_MCx_STATUS(BANK)), 0);
	destroy(&w);

	/* Not one that holds another error. */
	create(&w, 0);
	vcpu_set_msr(w.vcpu, MSR_IA32_MCx_STATUS(BANK), MCI_STATUS_VAL);
	inject_ok(&w, KVM_USERFAULT_INJECT_QUEUED);
	TEST_ASSERT_EQ(vcpu_get_msr(w.vcpu, MSR_IA32_MCx_STATUS(BANK)), MCI_STATUS_VAL);
	TEST_ASSERT_EQ(vcpu_get_msr(w.vcpu, MSR_IA32_MCx_ADDR(BANK - 1)),
		       GPA + 2 * PAGE_SIZE);
	destroy(&w);
}

/* In the handler of a machine check, and without leave to take one. */
static void test_shutdown(bool mcip)
{
	struct kvm_sregs sregs;
	struct world w;

	pr_info("shutdown, %s\n", mcip ? "MCIP set" : "CR4.MCE clear");
	create(&w, KVM_USERFAULT_FEATURE_POISON_INJECT);
	if (mcip) {
		vcpu_set_msr(w.vcpu, MSR_IA32_MCG_STATUS, MCIP);
	} else {
		vcpu_sregs_get(w.vcpu, &sregs);
		sregs.cr4 &= ~X86_CR4_MCE;
		vcpu_sregs_set(w.vcpu, &sregs);
	}
	/* KVM does not do that by itself. */
	poison(&w, STACK, KVM_USERFAULT_POISON_SET);
	vcpu_ioctl(w.vcpu, KVM_NMI, NULL);
	userfault_assert_poison_exit(w.vcpu, __userfault_run(w.vcpu),
				     userfault_gpa(w.s, STACK), KVM_MEMORY_EXIT_FLAG_WRITE,
				     false);
	poison(&w, STACK, KVM_USERFAULT_POISON_CLEAR);
	run_to_port(w.vcpu);

	inject_ok(&w, KVM_USERFAULT_INJECT_SHUTDOWN);
	userfault_run(w.vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(w.vcpu, KVM_EXIT_SHUTDOWN);
	destroy(&w);
}

static void set_intel(struct kvm_vcpu *vcpu)
{
	struct kvm_cpuid_entry2 *e = vcpu_get_cpuid_entry(vcpu, 0);

	memcpy(&e->ebx, "Genu", 4);
	memcpy(&e->edx, "ineI", 4);
	memcpy(&e->ecx, "ntel", 4);
	vcpu_set_cpuid(vcpu);
}

/*
 * Of Intel's CPUs all have to be told, unless one of them can be told alone; and none can
 * be told that the error is one to recover from if it does not have the bits for that.
 * KVM never gives them those bits on a host of AMD's.
 */
static void test_intel(int nr_vcpus)
{
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm;
	u32 result;
	u64 cap;

	vm = vm_create_with_vcpus(nr_vcpus, guest_code, vcpus);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_POISON);
	for (int i = 0; i < nr_vcpus; i++) {
		set_intel(vcpus[i]);
		userfault_setup_mce(vcpus[i], NR_BANKS);
	}
	cap = vcpu_get_msr(vcpus[0], MSR_IA32_MCG_CAP);
	pr_info("Intel, vCPUs: %d, MCG_CAP 0x%lx\n", nr_vcpus, cap);
	if (nr_vcpus > 1 || !(cap & MCG_SER_P)) {
		ASSERT_FAILS(__userfault_inject(vcpus[0], GPA, 1, 0, &result), EOPNOTSUPP);
		TEST_ASSERT_EQ(vcpu_get_msr(vcpus[0], MSR_IA32_MCG_STATUS), 0);
	} else {
		/* CR4.MCE is clear. */
		TEST_ASSERT_EQ(userfault_inject(vcpus[0], GPA, 1, 0),
			       KVM_USERFAULT_INJECT_SHUTDOWN);
	}
	kvm_vm_free(vm);
}

/* mov (SMRAM_DATA), %eax; rsm */
static const u8 handler[] = {
	0x67, 0x66, 0x8b, 0x05, 0, (SMRAM_DATA << 4) & 0xff, (SMRAM_GPA >> 16) & 0xff,
	(SMRAM_GPA >> 24) & 0xff, 0x0f, 0xaa,
};

static void test_smm(u64 more)
{
	struct userfault_slot *smram;
	struct world w;
	gpa_t gpa;

	pr_info("system management mode%s\n", more ? ", in the kernel" : "");
	create(&w, more);
	smram = userfault_slot_create(w.vm, SMRAM_SLOT, SMRAM_GPA, SMRAM_PAGES,
				      USERFAULT_ANON, 0);
	memcpy(userfault_alias(smram, 8), handler, sizeof(handler));
	gpa = userfault_gpa(smram, SMRAM_DATA);
	vcpu_set_msr(w.vcpu, MSR_IA32_SMBASE, SMRAM_GPA);

	userfault_poison(w.vm, gpa, PAGE_SIZE, KVM_USERFAULT_POISON_SET);
	inject_smi(w.vcpu);
	userfault_assert_poison_exit(w.vcpu, __userfault_run(w.vcpu), gpa,
				     KVM_MEMORY_EXIT_FLAG_READ, false);
	/* Once it is mended the handler goes on, and so does what it has interrupted. */
	userfault_poison(w.vm, gpa, PAGE_SIZE, KVM_USERFAULT_POISON_CLEAR);
	vcpu_ioctl(w.vcpu, KVM_NMI, NULL);
	run_to_port(w.vcpu);

	userfault_poison(w.vm, gpa, PAGE_SIZE, KVM_USERFAULT_POISON_SET);
	inject_smi(w.vcpu);
	userfault_assert_poison_exit(w.vcpu, __userfault_run(w.vcpu), gpa,
				     KVM_MEMORY_EXIT_FLAG_READ, false);
	inject_ok(&w, KVM_USERFAULT_INJECT_SHUTDOWN);
	userfault_run(w.vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(w.vcpu, KVM_EXIT_SHUTDOWN);

	userfault_slot_free(smram);
	destroy(&w);
}

int main(void)
{
	static const u64 modes[] = { 0, KVM_USERFAULT_FEATURE_POISON_INJECT };

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_USERFAULT_FEATURES) & KVM_USERFAULT_FEATURE_POISON);

	for (int i = 0; i < ARRAY_SIZE(modes); i++) {
		test_delivery(IDT, KVM_MEMORY_EXIT_FLAG_READ, modes[i]);
		test_delivery(STACK, KVM_MEMORY_EXIT_FLAG_WRITE, modes[i]);
		test_smm(modes[i]);
	}
	test_controls();
	test_shutdown(true);
	test_shutdown(false);
	test_intel(1);
	test_intel(2);
	return 0;
}
