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

/* What an access of KVM's own to an absent page does, by where KVM is. */
enum kvm_userfault_mode {
	KVM_USERFAULT_MODE_NONE,	/* it fails: not in KVM_RUN */
	KVM_USERFAULT_MODE_FAIL,	/* it fails, and the caller asks for that */
	KVM_USERFAULT_MODE_WAIT,	/* it waits where it is */
	KVM_USERFAULT_MODE_RESTART,	/* it fails, and the caller starts over */
};

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
	/* Some page is: read by every fault, so beside what that reads anyway. */
	bool poisoned;
};

enum kvm_userfault_map_state {
	KVM_USERFAULT_MAP_NONE,
	KVM_USERFAULT_MAP_TRIED,	/* not sure yet that the page is present */
	KVM_USERFAULT_MAP_LOCAL,	/* to be unmapped within this KVM_RUN */
	KVM_USERFAULT_MAP_LONG,
};

/* A page that the vCPU has mapped by struct kvm_host_map. */
struct kvm_userfault_map {
	gfn_t gfn;
	u16 as_id;
	u8 state;	/* enum kvm_userfault_map_state */
};

/* L1's and L2's pages in VMX (5), or a GHCB; and two local ones. */
#define KVM_USERFAULT_MAPS	8

/* More pages than KVM shares with a vCPU. */
#define KVM_USERFAULT_TOLD_PAGES	16

/* In struct kvm_vcpu. */
struct kvm_vcpu_userfault {
	/* The last fault on an absent page. */
	gfn_t gfn;
	u64 flags;	/* KVM_MEMORY_EXIT_FLAG_* */
	u16 as_id;
	/* The vCPU has to wait before it enters the guest. */
	bool wait;
	/* That is for KVM itself: it makes no sense to enter the guest before. */
	bool deferred;

	/* KVM's own accesses, on behalf of this vCPU: an enum kvm_userfault_mode. */
	u8 mode;
	/* One failed in MODE_RESTART, and is the last fault. */
	bool restart;
	/* One failed, or the lookup of a pfn cache, since the mode was set. */
	bool failed;
	/* One waits in MODE_WAIT. */
	bool waits;
	/* The next map is a local one. */
	bool map_local;
	struct kvm_userfault_map maps[KVM_USERFAULT_MAPS];

	/* One hit poison in MODE_WAIT: the last one, and how many there were. */
	bool hit;
	u32 hits;
	gfn_t hit_gfn;
	u64 hit_flags;
	/* How many there were that the guest had no part in; all of them if !hit. */
	u32 other_hits;
	/* How many when an instruction's emulation began; was it stopped by one? */
	u32 emul_hits;
	bool emul_stopped;
	/* One before it that userspace was not told of. */
	bool untold;
	gfn_t untold_gfn;
	u64 untold_flags;
	/* Those that userspace was told of, the last ones, and of which poison. */
	gfn_t told[KVM_USERFAULT_TOLD_PAGES];
	u32 nr_told;
	u64 told_generation;
};

#define KVM_USERFAULT_VCPU_STATS					       \
	STATS_DESC_COUNTER(VCPU_GENERIC, userfault_exits),		       \
	STATS_DESC_COUNTER(VCPU_GENERIC, userfault_waits),		       \
	STATS_DESC_COUNTER(VCPU_GENERIC, userfault_own_waits),		       \
	STATS_DESC_COUNTER(VCPU_GENERIC, userfault_poison_hits),

#else

struct kvm_memslot_userfault {};
struct kvm_vm_userfault {};
struct kvm_vcpu_userfault {};

#define KVM_USERFAULT_VCPU_STATS

#endif /* CONFIG_KVM_USERFAULT */

/* For the class of local maps, which <linux/kvm_host.h> defines halfway through. */
struct kvm_vcpu;
#ifdef CONFIG_KVM_USERFAULT
void kvm_userfault_map_local(struct kvm_vcpu *vcpu, bool local);
#else
static inline void kvm_userfault_map_local(struct kvm_vcpu *vcpu, bool local)
{
}
#endif

#endif /* _LINUX_KVM_USERFAULT_TYPES_H */
