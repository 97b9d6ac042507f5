/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_KVM_USERFAULT_HOST_H
#define _LINUX_KVM_USERFAULT_HOST_H

/*
 * What hooks and architecture code call.  Included by <linux/kvm_host.h>,
 * which defines the structures; do not include it on its own.
 *
 * kvm_userfault_host.h is to kvm_userfault.h what kvm_host.h is to kvm.h.
 */

#include <linux/kvm_host.h>
#include <linux/kvm_userfault_access.h>

/* kvm_userfault_update_memslot(): the common code has to look at the change. */
#define KVM_USERFAULT_NOT_MINE	1

#ifdef CONFIG_KVM_USERFAULT

/* What one page's bit says. */
enum kvm_userfault_page {
	KVM_USERFAULT_PRESENT,
	KVM_USERFAULT_ABSENT,
	/* The bitmap cannot be read (now, or by this task); fail closed. */
	KVM_USERFAULT_UNREADABLE,
	/* Not a bit: userspace declared the content lost. */
	KVM_USERFAULT_POISONED,
};

static inline bool kvm_memslot_userfault_armed(const struct kvm_memory_slot *slot)
{
	/*
	 * The flag changes under the feet of vCPUs.  A change that takes pages
	 * away bumps mmu_invalidate_seq afterwards, so that what was decided on
	 * the old value is thrown away before it is mapped.  One that takes
	 * nothing away needs no such care: at worst an exit is reported that was
	 * true when the fault began.
	 */
	return READ_ONCE(slot->flags) & KVM_MEM_USERFAULT;
}

bool __kvm_userfault_poisoned(struct kvm *kvm, gfn_t start, gfn_t end);

/* Is any page of [@start, @end) poisoned?  Asked of those that a memslot has. */
static inline bool kvm_userfault_poisoned(struct kvm *kvm, gfn_t start, gfn_t end)
{
	return unlikely(READ_ONCE(kvm->userfault.poisoned)) &&
	       __kvm_userfault_poisoned(kvm, start, end);
}

/* A pfn cache whose memslot may be another one: is its page to be asked for again? */
static inline bool kvm_userfault_gpc_ask(struct kvm *kvm, const struct kvm_memory_slot *slot)
{
	return kvm_memslot_userfault_armed(slot) || READ_ONCE(kvm->userfault.poisoned);
}

int kvm_userfault_check_extension(struct kvm *kvm, long cap);
int kvm_userfault_enable_cap(struct kvm *kvm, const struct kvm_enable_cap *cap);
void kvm_userfault_destroy_vm(struct kvm *kvm);

/* Memslots; all but the first with slots_lock held. */
void kvm_userfault_mark_ioctl(struct kvm_userspace_memory_region2 *mem,
			      unsigned int ioctl);
static inline u32 kvm_userfault_valid_flags(void)
{
	return KVM_MEM_USERFAULT;
}

int kvm_userfault_check_region(struct kvm *kvm,
			       const struct kvm_userspace_memory_region2 *mem);
void kvm_userfault_init_memslot(struct kvm_memory_slot *slot,
				const struct kvm_userspace_memory_region2 *mem);
int kvm_userfault_update_memslot(struct kvm *kvm, struct kvm_memory_slot *slot,
				 const struct kvm_userspace_memory_region2 *mem);
void kvm_userfault_memslots_changed(struct kvm *kvm);

/* Bitmap reads; these sleep. */
enum kvm_userfault_page kvm_userfault_test_gfn(struct kvm *kvm,
					       const struct kvm_memory_slot *slot,
					       gfn_t gfn);
bool kvm_userfault_range_present(struct kvm *kvm,
				 const struct kvm_memory_slot *slot,
				 gfn_t start, gfn_t end);

/* A vCPU's guest cannot have @page, which is not PRESENT. */
int kvm_userfault_vcpu_fault(struct kvm_vcpu *vcpu,
			     const struct kvm_memory_slot *slot,
			     enum kvm_userfault_page page, gfn_t gfn,
			     u64 access, bool is_private);
int kvm_userfault_stop(struct kvm_vcpu *vcpu);
int kvm_userfault_vcpu_wait(struct kvm_vcpu *vcpu);

/* Does KVM queue the error itself, where it can? */
bool kvm_userfault_injects(struct kvm *kvm);

/* A vCPU's own accesses that hit poison. */
bool kvm_userfault_told(struct kvm_vcpu *vcpu, gfn_t gfn);
bool kvm_userfault_take_hit(struct kvm_vcpu *vcpu, bool stopped, bool ended);
int kvm_userfault_report_hit(struct kvm_vcpu *vcpu);

int kvm_userfault_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp);
int kvm_userfault_vcpu_ioctl(struct kvm_vcpu *vcpu, void __user *argp);

/* Provided by the architecture. */
bool kvm_arch_userfault_can_drop(struct kvm *kvm);
bool kvm_arch_userfault_disturbed(struct kvm_vcpu *vcpu);
int kvm_arch_userfault_inject(struct kvm_vcpu *vcpu, struct kvm_userfault_inject *inject);
void kvm_arch_userfault_disabled(struct kvm *kvm, struct kvm_memory_slot *slot);

#else

static inline bool kvm_memslot_userfault_armed(const struct kvm_memory_slot *slot)
{
	return false;
}

static inline bool kvm_userfault_gpc_ask(struct kvm *kvm, const struct kvm_memory_slot *slot)
{
	return false;
}

static inline void kvm_userfault_destroy_vm(struct kvm *kvm)
{
}

static inline void kvm_userfault_mark_ioctl(struct kvm_userspace_memory_region2 *mem,
					    unsigned int ioctl)
{
}

static inline u32 kvm_userfault_valid_flags(void)
{
	return 0;
}

static inline int kvm_userfault_check_region(struct kvm *kvm,
					     const struct kvm_userspace_memory_region2 *mem)
{
	return 0;
}

static inline void kvm_userfault_init_memslot(struct kvm_memory_slot *slot,
					      const struct kvm_userspace_memory_region2 *mem)
{
}

static inline int kvm_userfault_update_memslot(struct kvm *kvm,
					       struct kvm_memory_slot *slot,
					       const struct kvm_userspace_memory_region2 *mem)
{
	return KVM_USERFAULT_NOT_MINE;
}

static inline void kvm_userfault_memslots_changed(struct kvm *kvm)
{
}

#endif /* CONFIG_KVM_USERFAULT */

#endif /* _LINUX_KVM_USERFAULT_HOST_H */
