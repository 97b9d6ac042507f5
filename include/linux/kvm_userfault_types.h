/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_KVM_USERFAULT_TYPES_H
#define _LINUX_KVM_USERFAULT_TYPES_H

/*
 * The fields that KVM Userfault adds to KVM's structures.  They are zero sized
 * when it is configured out, so that a hook is one line without #ifdef.
 */

#include <linux/atomic.h>
#include <linux/compiler_types.h>
#include <linux/kvm_types.h>
#include <linux/srcu.h>
#include <linux/types.h>

#ifdef CONFIG_KVM_USERFAULT

/* One per VM, allocated when the VM uses userfault for the first time. */
struct kvm_userfault {
	/* KVM_USERFAULT_FEATURE_* that userspace enabled; bits only get set. */
	atomic64_t features;
	/*
	 * Held while a bitmap is read.  kvm->srcu does not serve: what changes
	 * a memslot in place must be able to wait for the readers of the old
	 * map without waiting for a vCPU that sleeps elsewhere in KVM_RUN.
	 */
	struct srcu_struct srcu;
};

/* In struct kvm_memory_slot. */
struct kvm_memslot_userfault {
	/*
	 * Valid while KVM_MEM_USERFAULT is set.  Written under slots_lock, read
	 * under kvm_userfault.srcu.
	 */
	const u8 __user *bitmap;
};

/* In struct kvm. */
struct kvm_vm_userfault {
	struct kvm_userfault *state;
};

/* In struct kvm_vcpu: the page of the last userfault exit. */
struct kvm_vcpu_userfault {
	gfn_t gfn;
	/* KVM_MEMORY_EXIT_FLAG_*: what the guest wanted to do with it. */
	u64 access;
	u16 as_id;
};

#define KVM_USERFAULT_VCPU_STATS					       \
	STATS_DESC_COUNTER(VCPU_GENERIC, userfault_exits),

#else

struct kvm_memslot_userfault {};
struct kvm_vm_userfault {};
struct kvm_vcpu_userfault {};

#define KVM_USERFAULT_VCPU_STATS

#endif /* CONFIG_KVM_USERFAULT */

#endif /* _LINUX_KVM_USERFAULT_TYPES_H */
