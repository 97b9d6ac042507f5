// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that are declared poisoned.
 */
#include "kvm_util.h"
#include "mce.h"
#include "test_util.h"
#include "userfault_poison.h"

int __userfault_poison(struct kvm_vm *vm, gpa_t gpa, u64 size, u64 flags)
{
	struct kvm_userfault_range range = { .gpa = gpa, .size = size, .flags = flags };

	return __vm_ioctl(vm, KVM_USERFAULT_POISON, &range);
}

void userfault_poison(struct kvm_vm *vm, gpa_t gpa, u64 size, u64 flags)
{
	struct kvm_userfault_range range = { .gpa = gpa, .size = size, .flags = flags };

	vm_ioctl(vm, KVM_USERFAULT_POISON, &range);
	if (flags & KVM_USERFAULT_POISON_ALL)
		return;
	TEST_ASSERT_EQ(range.size, 0);
	TEST_ASSERT_EQ(range.gpa, gpa + size);
}

int __userfault_inject(struct kvm_vcpu *vcpu, gpa_t gpa, u64 access, u32 flags, u32 *result)
{
	struct kvm_userfault_inject inject = { .gpa = gpa, .access = access, .flags = flags };
	int ret = __vcpu_ioctl(vcpu, KVM_USERFAULT_INJECT, &inject);

	*result = inject.result;
	return ret;
}

u32 userfault_inject(struct kvm_vcpu *vcpu, gpa_t gpa, u64 access, u32 flags)
{
	u32 result;
	int ret = __userfault_inject(vcpu, gpa, access, flags, &result);

	TEST_ASSERT(!ret, KVM_IOCTL_ERROR(KVM_USERFAULT_INJECT, ret));
	return result;
}

#define ACCESS								\
	(KVM_MEMORY_EXIT_FLAG_READ | KVM_MEMORY_EXIT_FLAG_WRITE |	\
	 KVM_MEMORY_EXIT_FLAG_EXEC | KVM_MEMORY_EXIT_FLAG_PAGE_WALK)

u64 vcpu_fault_access(struct kvm_vcpu *vcpu)
{
	return vcpu->run->memory_fault.flags & ACCESS;
}

void userfault_assert_poison_exit(struct kvm_vcpu *vcpu, int ret, gpa_t gpa, u64 access,
				  bool own)
{
	struct kvm_run *run = vcpu->run;
	u64 seen = run->memory_fault.flags;
	int e = errno;

	TEST_ASSERT(ret == -1 && e == EHWPOISON && run->exit_reason == KVM_EXIT_MEMORY_FAULT,
		    "KVM_RUN: %d (%s), exit reason %u", ret, strerror(e), run->exit_reason);
	TEST_ASSERT_EQ(run->memory_fault.gpa, gpa);
	TEST_ASSERT_EQ(run->memory_fault.size, vcpu->vm->page_size);
	TEST_ASSERT(seen & KVM_MEMORY_EXIT_FLAG_POISON &&
		    !(seen & (KVM_MEMORY_EXIT_FLAG_USERFAULT | KVM_MEMORY_EXIT_FLAG_BITMAP)),
		    "flags 0x%llx", (unsigned long long)seen);
	/* Without two-dimensional paging KVM walks the guest's tables itself. */
	if (access & KVM_MEMORY_EXIT_FLAG_PAGE_WALK) {
		TEST_ASSERT(seen & KVM_MEMORY_EXIT_FLAG_PAGE_WALK, "flags 0x%llx",
			    (unsigned long long)seen);
		return;
	}
	/* Of an instruction that does both, whichever the CPU tries first. */
	if (access == (KVM_MEMORY_EXIT_FLAG_READ | KVM_MEMORY_EXIT_FLAG_WRITE))
		TEST_ASSERT(seen & access, "flags 0x%llx", (unsigned long long)seen);
	else
		TEST_ASSERT_EQ(seen & ACCESS, access);
	TEST_ASSERT_EQ(!!(seen & KVM_MEMORY_EXIT_FLAG_OWN), own);
}

void userfault_setup_mce(struct kvm_vcpu *vcpu, unsigned int banks)
{
	u64 cap;

	kvm_ioctl(vcpu->vm->kvm_fd, KVM_X86_GET_MCE_CAP_SUPPORTED, &cap);
	cap = (cap & ~0xffull) | banks;
	vcpu_ioctl(vcpu, KVM_X86_SETUP_MCE, &cap);
}
