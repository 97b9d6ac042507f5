// SPDX-License-Identifier: GPL-2.0
/*
 * KVM Userfault: waiting for a page that somebody on the other side of the
 * userfault fd fills.
 */
#include <linux/kvm_host.h>
#include <linux/ktime.h>
#include <linux/sched/signal.h>

#include "userfault.h"

/* Does a vCPU that hits an absent page wait for it, instead of exiting? */
bool kvm_userfault_vcpus_wait(struct kvm *kvm)
{
	return READ_ONCE(kvm_userfault_state(kvm)->vcpus_wait);
}

static bool kvm_userfault_still_absent(struct kvm *kvm,
				       const struct kvm_userfault_waiter *w)
{
	const struct kvm_memory_slot *slot;
	bool absent;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	slot = __gfn_to_memslot(__kvm_memslots(kvm, w->as_id), w->gfn);
	absent = slot && !(slot->flags & KVM_MEMSLOT_INVALID) &&
		 kvm_memslot_userfault_armed(slot) &&
		 kvm_userfault_test_gfn(kvm, slot, w->gfn) == KVM_USERFAULT_ABSENT;
	srcu_read_unlock(&kvm->srcu, idx);
	return absent;
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
	struct kvm_userfault_waiter w = {
		.wait = wait,
		.gfn = vcpu->userfault.gfn,
		.flags = vcpu->userfault.flags,
		.vcpu_id = vcpu->vcpu_id,
		.as_id = vcpu->userfault.as_id,
		.seq = atomic64_inc_return(&uf->seq),
		.time_ns = ktime_get_ns(),
		.recheck = true,
	};
	int r = 1;

	vcpu->stat.generic.userfault_waits++;
	kvm_userfault_enqueue(uf, &w);

	/* As in kvm_vcpu_block(), for virtual interrupt controllers' sake. */
	preempt_disable();
	kvm_arch_vcpu_blocking(vcpu);
	prepare_to_rcuwait(wait);
	preempt_enable();

	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (READ_ONCE(w.woken) || kvm_arch_userfault_disturbed(vcpu))
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
		if (!kvm_userfault_still_absent(vcpu->kvm, &w))
			break;
		if (!kvm_userfault_vcpus_wait(vcpu->kvm)) {
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
	return r;
}
