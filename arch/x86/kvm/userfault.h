/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __KVM_X86_USERFAULT_H
#define __KVM_X86_USERFAULT_H

/* Hooks of the vCPU loop; those of the MMU are in mmu/userfault.h. */

#include <linux/kvm_host.h>

#ifdef CONFIG_KVM_USERFAULT

/* Numbered from the top, as KVM numbers its own from the bottom. */
#define KVM_REQ_USERFAULT	KVM_ARCH_REQ(55)

int kvm_x86_userfault_request(struct kvm_vcpu *vcpu);

bool kvm_x86_userfault_defer(struct kvm_vcpu *vcpu, gpa_t gpa);
bool kvm_x86_userfault_defer_gpc(struct kvm_vcpu *vcpu,
				 const struct gfn_to_pfn_cache *gpc);
bool kvm_x86_userfault_defer_clock(struct kvm_vcpu *vcpu);
bool kvm_x86_userfault_defer_steal_time(struct kvm_vcpu *vcpu);
void kvm_x86_userfault_clock_lost(struct kvm_vcpu *vcpu, u8 pvclock_flags);
bool kvm_x86_userfault_pdptrs_absent(struct kvm_vcpu *vcpu, const struct kvm_sregs *sregs);
bool kvm_x86_userfault_wall_clock_absent(struct kvm_vcpu *vcpu, gpa_t gpa);
bool kvm_x86_userfault_evtchn_lost(struct kvm_vcpu *vcpu, int r);
void kvm_x86_userfault_hv_msr(struct kvm_vcpu *vcpu, u32 msr, u64 data);

int kvm_x86_userfault_poison_fault(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
				   gfn_t gfn, u64 access, bool is_private);
bool kvm_x86_userfault_poison_walk(struct kvm_vcpu *vcpu);
bool __kvm_x86_userfault_emulate_stopped(struct kvm_vcpu *vcpu);
bool kvm_x86_userfault_smm_failed(struct kvm_vcpu *vcpu);
int __kvm_x86_userfault_ran(struct kvm_vcpu *vcpu, int r);

/* Around the emulation of an instruction, or of the way into SMM: has it hit poison? */
static inline void kvm_x86_userfault_emulate_begin(struct kvm_vcpu *vcpu)
{
	vcpu->userfault.emul_hits = vcpu->userfault.hits;
}

static inline bool kvm_x86_userfault_emulate_hit(struct kvm_vcpu *vcpu)
{
	return unlikely(vcpu->userfault.emul_hits != vcpu->userfault.hits);
}

/* Then it is given up, with 0. */
static inline bool kvm_x86_userfault_emulate_stopped(struct kvm_vcpu *vcpu)
{
	return kvm_x86_userfault_emulate_hit(vcpu) && __kvm_x86_userfault_emulate_stopped(vcpu);
}

/* The guest was left: what has been hit before is not of its doing. */
static inline void kvm_x86_userfault_left_guest(struct kvm_vcpu *vcpu)
{
	if (unlikely(vcpu->userfault.hit))
		vcpu->userfault.other_hits = vcpu->userfault.hits;
}

/* After each turn of the vCPU's loop. */
static inline int kvm_x86_userfault_ran(struct kvm_vcpu *vcpu, int r)
{
	return unlikely(vcpu->userfault.hit) ? __kvm_x86_userfault_ran(vcpu, r) : r;
}

/* Is the page of a cache poison, and nothing left to say of it?  In atomic context, too. */
static inline bool kvm_x86_userfault_gpc_told(struct kvm_vcpu *vcpu,
					      const struct gfn_to_pfn_cache *gpc)
{
	gpa_t gpa = READ_ONCE(gpc->gpa);

	return !kvm_is_error_gpa(gpa) &&
	       kvm_userfault_poisoned(gpc->kvm, gpa_to_gfn(gpa), gpa_to_gfn(gpa) + 1) &&
	       kvm_userfault_told(vcpu, gpa_to_gfn(gpa));
}

/*
 * Requests, before the guest is entered, or the vCPU blocks: nobody else would see to them.
 * True: return @r from there instead.
 */
static inline bool kvm_x86_userfault_requests(struct kvm_vcpu *vcpu, int *r)
{
	if (!kvm_check_request(KVM_REQ_USERFAULT, vcpu))
		return false;

	*r = kvm_x86_userfault_request(vcpu);
	return *r <= 0;
}

#else

static inline bool kvm_x86_userfault_requests(struct kvm_vcpu *vcpu, int *r)
{
	return false;
}

static inline void kvm_x86_userfault_emulate_begin(struct kvm_vcpu *vcpu)
{
}

static inline bool kvm_x86_userfault_emulate_hit(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvm_x86_userfault_emulate_stopped(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline void kvm_x86_userfault_left_guest(struct kvm_vcpu *vcpu)
{
}

static inline bool kvm_x86_userfault_smm_failed(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvm_x86_userfault_gpc_told(struct kvm_vcpu *vcpu,
					      const struct gfn_to_pfn_cache *gpc)
{
	return false;
}

static inline int kvm_x86_userfault_ran(struct kvm_vcpu *vcpu, int r)
{
	return r;
}

static inline bool kvm_x86_userfault_defer_gpc(struct kvm_vcpu *vcpu,
					       const struct gfn_to_pfn_cache *gpc)
{
	return false;
}

static inline bool kvm_x86_userfault_defer_clock(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvm_x86_userfault_defer_steal_time(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline void kvm_x86_userfault_clock_lost(struct kvm_vcpu *vcpu, u8 pvclock_flags)
{
}

static inline bool kvm_x86_userfault_pdptrs_absent(struct kvm_vcpu *vcpu,
						   const struct kvm_sregs *sregs)
{
	return false;
}

static inline bool kvm_x86_userfault_wall_clock_absent(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	return false;
}

static inline bool kvm_x86_userfault_evtchn_lost(struct kvm_vcpu *vcpu, int r)
{
	return false;
}

static inline void kvm_x86_userfault_hv_msr(struct kvm_vcpu *vcpu, u32 msr, u64 data)
{
}

#endif /* CONFIG_KVM_USERFAULT */

#endif /* __KVM_X86_USERFAULT_H */
