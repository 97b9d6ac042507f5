/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_KVM_USERFAULT_ACCESS_H
#define _LINUX_KVM_USERFAULT_ACCESS_H

/*
 * What hooks put around KVM's own accesses to guest memory; see
 * virt/kvm/userfault_access.c.  Included by <linux/kvm_userfault_host.h>.
 *
 *	CLASS(kvm_userfault_access, access)(kvm, slot, gfn, KVM_USERFAULT_READ);
 *	if (access.err)
 *		return access.err;
 *
 * holds to the end of the block.  It may wait, and so sleeps; where that is not
 * possible there is kvm_userfault_access_nofault.
 */

#include <linux/cleanup.h>
#include <linux/kvm_host.h>

#define KVM_USERFAULT_READ	KVM_MEMORY_EXIT_FLAG_READ
#define KVM_USERFAULT_WRITE	KVM_MEMORY_EXIT_FLAG_WRITE
#define KVM_USERFAULT_WALK	KVM_MEMORY_EXIT_FLAG_PAGE_WALK

#ifdef CONFIG_KVM_USERFAULT

struct kvm_userfault_access {
	struct srcu_struct *srcu;	/* NULL: there is nothing to end */
	int idx;
	int err;
};

void __kvm_userfault_access_begin(struct kvm *kvm, const struct kvm_memory_slot *slot,
				  gfn_t gfn, u64 flags,
				  struct kvm_userfault_access *access);
void __kvm_userfault_access_begin_nofault(struct kvm *kvm,
					  const struct kvm_memory_slot *slot, gfn_t gfn,
					  struct kvm_userfault_access *access);
void __kvm_userfault_access_end(struct kvm_userfault_access *access);

/*
 * Not the memslot's flag is asked here, but whether the VM uses userfault at all:
 * a memslot can be armed at any time, and waits for accesses that are under way.
 */
static inline struct kvm_userfault_access
kvm_userfault_access_begin(struct kvm *kvm, const struct kvm_memory_slot *slot,
			   gfn_t gfn, u64 flags)
{
	struct kvm_userfault_access access = {};

	if (unlikely(READ_ONCE(kvm->userfault.state)))
		__kvm_userfault_access_begin(kvm, slot, gfn, flags, &access);
	return access;
}

static inline struct kvm_userfault_access
kvm_userfault_access_begin_nofault(struct kvm *kvm, const struct kvm_memory_slot *slot,
				   gfn_t gfn)
{
	struct kvm_userfault_access access = {};

	if (unlikely(READ_ONCE(kvm->userfault.state)))
		__kvm_userfault_access_begin_nofault(kvm, slot, gfn, &access);
	return access;
}

/* The same for a vCPU, whose memslot is only looked up if it matters. */
static inline struct kvm_userfault_access
kvm_userfault_access_begin_gfn(struct kvm_vcpu *vcpu, gfn_t gfn, u64 flags)
{
	struct kvm_userfault_access access = {};

	if (unlikely(READ_ONCE(vcpu->kvm->userfault.state)))
		__kvm_userfault_access_begin(vcpu->kvm,
					     kvm_vcpu_gfn_to_memslot(vcpu, gfn),
					     gfn, flags, &access);
	return access;
}

static inline void kvm_userfault_access_end(struct kvm_userfault_access *access)
{
	if (unlikely(access->srcu))
		__kvm_userfault_access_end(access);
}

/* Returns the mode that it was.  In KVM_RUN it is WAIT, and NONE elsewhere. */
static inline u8 kvm_userfault_set_mode(struct kvm_vcpu *vcpu, u8 mode)
{
	u8 old = vcpu->userfault.mode;

	vcpu->userfault.mode = mode;
	vcpu->userfault.failed = false;
	return old;
}

/* Did an access fail since the mode was set? */
static inline bool kvm_userfault_failed(struct kvm_vcpu *vcpu)
{
	return vcpu->userfault.failed;
}

int kvm_userfault_map_begin(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
			    gfn_t gfn, u64 access);
void kvm_userfault_map_end(struct kvm_vcpu *vcpu, gfn_t gfn);

bool kvm_userfault_own_absent(struct kvm *kvm, int as_id, gpa_t gpa);
bool kvm_userfault_defer(struct kvm_vcpu *vcpu, gpa_t gpa, u64 access);
bool kvm_userfault_gpc_absent(struct kvm *kvm, const struct kvm_memory_slot *slot,
			      gpa_t gpa);
void kvm_userfault_gpc_wait(struct kvm *kvm, const struct gfn_to_pfn_cache *gpc);

/*
 * In a walk of the guest's page tables that is not over: was an access stopped so that
 * the walk has to start over, or is given up?
 */
static inline bool kvm_userfault_walk_stopped(struct kvm_vcpu *vcpu)
{
	return vcpu->userfault.restart ||
	       (vcpu->userfault.mode == KVM_USERFAULT_MODE_FAIL && vcpu->userfault.failed);
}

DEFINE_CLASS(kvm_userfault_access, struct kvm_userfault_access,
	     kvm_userfault_access_end(&_T),
	     kvm_userfault_access_begin(kvm, slot, gfn, flags),
	     struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn, u64 flags);

DEFINE_CLASS(kvm_userfault_access_gfn, struct kvm_userfault_access,
	     kvm_userfault_access_end(&_T),
	     kvm_userfault_access_begin_gfn(vcpu, gfn, flags),
	     struct kvm_vcpu *vcpu, gfn_t gfn, u64 flags);

DEFINE_CLASS(kvm_userfault_access_nofault, struct kvm_userfault_access,
	     kvm_userfault_access_end(&_T),
	     kvm_userfault_access_begin_nofault(kvm, slot, gfn),
	     struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn);

#else

struct kvm_userfault_access {
	int err;
};

/*
 * As classes, but without a look at the arguments, so that not even the order of
 * instructions depends on them.
 */
static __always_inline void kvm_userfault_access_nop(struct kvm_userfault_access *access)
{
}

#define class_kvm_userfault_access_t				struct kvm_userfault_access
#define class_kvm_userfault_access_destructor			kvm_userfault_access_nop
#define class_kvm_userfault_access_constructor(...)		{}
#define class_kvm_userfault_access_gfn_t			struct kvm_userfault_access
#define class_kvm_userfault_access_gfn_destructor		kvm_userfault_access_nop
#define class_kvm_userfault_access_gfn_constructor(...)		{}
#define class_kvm_userfault_access_nofault_t			struct kvm_userfault_access
#define class_kvm_userfault_access_nofault_destructor		kvm_userfault_access_nop
#define class_kvm_userfault_access_nofault_constructor(...)	{}

static inline struct kvm_userfault_access
kvm_userfault_access_begin_gfn(struct kvm_vcpu *vcpu, gfn_t gfn, u64 flags)
{
	return (struct kvm_userfault_access) {};
}

static inline void kvm_userfault_access_end(struct kvm_userfault_access *access)
{
}

static inline u8 kvm_userfault_set_mode(struct kvm_vcpu *vcpu, u8 mode)
{
	return 0;
}

static inline bool kvm_userfault_failed(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline int kvm_userfault_map_begin(struct kvm_vcpu *vcpu,
					  const struct kvm_memory_slot *slot,
					  gfn_t gfn, u64 access)
{
	return 0;
}

static inline void kvm_userfault_map_end(struct kvm_vcpu *vcpu, gfn_t gfn)
{
}

static inline bool kvm_userfault_own_absent(struct kvm *kvm, int as_id, gpa_t gpa)
{
	return false;
}

static inline bool kvm_userfault_gpc_absent(struct kvm *kvm,
					    const struct kvm_memory_slot *slot, gpa_t gpa)
{
	return false;
}

static inline void kvm_userfault_gpc_wait(struct kvm *kvm,
					  const struct gfn_to_pfn_cache *gpc)
{
}

static inline bool kvm_userfault_walk_stopped(struct kvm_vcpu *vcpu)
{
	return false;
}

#endif /* CONFIG_KVM_USERFAULT */

#endif /* _LINUX_KVM_USERFAULT_ACCESS_H */
