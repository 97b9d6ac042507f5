// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and the two address spaces of x86: memslots at the same guest
 * physical address, one for system management mode and one for everything else,
 * each with its own memory, bitmap and flag.  An access asks the bitmap of the
 * slot that it would use, and switching one slot leaves the other alone.
 *
 * The handler runs without paging, so with shadow paging this is the test of
 * the MMU's mode for guests without page tables as well.
 */
#include "kvm_util.h"
#include "processor.h"
#include "smm.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_order.h"

#define SLOT		10
#define SMM_SLOT	((1 << 16) | SLOT)
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		16ul
#define GENERATION	20
#define SMM_GENERATION	30
#define WRITTEN		0x57575757u

#define SMRAM_GPA	0x1000000ul
#define SMRAM_ENTRY	0x8000
#define SMM_PORT	0xe

/*
 * 16-bit code, entered with 4G segments.  %eax goes to or comes from the page
 * and, in the second case, is there for the host to look at on the port's exit.
 */
struct smi_handler {
	u8 load[2];		/* mov $imm32, %eax */
	u32 value;
	u8 access[3];		/* mov %eax, mem or mov mem, %eax */
	u32 address;
	u8 in[2];		/* in $SMM_PORT, %al */
	u8 rsm[2];
} __packed;

static void set_handler(struct kvm_vm *vm, bool write, u64 page)
{
	struct smi_handler handler = {
		.load = { 0x66, 0xb8 },
		.value = WRITTEN,
		.access = { 0x67, 0x66, write ? 0xa3 : 0xa1 },
		.address = GPA + page * PAGE_SIZE,
		.in = { 0xe4, SMM_PORT },
		.rsm = { 0x0f, 0xaa },
	};

	memcpy(addr_gpa2hva(vm, SMRAM_GPA + SMRAM_ENTRY), &handler, sizeof(handler));
}

/* Run the handler up to its port access; returns %eax. */
static u32 run_handler(struct kvm_vcpu *vcpu)
{
	struct kvm_regs regs;
	int ret = __userfault_run(vcpu);

	TEST_ASSERT(!ret, "KVM_RUN: errno %d, exit reason %u, gpa 0x%llx", errno,
		    vcpu->run->exit_reason, vcpu->run->memory_fault.gpa);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	TEST_ASSERT_EQ(vcpu->run->io.port, SMM_PORT);
	vcpu_regs_get(vcpu, &regs);
	return regs.rax;
}

/* An SMI whose handler accesses the page, and meets no absent page. */
static u32 smm_ok(struct kvm_vcpu *vcpu, bool write, u64 page)
{
	set_handler(vcpu->vm, write, page);
	inject_smi(vcpu);
	return run_handler(vcpu);
}

/* The same with an exit, which stands until the page is there. */
static void smm_exits(struct kvm_vcpu *vcpu, struct userfault_slot *s, bool write,
		      u64 page)
{
	int i;

	set_handler(vcpu->vm, write, page);
	inject_smi(vcpu);
	for (i = 0; i < 2; i++)
		userfault_run_expect(vcpu, userfault_gpa(s, page),
				     write ? KVM_MEMORY_EXIT_FLAG_WRITE :
					     KVM_MEMORY_EXIT_FLAG_READ);
}

static u32 expected(struct userfault_slot *s, u64 page, u64 generation)
{
	return userfault_pattern_first(userfault_gfn(s, page), generation);
}

/* Back in the guest proper, whose order has been there all the time. */
static void guest_ok(struct kvm_vcpu *vcpu, struct userfault_slot *s, u64 page,
		     u64 nr)
{
	userfault_order_ok(vcpu, s, USERFAULT_CHECK, GVA, page, nr, GENERATION);
}

static void test_smm(enum userfault_backing backing)
{
	struct userfault_slot *s, *smm;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 page, faults;

	pr_info("%s\n", userfault_backing_name(backing));

	vm = vm_create_with_one_vcpu(&vcpu, userfault_order_code);
	userfault_enable_access(vm);
	setup_smram(vm, vcpu, SMRAM_GPA, "", 0);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, KVM_MEM_USERFAULT);
	smm = userfault_slot_create(vm, SMM_SLOT, GPA, NPAGES, backing,
				    KVM_MEM_USERFAULT);
	virt_map(vm, GVA, GPA, NPAGES);

	/* There for the guest, absent in SMM. */
	userfault_resolve(s, 0, GENERATION);
	guest_ok(vcpu, s, 0, 1);
	smm_exits(vcpu, smm, false, 0);
	userfault_resolve(smm, 0, SMM_GENERATION);
	TEST_ASSERT_EQ(run_handler(vcpu), expected(smm, 0, SMM_GENERATION));
	guest_ok(vcpu, s, 0, 1);

	/* The other way round, by a write. */
	userfault_resolve(smm, 1, SMM_GENERATION);
	TEST_ASSERT_EQ(smm_ok(vcpu, false, 1), expected(smm, 1, SMM_GENERATION));
	userfault_order_run(vcpu);
	userfault_order_exits(vcpu, s, USERFAULT_READ, GVA, 1);
	smm_ok(vcpu, true, 1);
	TEST_ASSERT_EQ(*(u32 *)userfault_alias(smm, 1), WRITTEN);
	userfault_run_expect(vcpu, userfault_gpa(s, 1), KVM_MEMORY_EXIT_FLAG_READ);
	userfault_resolve(s, 1, GENERATION);
	guest_ok(vcpu, s, 1, 1);
	userfault_check(s, 1, GENERATION);

	/* Absent in both: two bits, two exits, and each clears one of them. */
	smm_exits(vcpu, smm, true, 2);
	userfault_resolve(smm, 2, SMM_GENERATION);
	run_handler(vcpu);
	TEST_ASSERT_EQ(*(u32 *)userfault_alias(smm, 2), WRITTEN);
	userfault_order_run(vcpu);
	userfault_order_exits(vcpu, s, USERFAULT_WRITE, GVA, 2);

	/* Neighbours have not come along with any of that. */
	smm_exits(vcpu, smm, false, 3);
	userfault_resolve(smm, 3, SMM_GENERATION);
	run_handler(vcpu);
	userfault_run_expect(vcpu, userfault_gpa(s, 2), KVM_MEMORY_EXIT_FLAG_WRITE);
	userfault_resolve(s, 2, GENERATION);
	userfault_order_run(vcpu);

	/* All of it mapped in both. */
	for (page = 0; page < NPAGES; page++) {
		userfault_resolve(s, page, GENERATION);
		userfault_resolve(smm, page, SMM_GENERATION);
		smm_ok(vcpu, false, page);
		guest_ok(vcpu, s, page, 1);
	}
	guest_ok(vcpu, s, 0, NPAGES);

	/* Armed anew, SMM's slot only: the guest has no fault at all. */
	userfault_disarm(smm);
	userfault_set_all(smm);
	userfault_arm(smm);
	userfault_scribble(smm, 4);
	faults = vcpu_get_stat(vcpu, pf_taken);
	guest_ok(vcpu, s, 0, NPAGES);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_taken), faults);
	smm_exits(vcpu, smm, false, 4);
	userfault_resolve(smm, 4, SMM_GENERATION);
	TEST_ASSERT_EQ(run_handler(vcpu), expected(smm, 4, SMM_GENERATION));
	guest_ok(vcpu, s, 4, 1);

	/* The guest's only: the handler finds what it had. */
	userfault_disarm(s);
	userfault_set_all(s);
	userfault_arm(s);
	userfault_scribble(s, 4);
	TEST_ASSERT_EQ(smm_ok(vcpu, false, 4), expected(smm, 4, SMM_GENERATION));
	userfault_order(vm, USERFAULT_CHECK, GVA + 4 * PAGE_SIZE,
			userfault_gfn(s, 4), 1, GENERATION);
	userfault_run_expect(vcpu, userfault_gpa(s, 4), KVM_MEMORY_EXIT_FLAG_READ);
	userfault_resolve(s, 4, GENERATION);
	userfault_order_run(vcpu);

	/* Off: the same page is still absent in SMM. */
	userfault_disarm(s);
	guest_ok(vcpu, s, 5, 1);
	smm_exits(vcpu, smm, true, 5);
	userfault_disarm(smm);
	run_handler(vcpu);
	TEST_ASSERT_EQ(*(u32 *)userfault_alias(smm, 5), WRITTEN);

	userfault_slot_free(smm);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_SMM));

	test_smm(USERFAULT_ANON);
	test_smm(USERFAULT_SHMEM);
	return 0;
}
