/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_KVM_USERFAULT_TYPES_H
#define _LINUX_KVM_USERFAULT_TYPES_H

/*
 * The fields that KVM Userfault adds to KVM's structures.  They are zero sized
 * when it is configured out, so that a hook is one line without #ifdef.
 */

#include <linux/compiler_types.h>
#include <linux/kvm_types.h>
#include <linux/types.h>

#ifdef CONFIG_KVM_USERFAULT

/* In struct kvm_memory_slot. */
struct kvm_memslot_userfault {
	/*
	 * Valid while KVM_MEM_USERFAULT is set.  Written under slots_lock, read
	 * under kvm_userfault.srcu.
	 */
	const u8 __user *bitmap;
};

/* In struct kvm: allocated when the VM uses userfault for the first time. */
struct kvm_userfault;
struct kvm_vm_userfault {
	struct kvm_userfault *state;
};

/* In struct kvm_vcpu: the last fault on an absent page. */
struct kvm_vcpu_userfault {
	gfn_t gfn;
	u64 flags;	/* KVM_MEMORY_EXIT_FLAG_* */
	u16 as_id;
	/* The vCPU has to wait before it enters the guest. */
	bool wait;
};

#define KVM_USERFAULT_VCPU_STATS					       \
	STATS_DESC_COUNTER(VCPU_GENERIC, userfault_exits),		       \
	STATS_DESC_COUNTER(VCPU_GENERIC, userfault_waits),

#else

struct kvm_memslot_userfault {};
struct kvm_vm_userfault {};
struct kvm_vcpu_userfault {};

#define KVM_USERFAULT_VCPU_STATS

#endif /* CONFIG_KVM_USERFAULT */

#endif /* _LINUX_KVM_USERFAULT_TYPES_H */
