/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __KVM_USERFAULT_H
#define __KVM_USERFAULT_H

/* What userfault*.c share; hooks and architectures use <linux/kvm_userfault_host.h>. */

#include <linux/atomic.h>
#include <linux/kref.h>
#include <linux/kvm_host.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rcuwait.h>
#include <linux/sched/signal.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/string.h>
#include <linux/wait.h>

/* Bits of one word say which buckets hold events to be read. */
#define KVM_USERFAULT_BUCKETS	BITS_PER_LONG

enum kvm_userfault_waiter_state {
	KVM_USERFAULT_CHECKING,		/* not yet sure that it has to wait */
	KVM_USERFAULT_PENDING,		/* an event, to be read */
	KVM_USERFAULT_TOLD,		/* a reader knows of the page */
};

/*
 * Somebody who waits for a page.  It lives on that task's stack, and is only
 * reachable through its bucket, under the bucket's lock.
 */
struct kvm_userfault_waiter {
	struct list_head node;
	struct rcuwait *wait;

	gfn_t gfn;
	u64 flags;			/* KVM_MEMORY_EXIT_FLAG_* */
	u32 vcpu_id;
	u16 as_id;
	u64 seq;
	u64 time_ns;

	enum kvm_userfault_waiter_state state;
	/* Set under the lock, read by the waiter without it. */
	bool woken;
	bool recheck;
	/* Who woke it says that there is no content, and never will be. */
	bool poison;
};

/* Waiters by page, so that those of a page meet and others do not. */
struct kvm_userfault_bucket {
	spinlock_t lock;		/* of all that its waiters have */
	unsigned int pending;		/* events among them */
	struct list_head waiters;
};

struct kvm_userfault_file;
struct kvm_userfault_poison;

/* One per VM, allocated when the VM uses userfault for the first time. */
struct kvm_userfault {
	/* The VM, and each open file. */
	struct kref ref;
	/* KVM_USERFAULT_FEATURE_* that userspace enabled; bits only get set. */
	atomic64_t features;
	/*
	 * Held while a bitmap is read.  kvm->srcu does not serve: what changes
	 * a memslot in place must be able to wait for the readers of the old
	 * map without waiting for a vCPU that sleeps elsewhere in KVM_RUN.
	 */
	struct srcu_struct srcu;

	/* Serializes what changes the file that is live. */
	struct mutex file_lock;
	struct kvm_userfault_file __rcu *live;
	bool dead;			/* the VM is gone */
	/* Who waits for a page instead of exiting?  Written under file_lock. */
	bool vcpus_wait;
	bool own_waits;

	/* Serializes what changes the set of poisoned pages. */
	struct mutex poison_lock;
	struct kvm_userfault_poison __rcu *poison;
	u64 poison_generation;

	unsigned long pending;		/* buckets with events */
	atomic_t next_bucket;		/* where the next read() begins */
	atomic64_t seq;
	struct kvm_userfault_bucket buckets[KVM_USERFAULT_BUCKETS];
};

static inline struct kvm_userfault *kvm_userfault_state(struct kvm *kvm)
{
	/* Pairs with cmpxchg() in kvm_userfault_get(): the pointer, then what it points to. */
	return smp_load_acquire(&kvm->userfault.state);
}

static inline bool kvm_userfault_has_feature(struct kvm *kvm, u64 feature)
{
	struct kvm_userfault *uf = kvm_userfault_state(kvm);

	return uf && (atomic64_read(&uf->features) & feature);
}

/* Is there a bitmap to ask?  One that is being deleted does not count. */
static inline bool kvm_userfault_slot_armed(const struct kvm_memory_slot *slot)
{
	return slot && !(slot->flags & KVM_MEMSLOT_INVALID) &&
	       kvm_memslot_userfault_armed(slot);
}

/* What an exit or event says of a page that is not PRESENT. */
static inline u64 kvm_userfault_page_flags(enum kvm_userfault_page page)
{
	switch (page) {
	case KVM_USERFAULT_POISONED:
		return KVM_MEMORY_EXIT_FLAG_POISON;
	case KVM_USERFAULT_UNREADABLE:
		return KVM_MEMORY_EXIT_FLAG_USERFAULT | KVM_MEMORY_EXIT_FLAG_BITMAP;
	default:
		return KVM_MEMORY_EXIT_FLAG_USERFAULT;
	}
}

/* The page that an access with @flags waited for has become poison. */
static inline u64 kvm_userfault_poison_flags(u64 flags)
{
	return (flags & ~(KVM_MEMORY_EXIT_FLAG_USERFAULT | KVM_MEMORY_EXIT_FLAG_BITMAP)) |
	       KVM_MEMORY_EXIT_FLAG_POISON;
}

/* Of a task that waits for others, and may be told to stop by a signal. */
static inline bool kvm_userfault_interrupted(bool killable)
{
	return killable ? fatal_signal_pending(current) : signal_pending(current);
}

/* Which address spaces there are depends on the ioctl. */
static inline bool kvm_userfault_range_valid(const struct kvm_userfault_range *range)
{
	return !range->flags && !range->pad &&
	       !memchr_inv(range->reserved, 0, sizeof(range->reserved)) &&
	       PAGE_ALIGNED(range->gpa) && PAGE_ALIGNED(range->size) &&
	       range->gpa + range->size > range->gpa;
}

void kvm_userfault_put(struct kvm_userfault *uf);

/* userfault.c */
unsigned long kvm_userfault_read(struct kvm *kvm, const struct kvm_memory_slot *slot,
				 gfn_t start, gfn_t end, void *bits, bool *armed);
void kvm_userfault_record(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
			  gfn_t gfn, u64 flags);
int kvm_userfault_exit(struct kvm_vcpu *vcpu, gfn_t gfn, u64 flags);

/* userfault_access.c */
int kvm_userfault_maps_busy(struct kvm *kvm, u32 as_id, gfn_t start, gfn_t end,
			    gfn_t *busy, bool killable);
void kvm_userfault_hit(struct kvm_vcpu *vcpu, gfn_t gfn, u64 flags);
void kvm_userfault_drop_gpcs(struct kvm *kvm, unsigned long start, unsigned long end);

/* userfault_wait.c */
bool kvm_userfault_served(struct kvm *kvm, u64 flags);
enum kvm_userfault_page kvm_userfault_look_again(struct kvm *kvm, u16 as_id, gfn_t gfn);
int kvm_userfault_wait_in_place(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
				gfn_t gfn, u64 flags);

/* userfault_rescan.c */
int kvm_userfault_drop_absent(struct kvm *kvm, struct kvm_memory_slot *slot);
int kvm_userfault_drain(struct kvm *kvm, bool killable);
int kvm_userfault_rescan(struct kvm *kvm, struct kvm_userfault_range *range);
void kvm_userfault_unmap_page(struct kvm *kvm, gfn_t gfn);
int kvm_userfault_unmap_range(struct kvm *kvm, gfn_t start, gfn_t end);

/* userfault_fd.c */
void kvm_userfault_init_waiters(struct kvm_userfault *uf);
int kvm_userfault_create_fd(struct kvm *kvm, const struct kvm_userfault_fd *args);
void kvm_userfault_kill(struct kvm_userfault *uf);
void kvm_userfault_recheck_waiters(struct kvm_userfault *uf);
void kvm_userfault_enqueue(struct kvm_userfault *uf, struct kvm_userfault_waiter *w);
void kvm_userfault_dequeue(struct kvm_userfault *uf, struct kvm_userfault_waiter *w);
void kvm_userfault_announce(struct kvm_userfault *uf, struct kvm_userfault_waiter *w);

/* userfault_poison.c */
void kvm_userfault_init_poison(struct kvm_userfault *uf);
void kvm_userfault_destroy_poison(struct kvm_userfault *uf);
u64 kvm_userfault_poison_generation(struct kvm *kvm);
int kvm_userfault_poison_page(struct kvm *kvm, gfn_t gfn);
int kvm_userfault_ioctl_poison(struct kvm *kvm, void __user *argp);
int kvm_userfault_ioctl_get_poison(struct kvm *kvm, void __user *argp);

#endif /* __KVM_USERFAULT_H */
