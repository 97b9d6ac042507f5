// SPDX-License-Identifier: GPL-2.0
/*
 * KVM Userfault on x86: the questions that the MMU asks.
 *
 * Both hooks run in a vCPU's ioctl, with kvm->srcu held, preemption and page
 * faults enabled and no lock taken, and after mmu_invalidate_seq was sampled.
 */
#include <linux/kvm_host.h>

#include "mmu.h"
#include "mmu/mmu_internal.h"
#include "userfault.h"

static u64 kvm_mmu_userfault_access(const struct kvm_page_fault *fault)
{
	u64 access;

	if (fault->write)
		access = KVM_MEMORY_EXIT_FLAG_WRITE;
	else if (fault->exec)
		access = KVM_MEMORY_EXIT_FLAG_EXEC;
	else
		access = KVM_MEMORY_EXIT_FLAG_READ;

	/*
	 * Two-dimensional paging tells the CPU's walk of the guest's tables from
	 * its final access; the error code of a plain #PF does not have the bit.
	 */
	if (fault->error_code & PFERR_GUEST_PAGE_MASK)
		access |= KVM_MEMORY_EXIT_FLAG_PAGE_WALK;

	return access;
}

int __kvm_mmu_userfault_check(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	enum kvm_userfault_page page;

	page = kvm_userfault_test_gfn(vcpu->kvm, fault->slot, fault->gfn);
	if (page == KVM_USERFAULT_PRESENT)
		return RET_PF_CONTINUE;

	/*
	 * KVM_PRE_FAULT_MEMORY and the completion of an async page fault are
	 * not accesses: nobody reads vcpu->run afterwards, or it holds an exit
	 * that userspace has not looked at yet.
	 */
	if (fault->prefetch)
		return page == KVM_USERFAULT_ABSENT ? -EAGAIN : -EFAULT;

	return kvm_userfault_vcpu_exit(vcpu, fault->slot, page, fault->gfn,
				       kvm_mmu_userfault_access(fault),
				       fault->is_private);
}

/*
 * At most 2M, and that only if all of its pages are there: asking for 1G would
 * mean to read 32 KiB of bitmap on every fault.
 */
void __kvm_mmu_userfault_cap_level(struct kvm_vcpu *vcpu,
				   struct kvm_page_fault *fault)
{
	gfn_t span = KVM_PAGES_PER_HPAGE(PG_LEVEL_2M);
	gfn_t start = ALIGN_DOWN(fault->gfn, span);
	u8 level = PG_LEVEL_4K;

	if (fault->max_level == PG_LEVEL_4K ||
	    kvm_slot_dirty_track_enabled(fault->slot))
		return;

	/* A span that the slot does not cover is never mapped by one entry. */
	if (start >= fault->slot->base_gfn &&
	    start + span <= fault->slot->base_gfn + fault->slot->npages &&
	    kvm_userfault_range_present(vcpu->kvm, fault->slot, start, start + span))
		level = PG_LEVEL_2M;

	fault->max_level = min(fault->max_level, level);
}

/*
 * Dropping a private page of a TD destroys its content, and userspace has no
 * means to fill it again.  Such a memslot is armed when it is created, or not.
 */
bool kvm_arch_userfault_can_toggle(struct kvm *kvm)
{
	return !kvm_has_mirrored_tdp(kvm);
}

void kvm_arch_userfault_disabled(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	/* While the dirty log is on, mappings are 4K; it going off does the same. */
	if (!kvm_slot_dirty_track_enabled(slot))
		kvm_mmu_recover_huge_pages(kvm, slot);
}
