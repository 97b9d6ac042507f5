/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __KVM_X86_MMU_USERFAULT_H
#define __KVM_X86_MMU_USERFAULT_H

/* Hooks of the MMU; see ../userfault.c. */

#include <linux/kvm_host.h>

#include "mmu_internal.h"

#ifdef CONFIG_KVM_USERFAULT

/* Functions of the MMU that are needed outside of it; static without us. */
#define kvm_userfault_visible

int kvm_mmu_do_page_fault(struct kvm_vcpu *vcpu, gpa_t cr2_or_gpa, u64 err,
			  bool prefetch, int *emulation_type, u8 *level);

int __kvm_mmu_userfault_check(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault);
void __kvm_mmu_userfault_cap_level(struct kvm_vcpu *vcpu,
				   struct kvm_page_fault *fault);

/* The decision: may this fault use the page? */
static inline int kvm_mmu_userfault_check(struct kvm_vcpu *vcpu,
					  struct kvm_page_fault *fault)
{
	if (likely(!kvm_memslot_userfault_armed(fault->slot)))
		return RET_PF_CONTINUE;

	return __kvm_mmu_userfault_check(vcpu, fault);
}

/* The level: how large may the mapping be? */
static inline void kvm_mmu_userfault_cap_level(struct kvm_vcpu *vcpu,
					       struct kvm_page_fault *fault)
{
	if (unlikely(kvm_memslot_userfault_armed(fault->slot)))
		__kvm_mmu_userfault_cap_level(vcpu, fault);
}

/*
 * Not for a fault: must mappings in @slot stay as small as they are?  Runs
 * under mmu_lock, where the bitmap cannot be read.  guest_memfd is never asked
 * either, as it does not tell the size of a page without handing out the page.
 */
static inline bool kvm_mmu_userfault_no_recovery(struct kvm_page_fault *fault,
						 const struct kvm_memory_slot *slot,
						 bool is_private)
{
	return !fault && (kvm_memslot_userfault_armed(slot) || is_private ||
			  kvm_memslot_is_gmem_only(slot));
}

#else

#define kvm_userfault_visible	static

static inline int kvm_mmu_userfault_check(struct kvm_vcpu *vcpu,
					  struct kvm_page_fault *fault)
{
	return RET_PF_CONTINUE;
}

static inline void kvm_mmu_userfault_cap_level(struct kvm_vcpu *vcpu,
					       struct kvm_page_fault *fault)
{
}

static inline bool kvm_mmu_userfault_no_recovery(struct kvm_page_fault *fault,
						 const struct kvm_memory_slot *slot,
						 bool is_private)
{
	return false;
}

#endif /* CONFIG_KVM_USERFAULT */

#endif /* __KVM_X86_MMU_USERFAULT_H */
