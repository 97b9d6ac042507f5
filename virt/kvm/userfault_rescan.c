// SPDX-License-Identifier: GPL-2.0
/*
 * KVM Userfault: work on a range of pages, i.e. dropping the mappings of pages
 * whose bit is set, and waiting for readers of a bitmap.
 */
#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/kvm_host.h>
#include <linux/uaccess.h>

#include "kvm_mm.h"
#include "userfault.h"

/*
 * Pages that are handled under one hold of mmu_lock, and so a bound on how long
 * vCPUs wait for it.  A multiple of 8, so that each chunk starts at a byte.
 */
#define KVM_USERFAULT_CHUNK	4096

/* As many short naps, a millisecond at most, before the drain waits by the tick. */
#define KVM_USERFAULT_DRAIN_TRIES	20

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
	unsigned long hva, hva_end;

	if (rs == nr)
		return;

	/* Not that of the end: behind the memslot there is none. */
	hva = __gfn_to_hva_memslot(slot, start + rs);
	hva_end = hva + (nr - rs) * PAGE_SIZE;

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

	/* Those in between that are present are looked up again. */
	kvm_userfault_drop_gpcs(kvm, hva, hva_end);
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
 * has finished, and with that KVM's own accesses to pages that were present then.
 * Either can sleep in a page fault, of the bitmap or of the page, for as long as
 * userspace likes, so let the caller be killed or interrupted.
 */
int kvm_userfault_drain(struct kvm *kvm, bool killable)
{
	struct srcu_struct *srcu = &kvm->userfault.state->srcu;
	unsigned long cookie;
	int tries = 0;

	/* Mostly there is nobody to wait for; do not take ticks to find that out. */
	srcu_expedite_current(srcu);
	cookie = start_poll_synchronize_srcu(srcu);

	while (!poll_state_synchronize_srcu(srcu, cookie)) {
		if (kvm_userfault_interrupted(killable))
			return -EINTR;
		if (tries++ < KVM_USERFAULT_DRAIN_TRIES)
			usleep_range(20, 50);
		else
			schedule_timeout_uninterruptible(1);
	}
	return 0;
}

/*
 * The first memslot of an address space that has pages in [@start, @end), and is armed
 * if it has to be, and the first of these pages.
 */
static struct kvm_memory_slot *kvm_userfault_first_slot(struct kvm *kvm, int as_id,
							gfn_t start, gfn_t end,
							bool armed, gfn_t *first)
{
	struct kvm_memslot_iter iter;

	kvm_for_each_memslot_in_gfn_range(&iter, __kvm_memslots(kvm, as_id), start, end) {
		if (armed && !kvm_userfault_slot_armed(iter.slot))
			continue;
		*first = max(start, iter.slot->base_gfn);
		return iter.slot;
	}
	return NULL;
}

/*
 * Drop what is absent in [@start, @end), a chunk at most, of one slot.  Where the
 * bitmap cannot be read that is everything, and @bad is lowered to the first page
 * of which it is true.  Without @bad everything is dropped, whatever the bitmap says.
 */
static void kvm_userfault_rescan_slot(struct kvm *kvm, struct kvm_memory_slot *slot,
				      gfn_t start, gfn_t end, gfn_t *bad)
{
	DECLARE_BITMAP(bits, KVM_USERFAULT_CHUNK + 8);
	unsigned long shift = (start - slot->base_gfn) % 8;
	unsigned long nr = shift + end - start;
	unsigned long left, known = nr;
	bool armed;

	if (!bad) {
		bitmap_set(bits, shift, nr - shift);
		goto unmap;
	}
	/* The copy may end within the last word. */
	bits[(nr - 1) / BITS_PER_LONG] = 0;
	left = kvm_userfault_read(kvm, slot, start, end, bits, &armed);
	if (!armed)
		return;

	if (left) {
		known = max((DIV_ROUND_UP(nr, 8) - left) * 8, shift);
		bitmap_set(bits, known, nr - known);
		*bad = min(*bad, start - shift + known);
	}
unmap:
	bitmap_clear(bits, 0, shift);

	kvm_userfault_unmap(kvm, slot, start - shift, bits, nr);
}

/*
 * One chunk of [@start, @end), in one or in all address spaces.  Returns where
 * the next one begins, or @start if there is no slot left that matters: all do without
 * @bad, armed ones with it.
 */
static gfn_t kvm_userfault_rescan_chunk(struct kvm *kvm, u32 as_id, gfn_t start,
					gfn_t end, gfn_t *bad)
{
	int first_as = as_id == KVM_USERFAULT_AS_ALL ? 0 : as_id;
	int last_as = as_id == KVM_USERFAULT_AS_ALL ?
		      kvm_arch_nr_memslot_as_ids(kvm) - 1 : as_id;
	struct kvm_memory_slot *slot;
	gfn_t first, lowest = end;
	int as;

	/* Between slots there is nothing to do, however far they are apart. */
	for (as = first_as; as <= last_as; as++) {
		if (kvm_userfault_first_slot(kvm, as, start, end, bad, &first))
			lowest = min(lowest, first);
	}
	if (lowest == end)
		return start;

	end = min(end, lowest + KVM_USERFAULT_CHUNK);
	for (as = first_as; as <= last_as; as++) {
		gfn_t at = lowest;

		while (at < end) {
			slot = kvm_userfault_first_slot(kvm, as, at, end, bad, &first);
			if (!slot)
				break;
			at = min(end, slot->base_gfn + slot->npages);
			kvm_userfault_rescan_slot(kvm, slot, first, at, bad);
		}
	}
	return end;
}

/*
 * KVM_USERFAULT_RESCAN: apply the bits that userspace has set.  @range is updated
 * to what is left to do; that is also where -EFAULT says that a bitmap cannot be
 * read, after the mappings there were dropped.
 */
int kvm_userfault_rescan(struct kvm *kvm, struct kvm_userfault_range *range)
{
	gfn_t start = gpa_to_gfn(range->gpa), next;
	gfn_t end = start + (range->size >> PAGE_SHIFT);
	gfn_t at = start, bad = end;
	bool own = kvm_userfault_has_feature(kvm, KVM_USERFAULT_FEATURE_OWN);
	bool found = false;
	gfn_t busy;
	int r = 0, idx;

	/* Such a VM cannot have the feature. */
	if (!kvm_arch_userfault_can_drop(kvm))
		return -EOPNOTSUPP;
	if (!kvm_userfault_has_feature(kvm, KVM_USERFAULT_FEATURE_RESCAN))
		return -EPERM;
	if (!kvm_userfault_range_valid(range))
		return -EINVAL;
	if (range->as_id != KVM_USERFAULT_AS_ALL &&
	    range->as_id >= kvm_arch_nr_memslot_as_ids(kvm))
		return -EINVAL;

	/* The bits were set before; see userfault.c for the fault side. */
	smp_mb();

	while (at < end) {
		if (signal_pending(current)) {
			r = at == start ? -EINTR : 0;
			break;
		}

		/* A chunk at a time: memslot changes wait for this. */
		idx = srcu_read_lock(&kvm->srcu);
		next = kvm_userfault_rescan_chunk(kvm, range->as_id, at, end, &bad);
		srcu_read_unlock(&kvm->srcu, idx);

		if (next == at) {
			r = found ? 0 : -ENOENT;
			at = found ? end : start;
			break;
		}
		found = true;
		at = next;
		if (bad < end) {
			at = bad;
			r = -EFAULT;
			break;
		}
		cond_resched();
	}

	/*
	 * What was mapped is not any more; now those of KVM's own accesses that
	 * had found the pages present.
	 */
	busy = at;
	if (own && found) {
		int r2 = kvm_userfault_maps_busy(kvm, range->as_id, start, at, &busy, false);

		if (r2 != -EINTR && kvm_userfault_drain(kvm, false))
			r2 = -EINTR;
		if (r2) {
			r = r2;
			at = r == -EINTR ? start : busy;
		}
	}

	range->size -= gfn_to_gpa(at - start);
	range->gpa += gfn_to_gpa(at - start);
	return r;
}

/* Unmap one page, in all address spaces. */
void kvm_userfault_unmap_page(struct kvm *kvm, gfn_t gfn)
{
	int idx;

	/* As below. */
	smp_mb();

	idx = srcu_read_lock(&kvm->srcu);
	kvm_userfault_rescan_chunk(kvm, KVM_USERFAULT_AS_ALL, gfn, gfn + 1, NULL);
	srcu_read_unlock(&kvm->srcu, idx);
}

/* Unmap all of [@start, @end), in all address spaces.  -EINTR */
int kvm_userfault_unmap_range(struct kvm *kvm, gfn_t start, gfn_t end)
{
	gfn_t at = start, next;
	int idx;

	/* The reason for it, then the mappings; see userfault.c for the fault side. */
	smp_mb();

	for (;;) {
		if (signal_pending(current))
			return -EINTR;

		idx = srcu_read_lock(&kvm->srcu);
		next = kvm_userfault_rescan_chunk(kvm, KVM_USERFAULT_AS_ALL, at, end, NULL);
		srcu_read_unlock(&kvm->srcu, idx);
		if (next == at || next == end)
			return 0;
		at = next;
		cond_resched();
	}
}
