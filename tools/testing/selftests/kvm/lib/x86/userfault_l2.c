// SPDX-License-Identifier: GPL-2.0
/*
 * An SVM hypervisor and its guest, with what they share with KVM in a userfault_slot.
 */
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_l2.h"

#define GVA	USERFAULT_L2_GPA

static struct {
	u64 l1, l2, intercepts, result;
} guest;

static void l2_code(void)
{
	for (;;) {
		asm volatile("inb %%dx, %%al" : : "d"(USERFAULT_L2_PORT) :
			     "rax", "memory");

		switch (READ_ONCE(guest.l2)) {
		case USERFAULT_L2_RDMSR:
			WRITE_ONCE(guest.result, rdmsr(MSR_IA32_APICBASE));
			break;
		case USERFAULT_L2_LOAD:
			WRITE_ONCE(guest.result,
				   READ_ONCE(*(u64 *)(USERFAULT_TABLES_GVA +
						      USERFAULT_L2_DATA * PAGE_SIZE)));
			break;
		}
		asm volatile("vmmcall" : : : "memory");
	}
}

/* Without the VMLOAD and VMSAVE that usually go with it. */
static void enter_l2(u64 vmcb_gpa)
{
	asm volatile("push %%rbp\n\t"
		     "vmrun %%rax\n\t"
		     "pop %%rbp"
		     : "+a"(vmcb_gpa) : :
		     "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
		     "r13", "r14", "r15", "memory", "cc");
}

static void l1_code(struct svm_test_data *svm)
{
	u64 gpa = svm->vmcb_gpa;

	generic_svm_setup(svm, l2_code);
	svm->vmcb->control.iopm_base_pa = USERFAULT_L2_GPA + USERFAULT_IOPM * PAGE_SIZE;
	svm->vmcb->save.rflags = 2;

	for (;;) {
		asm volatile("inb %%dx, %%al" : : "d"(USERFAULT_L1_PORT) :
			     "rax", "memory");

		switch (READ_ONCE(guest.l1)) {
		case USERFAULT_L1_VMLOAD:
			asm volatile("vmload %%rax" : : "a"(gpa) : "memory");
			break;
		case USERFAULT_L1_VMSAVE:
			asm volatile("vmsave %%rax" : : "a"(gpa) : "memory");
			break;
		case USERFAULT_L1_VMRUN:
			enter_l2(gpa);
			GUEST_ASSERT_EQ(svm->vmcb->control.exit_code, SVM_EXIT_VMMCALL);
			svm->vmcb->control.exit_code = 0;
			svm->vmcb->save.rip += 3;
			svm->vmcb->control.intercept |= READ_ONCE(guest.intercepts);
			break;
		}
	}
}

/* The nested tables for what has no page of its own in L2's. */
static void map_nested(struct userfault_slot *s)
{
	u64 *top = addr_gpa2hva(s->vm, s->vm->stage2_mmu.pgd);

	tdp_identity_map_default_memslots(s->vm);
	tdp_identity_map_1g(s->vm, USERFAULT_L2_GPA, 0x40000000ul);
	if (s->vm->stage2_mmu.pgtable_levels == 5)
		top = addr_gpa2hva(s->vm, top[0] & GENMASK_ULL(51, 12));
	top[(USERFAULT_TABLES_GVA >> 39) & 511] =
		userfault_gpa(s, USERFAULT_PDPT) | 0x7;
}

/* Three levels in L2's own page tables, none of them absent. */
static void map_l2_data(struct kvm_vm *vm)
{
	u64 page = USERFAULT_TABLES_GVA + USERFAULT_L2_DATA * PAGE_SIZE;

	virt_map(vm, page, page, 1);
}

struct userfault_slot *userfault_l2_create(struct kvm_vcpu **vcpu, bool own, bool npt,
					   enum userfault_backing backing)
{
	struct svm_test_data *svm;
	struct userfault_slot *s;
	struct kvm_vm *vm;
	gva_t svm_gva;

	vm = vm_create_with_one_vcpu(vcpu, l1_code);
	userfault_enable_take(vm, own);
	if (npt)
		vm_enable_npt(vm);
	svm = vcpu_alloc_svm(vm, &svm_gva);
	vcpu_args_set(*vcpu, 1, svm_gva);

	s = userfault_slot_create(vm, USERFAULT_L2_SLOT, USERFAULT_L2_GPA,
				  USERFAULT_L2_NPAGES, backing, 0);
	virt_map(vm, GVA, USERFAULT_L2_GPA, USERFAULT_L2_NPAGES);
	for (u64 page = 0; page < s->npages; page++)
		memset(userfault_alias(s, page), 0, PAGE_SIZE);

	svm->vmcb = (void *)(GVA + USERFAULT_VMCB * PAGE_SIZE);
	svm->vmcb_gpa = userfault_gpa(s, USERFAULT_VMCB);
	svm->save_area_gpa = userfault_gpa(s, USERFAULT_HSAVE);
	svm->msr_gpa = userfault_gpa(s, USERFAULT_MSRPM);

	if (npt) {
		map_l2_data(vm);
		userfault_tables_fill(s);
		map_nested(s);
	}
	userfault_arm(s);

	memset(&guest, 0, sizeof(guest));
	sync_global_to_guest(vm, guest);
	userfault_run(*vcpu);
	userfault_assert_port(*vcpu, USERFAULT_L1_PORT);
	return s;
}

void userfault_l2_order(struct kvm_vm *vm, enum userfault_l1_op l1,
			enum userfault_l2_op l2)
{
	guest.l1 = l1;
	guest.l2 = l2;
	guest.result = ~0ull;
	sync_global_to_guest(vm, guest);
}

void userfault_l2_intercept(struct kvm_vm *vm, u64 intercepts)
{
	guest.intercepts = intercepts;
	sync_global_to_guest(vm, guest);
}

u64 userfault_l2_result(struct kvm_vm *vm)
{
	sync_global_from_guest(vm, guest);
	return guest.result;
}

void userfault_assert_port(struct kvm_vcpu *vcpu, u16 port)
{
	struct ucall uc;

	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_IO && vcpu->run->io.port == port,
		    "Wanted an exit at port 0x%x, got exit reason %u (%s), port 0x%x", port,
		    vcpu->run->exit_reason, exit_reason_str(vcpu->run->exit_reason),
		    vcpu->run->io.port);
	vcpu_run_complete_io(vcpu);
}
