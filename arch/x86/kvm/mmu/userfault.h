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

int __kvm_mmu_userfault_walk_stopped(struct kvm_vcpu *vcpu);

/*
 * A walk of the guest's page tables for a page fault starts over from the guest's
 * access: nothing has happened yet.  A prefetch fails in silence.
 */
static inline void kvm_mmu_userfault_walk_begin(struct kvm_vcpu *vcpu,
						const struct kvm_page_fault *fault)
{
	kvm_userfault_set_mode(vcpu, fault->prefetch ? KVM_USERFAULT_MODE_FAIL :
						       KVM_USERFAULT_MODE_RESTART);
}

/* True if the walk was stopped; then @r is the result of the fault. */
static inline bool kvm_mmu_userfault_walk_end(struct kvm_vcpu *vcpu, int *r)
{
	kvm_userfault_set_mode(vcpu, KVM_USERFAULT_MODE_WAIT);
	if (likely(!vcpu->userfault.restart))
		return false;

	*r = __kvm_mmu_userfault_walk_stopped(vcpu);
	return true;
}

/*
 * In struct guest_walker: the access to a table, and where the tables really are.  The
 * walker's own gfns may be those of a nested guest.
 */
struct kvm_mmu_userfault_walker {
	struct kvm_userfault_access access;
	gfn_t table_gfn[PT64_ROOT_MAX_LEVEL];
};

/* Around the read of an entry; not 0 if it does not take place. */
static inline int kvm_mmu_userfault_walk_read(struct kvm_vcpu *vcpu,
					      struct kvm_mmu_userfault_walker *w,
					      int level, gfn_t gfn)
{
	w->table_gfn[level - 1] = gfn;
	w->access = kvm_userfault_access_begin_gfn(vcpu, gfn, KVM_USERFAULT_READ |
						   KVM_USERFAULT_WALK);
	return w->access.err;
}

/* Around the update of one that was read. */
static inline int kvm_mmu_userfault_walk_update(struct kvm_vcpu *vcpu,
						struct kvm_mmu_userfault_walker *w,
						int level)
{
	w->access = kvm_userfault_access_begin_gfn(vcpu, w->table_gfn[level - 1],
						   KVM_USERFAULT_WRITE |
						   KVM_USERFAULT_WALK);
	return w->access.err;
}

static inline void kvm_mmu_userfault_walk_done(struct kvm_mmu_userfault_walker *w)
{
	kvm_userfault_access_end(&w->access);
}

/* May a page of the memslot be absent, or poisoned? */
static inline bool kvm_mmu_userfault_concerns(struct kvm *kvm,
					      const struct kvm_memory_slot *slot)
{
	return kvm_memslot_userfault_armed(slot) || READ_ONCE(kvm->userfault.poisoned);
}

/* Is a page poisoned that a mapping of this size of @gfn would hold? */
static inline bool kvm_mmu_userfault_poisoned_span(struct kvm *kvm, gfn_t gfn, u8 level)
{
	gfn_t span = KVM_PAGES_PER_HPAGE(level);

	gfn = ALIGN_DOWN(gfn, span);
	return kvm_userfault_poisoned(kvm, gfn, gfn + span);
}

/* Mapping neighbours ahead runs under mmu_lock, where the bitmap cannot be read. */
static inline bool kvm_mmu_userfault_no_prefetch(struct kvm *kvm,
						 const struct kvm_memory_slot *slot,
						 gfn_t gfn, int nr)
{
	return kvm_memslot_userfault_armed(slot) || kvm_userfault_poisoned(kvm, gfn, gfn + nr);
}

/* The decision: may this fault use the page? */
static inline int kvm_mmu_userfault_check(struct kvm_vcpu *vcpu,
					  struct kvm_page_fault *fault)
{
	if (likely(!kvm_mmu_userfault_concerns(vcpu->kvm, fault->slot)))
		return RET_PF_CONTINUE;

	return __kvm_mmu_userfault_check(vcpu, fault);
}

/* The level: how large may the mapping be? */
static inline void kvm_mmu_userfault_cap_level(struct kvm_vcpu *vcpu,
					       struct kvm_page_fault *fault)
{
	if (unlikely(kvm_mmu_userfault_concerns(vcpu->kvm, fault->slot)))
		__kvm_mmu_userfault_cap_level(vcpu, fault);
}

/*
 * Not for a fault: must mappings in @slot stay as small as they are?  Runs
 * under mmu_lock, where the bitmap cannot be read.  guest_memfd is never asked
 * either, as it does not tell the size of a page without handing out the page.
 */
static inline bool kvm_mmu_userfault_no_recovery(struct kvm *kvm,
						 struct kvm_page_fault *fault,
						 const struct kvm_memory_slot *slot,
						 gfn_t gfn, bool is_private)
{
	return !fault && (kvm_memslot_userfault_armed(slot) || is_private ||
			  kvm_mmu_userfault_poisoned_span(kvm, gfn, PG_LEVEL_1G) ||
			  kvm_memslot_is_gmem_only(slot));
}

#else

#define kvm_userfault_visible	static

struct kvm_mmu_userfault_walker {};

/* Without a look at the arguments, as in <linux/kvm_userfault_access.h>. */
#define kvm_mmu_userfault_walk_read(vcpu, w, level, gfn)	0
#define kvm_mmu_userfault_walk_update(vcpu, w, level)		0

static inline void kvm_mmu_userfault_walk_done(struct kvm_mmu_userfault_walker *w)
{
}

static inline void kvm_mmu_userfault_walk_begin(struct kvm_vcpu *vcpu,
						const struct kvm_page_fault *fault)
{
}

static inline bool kvm_mmu_userfault_walk_end(struct kvm_vcpu *vcpu, int *r)
{
	return false;
}

static inline int kvm_mmu_userfault_check(struct kvm_vcpu *vcpu,
					  struct kvm_page_fault *fault)
{
	return RET_PF_CONTINUE;
}

static inline void kvm_mmu_userfault_cap_level(struct kvm_vcpu *vcpu,
					       struct kvm_page_fault *fault)
{
}

#define kvm_mmu_userfault_no_prefetch(...)	false
#define kvm_mmu_userfault_no_recovery(...)	false

#endif /* CONFIG_KVM_USERFAULT */

#endif /* __KVM_X86_MMU_USERFAULT_H */
