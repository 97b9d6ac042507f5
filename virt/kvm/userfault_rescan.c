// SPDX-License-Identifier: GPL-2.0
/*
 * KVM Userfault: work on a range of pages, i.e. dropping the mappings of pages
 * whose bit is set, and waiting for readers of a bitmap.
 */
#include <linux/bitmap.h>
#include <linux/kvm_host.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "kvm_mm.h"

/*
 * Pages that are handled under one hold of mmu_lock, and so a bound on how long
 * vCPUs wait for it.  A multiple of 8, so that each chunk starts at a byte.
 */
#define KVM_USERFAULT_CHUNK	4096

/*
 * Huge mappings are dropped whole, so the invalidated range names a page's
 * neighbours as well.  With all of the work done under one hold of mmu_lock this
 * only spares faults on them the way up to the lock; should the lock ever be
 * dropped in between, it is what keeps them from mapping the page again.
 */
#ifdef KVM_MAX_HUGEPAGE_LEVEL
#define KVM_USERFAULT_HUGE_PAGES	KVM_PAGES_PER_HPAGE(KVM_MAX_HUGEPAGE_LEVEL)
#else
#define KVM_USERFAULT_HUGE_PAGES	1
#endif

/*
 * Unmap those pages of [@start, @start + @nr) whose bit is set in @bits.
 *
 * All of it happens under one hold of mmu_lock, the TLB flush included.  Were
 * the lock dropped in between, a fault on a neighbour that the invalidated
 * range does not name could map a huge page over the ones just unmapped, as
 * mmu_invalidate_seq is only bumped at the end; and an mmu_notifier that finds
 * a page unmapped, but not flushed, would let the host free it while a TLB
 * still maps it.
 */
static void kvm_userfault_unmap(struct kvm *kvm, struct kvm_memory_slot *slot,
				gfn_t start, const unsigned long *bits,
				unsigned long nr)
{
	unsigned long rs = find_first_bit(bits, nr), re;
	struct kvm_gfn_range range = {
		.slot = slot,
		.may_block = false,
		.attr_filter = KVM_FILTER_PRIVATE | KVM_FILTER_SHARED,
	};
	bool flush = false;

	if (rs == nr)
		return;

	KVM_MMU_LOCK(kvm);
	kvm_mmu_invalidate_start(kvm);
	kvm_mmu_invalidate_range_add(kvm,
				     round_down(start + rs, KVM_USERFAULT_HUGE_PAGES),
				     round_up(start + nr, KVM_USERFAULT_HUGE_PAGES));

	for_each_set_bitrange_from(rs, re, bits, nr) {
		range.start = start + rs;
		range.end = start + re;
#ifdef CONFIG_HAVE_KVM_ARCH_GMEM_INVALIDATE
		if (slot->gmem.file)
			kvm_arch_gmem_invalidate_range(kvm, &range);
#endif
		flush |= kvm_unmap_gfn_range(kvm, &range);
	}

	if (flush)
		kvm_flush_remote_tlbs(kvm);
	kvm_mmu_invalidate_end(kvm);
	KVM_MMU_UNLOCK(kvm);
}

/*
 * Drop the mappings of all absent pages of a slot that has just been armed; of
 * all pages where the bitmap cannot be read.  -EINTR if the task was killed.
 *
 * The bitmap is read with slots_lock held, as the slot must stay.  Userspace
 * must not make the pages of a bitmap wait for an ioctl that needs that lock.
 */
int kvm_userfault_drop_absent(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	DECLARE_BITMAP(bits, KVM_USERFAULT_CHUNK);
	unsigned long done, nr;

	lockdep_assert_held(&kvm->slots_lock);

	/*
	 * The flag and the pointer before the bits: see userfault.c for the
	 * fault side.
	 */
	smp_mb();

	for (done = 0; done < slot->npages; done += nr) {
		if (fatal_signal_pending(current))
			return -EINTR;

		nr = min(slot->npages - done, KVM_USERFAULT_CHUNK);
		/* The copy may end within the last word. */
		bits[(nr - 1) / BITS_PER_LONG] = 0;

		if (copy_from_user(bits, slot->userfault.bitmap + done / 8,
				   DIV_ROUND_UP(nr, 8)))
			bitmap_fill(bits, nr);

		kvm_userfault_unmap(kvm, slot, slot->base_gfn + done, bits, nr);
		cond_resched();
	}
	return 0;
}

/*
 * Wait until everybody who may have read a bitmap, flag or pointer from before
 * has finished.  A reader can sleep in the page fault of the bitmap itself, for
 * as long as userspace likes, so let the caller be killed.
 */
int kvm_userfault_drain_killable(struct kvm *kvm)
{
	struct srcu_struct *srcu = &kvm->userfault.state->srcu;
	unsigned long cookie = start_poll_synchronize_srcu(srcu);

	while (!poll_state_synchronize_srcu(srcu, cookie)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		schedule_timeout_killable(1);
	}
	return 0;
}
