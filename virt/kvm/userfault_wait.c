// SPDX-License-Identifier: GPL-2.0
/*
 * KVM Userfault: waiting for a page that somebody on the other side of the
 * userfault fd fills.
 */
#include <linux/kvm_host.h>
#include <linux/ktime.h>

#include "userfault.h"

/*
 * Does a vCPU wait for an absent page, instead of exiting?  For its guest's
 * accesses the owner of the fd says so; those of KVM's own wait if there is a fd.
 */
bool kvm_userfault_served(struct kvm *kvm, u64 flags)
{
	struct kvm_userfault *uf = kvm_userfault_state(kvm);

	return flags & KVM_MEMORY_EXIT_FLAG_OWN ? READ_ONCE(uf->own_waits) :
						  READ_ONCE(uf->vcpus_wait);
}

static enum kvm_userfault_page kvm_userfault_slot_page(struct kvm *kvm,
						       const struct kvm_memory_slot *slot,
						       gfn_t gfn)
{
	if (slot && kvm_userfault_poisoned(kvm, gfn, gfn + 1))
		return KVM_USERFAULT_POISONED;
	if (!kvm_userfault_slot_armed(slot))
		return KVM_USERFAULT_PRESENT;

	return kvm_userfault_test_gfn(kvm, slot, gfn);
}

/* What the page is now; the memslot may be another one. */
enum kvm_userfault_page kvm_userfault_look_again(struct kvm *kvm, u16 as_id, gfn_t gfn)
{
	enum kvm_userfault_page page;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	page = kvm_userfault_slot_page(kvm, __gfn_to_memslot(__kvm_memslots(kvm, as_id), gfn),
				       gfn);
	srcu_read_unlock(&kvm->srcu, idx);
	return page;
}

/* Does something make the wait pointless? */
static bool kvm_userfault_disturbed(struct kvm_vcpu *vcpu)
{
	/* The guest could not be entered for it. */
	if (vcpu->userfault.deferred)
		return kvm_test_request(KVM_REQ_VM_DEAD, vcpu);

	return kvm_arch_userfault_disturbed(vcpu);
}

static void kvm_userfault_init_waiter(struct kvm_userfault_waiter *w, struct kvm_vcpu *vcpu,
				      struct rcuwait *wait)
{
	struct kvm_userfault *uf = kvm_userfault_state(vcpu->kvm);

	*w = (struct kvm_userfault_waiter) {
		.wait = wait,
		.vcpu_id = vcpu->vcpu_id,
		.seq = atomic64_inc_return(&uf->seq),
		.time_ns = ktime_get_ns(),
		.recheck = true,
	};
}

/*
 * Wait for the page in vcpu->userfault, with neither kvm->srcu nor a lock held.
 * Returns 1 if the guest should try again, -EINTR, or -EFAULT with an exit
 * prepared as nobody serves the page any more.
 *
 * Requests end the wait, too, as they may want something of the guest, such as to
 * take an interrupt.  It faults again then.
 */
int kvm_userfault_vcpu_wait(struct kvm_vcpu *vcpu)
{
	struct kvm_userfault *uf = kvm_userfault_state(vcpu->kvm);
	struct rcuwait *wait = kvm_arch_vcpu_get_wait(vcpu);
	struct kvm_userfault_waiter w;
	enum kvm_userfault_page page;
	int r = 1;

	kvm_userfault_init_waiter(&w, vcpu, wait);
	w.gfn = vcpu->userfault.gfn;
	w.flags = vcpu->userfault.flags;
	w.as_id = vcpu->userfault.as_id;

	vcpu->stat.generic.userfault_waits++;
	kvm_userfault_enqueue(uf, &w);

	/* As in kvm_vcpu_block(), for virtual interrupt controllers' sake. */
	preempt_disable();
	kvm_arch_vcpu_blocking(vcpu);
	prepare_to_rcuwait(wait);
	preempt_enable();

	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (READ_ONCE(w.woken) || kvm_userfault_disturbed(vcpu))
			break;
		if (signal_pending(current)) {
			r = -EINTR;
			break;
		}
		if (!READ_ONCE(w.recheck)) {
			schedule();
			continue;
		}

		/* The bitmap's own page may have to be waited for. */
		__set_current_state(TASK_RUNNING);
		/* Who sets it from now on has changed something after that. */
		smp_store_mb(w.recheck, false);
		page = kvm_userfault_look_again(vcpu->kvm, w.as_id, w.gfn);
		/* Poison is found by trying again. */
		if (page == KVM_USERFAULT_PRESENT || page == KVM_USERFAULT_POISONED)
			break;
		if (page == KVM_USERFAULT_UNREADABLE) {
			/* A guest finds out when it tries again, KVM would not. */
			if (w.flags & KVM_MEMORY_EXIT_FLAG_OWN)
				r = kvm_userfault_exit(vcpu, w.gfn, w.flags |
						       KVM_MEMORY_EXIT_FLAG_BITMAP);
			break;
		}
		if (!kvm_userfault_served(vcpu->kvm, w.flags)) {
			r = kvm_userfault_exit(vcpu, w.gfn, w.flags);
			break;
		}
		kvm_userfault_announce(uf, &w);
	}

	preempt_disable();
	finish_rcuwait(wait);
	kvm_arch_vcpu_unblocking(vcpu);
	preempt_enable();

	kvm_userfault_dequeue(uf, &w);

	/* If it cannot be remembered, let this one access fail. */
	if (w.poison && kvm_userfault_poison_page(vcpu->kvm, w.gfn))
		r = kvm_userfault_exit(vcpu, w.gfn, kvm_userfault_poison_flags(w.flags));
	return r;
}

/*
 * Wait for a page in the middle of an access of KVM's own, which cannot be undone.
 * kvm->srcu is held and keeps the memslot; that, and whatever else the caller
 * holds, is what others wait for meanwhile.  Only being killed ends the wait:
 * without a live fd it lasts until there is one that is told of it.  Unlike an exit,
 * it can also last until an unreadable bitmap is repaired.
 *
 * Returns 0 if the page should be looked at again, -EINTR, or -EHWPOISON.
 */
int kvm_userfault_wait_in_place(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
				gfn_t gfn, u64 flags)
{
	struct kvm_userfault *uf = kvm_userfault_state(vcpu->kvm);
	enum kvm_userfault_page page = KVM_USERFAULT_ABSENT;
	struct kvm_userfault_waiter w;
	/* Its own: a kick of the vCPU is not for this. */
	struct rcuwait wait;
	int r = 0;

	rcuwait_init(&wait);
	kvm_userfault_init_waiter(&w, vcpu, &wait);
	w.gfn = gfn;
	w.flags = flags;
	w.as_id = slot->as_id;

	vcpu->stat.generic.userfault_own_waits++;
	/* Pairs with kvm_userfault_maps_busy(): nobody waits for this vCPU's maps now. */
	WRITE_ONCE(vcpu->userfault.waits, true);
	kvm_userfault_enqueue(uf, &w);
	prepare_to_rcuwait(&wait);

	for (;;) {
		set_current_state(TASK_KILLABLE);
		if (READ_ONCE(w.woken))
			break;
		if (fatal_signal_pending(current)) {
			r = -EINTR;
			break;
		}
		if (!READ_ONCE(w.recheck)) {
			/* With nobody to call WAKE, look now and then: STALL or not. */
			if (page == KVM_USERFAULT_ABSENT && rcu_access_pointer(uf->live))
				schedule();
			else if (!schedule_timeout(HZ / 10))
				WRITE_ONCE(w.recheck, true);
			continue;
		}

		__set_current_state(TASK_RUNNING);
		/* As above. */
		smp_store_mb(w.recheck, false);
		/* Not looked up again: a slot that is being deleted waits for us. */
		page = kvm_userfault_slot_page(vcpu->kvm, slot, gfn);
		if (page == KVM_USERFAULT_PRESENT || page == KVM_USERFAULT_POISONED)
			break;
		kvm_userfault_announce(uf, &w);
	}

	finish_rcuwait(&wait);
	kvm_userfault_dequeue(uf, &w);
	WRITE_ONCE(vcpu->userfault.waits, false);

	if (!r && w.poison && kvm_userfault_poison_page(vcpu->kvm, gfn)) {
		kvm_userfault_hit(vcpu, gfn, kvm_userfault_poison_flags(flags));
		r = -EHWPOISON;
	}
	return r;
}
