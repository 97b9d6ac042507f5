// SPDX-License-Identifier: GPL-2.0
/*
 * KVM Userfault: the pages whose content is lost, by decision of userspace.
 *
 * Poison belongs to the guest's physical addresses, not to memslots or memory: it
 * stays when a page is filled, discarded or deleted, until it is cleared.  It is kept
 * as a sorted array of ranges, which faults search under RCU alone.  Whoever changes it
 * holds poison_lock, and puts another array in its place: that happens rarely, and the
 * array is small.  (A maple tree that is four levels high is not freed correctly under
 * RCU in Linux 7.3.)
 *
 * The order is that of a bit of the bitmap, see userfault.c: a fault asks after
 * mmu_invalidate_seq was sampled, and SET stores, then unmaps under mmu_lock, which
 * bumps the sequence; then come pfn caches, host maps and accesses under the private
 * SRCU, see userfault_access.c.
 */
#include <linux/kvm_host.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <trace/events/kvm_userfault.h>

#include "userfault.h"

/* What a VM can make the kernel remember. */
#define KVM_USERFAULT_POISON_RANGES	4096

/* Ranges that are copied to userspace at a time. */
#define KVM_USERFAULT_POISON_BATCH	8

struct kvm_userfault_poison {
	struct rcu_head rcu;
	unsigned int nr;
	/* Ascending, and with pages in between that are not poisoned. */
	struct kvm_userfault_gfns {
		gfn_t start, end;
	} ranges[] __counted_by(nr);
};

void kvm_userfault_init_poison(struct kvm_userfault *uf)
{
	mutex_init(&uf->poison_lock);
}

/* Nobody looks any more. */
void kvm_userfault_destroy_poison(struct kvm_userfault *uf)
{
	kvfree(rcu_dereference_protected(uf->poison, true));
}

/* How many ranges end at or before @gfn. */
static unsigned int kvm_userfault_poison_before(const struct kvm_userfault_poison *set,
						gfn_t gfn)
{
	unsigned int low = 0, high = set ? set->nr : 0, middle;

	while (low < high) {
		middle = (low + high) / 2;
		if (set->ranges[middle].end <= gfn)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Is any page of [@start, @end) poisoned?  Any context but NMI. */
bool __kvm_userfault_poisoned(struct kvm *kvm, gfn_t start, gfn_t end)
{
	const struct kvm_userfault_poison *set;
	unsigned int i;
	bool poisoned;

	rcu_read_lock();
	set = rcu_dereference(kvm_userfault_state(kvm)->poison);
	i = kvm_userfault_poison_before(set, start);
	poisoned = set && i < set->nr && set->ranges[i].start < end;
	rcu_read_unlock();
	return poisoned;
}

u64 kvm_userfault_poison_generation(struct kvm *kvm)
{
	return READ_ONCE(kvm_userfault_state(kvm)->poison_generation);
}

static struct kvm_userfault_poison *kvm_userfault_poison_locked(struct kvm_userfault *uf)
{
	return rcu_dereference_protected(uf->poison, lockdep_is_held(&uf->poison_lock));
}

/*
 * Put the @nr_new ranges of @new in the place of those from @first to @behind.
 * -ENOSPC, -ENOMEM, and then nothing has changed.
 */
static int kvm_userfault_poison_replace(struct kvm *kvm, unsigned int first,
					unsigned int behind,
					const struct kvm_userfault_gfns *new,
					unsigned int nr_new)
{
	struct kvm_userfault *uf = kvm_userfault_state(kvm);
	struct kvm_userfault_poison *old = kvm_userfault_poison_locked(uf), *set = NULL;
	unsigned int rest = old ? old->nr - behind : 0;
	unsigned int nr = first + nr_new + rest;

	if (nr > KVM_USERFAULT_POISON_RANGES)
		return -ENOSPC;
	if (nr) {
		set = kvmalloc(struct_size(set, ranges, nr), GFP_KERNEL_ACCOUNT);
		if (!set)
			return -ENOMEM;
		set->nr = nr;
		if (first)
			memcpy(set->ranges, old->ranges, first * sizeof(*new));
		if (nr_new)
			memcpy(set->ranges + first, new, nr_new * sizeof(*new));
		if (rest)
			memcpy(set->ranges + first + nr_new, old->ranges + behind,
			       rest * sizeof(*new));
	}

	rcu_assign_pointer(uf->poison, set);
	WRITE_ONCE(uf->poison_generation, uf->poison_generation + 1);
	/* For whoever finds it clear the set is as good as empty, and was. */
	WRITE_ONCE(kvm->userfault.poisoned, nr);
	if (old)
		kvfree_rcu(old, rcu);
	return 0;
}

/*
 * Ranges that touch become one, so that how many there are does not depend on how
 * they came.
 */
static int kvm_userfault_poison_add(struct kvm *kvm, gfn_t start, gfn_t end)
{
	const struct kvm_userfault_poison *set =
		kvm_userfault_poison_locked(kvm_userfault_state(kvm));
	unsigned int first = kvm_userfault_poison_before(set, start ? start - 1 : 0);
	unsigned int behind = first;
	struct kvm_userfault_gfns new = { start, end };

	for (; set && behind < set->nr && set->ranges[behind].start <= end; behind++) {
		new.start = min(new.start, set->ranges[behind].start);
		new.end = max(new.end, set->ranges[behind].end);
	}
	return kvm_userfault_poison_replace(kvm, first, behind, &new, 1);
}

/* What of the ranges on either side is not within it stays. */
static int kvm_userfault_poison_remove(struct kvm *kvm, gfn_t start, gfn_t end)
{
	const struct kvm_userfault_poison *set =
		kvm_userfault_poison_locked(kvm_userfault_state(kvm));
	unsigned int first = kvm_userfault_poison_before(set, start);
	unsigned int behind = first, nr = 0;
	struct kvm_userfault_gfns left[2];

	while (set && behind < set->nr && set->ranges[behind].start < end)
		behind++;
	if (behind > first && set->ranges[first].start < start)
		left[nr++] = (struct kvm_userfault_gfns) { set->ranges[first].start, start };
	if (behind > first && set->ranges[behind - 1].end > end)
		left[nr++] = (struct kvm_userfault_gfns) { end, set->ranges[behind - 1].end };

	return kvm_userfault_poison_replace(kvm, first, behind, left, nr);
}

/* The set alone; nobody is made to notice. */
static int kvm_userfault_poison_change(struct kvm *kvm, gfn_t start, gfn_t end, bool poison)
{
	struct kvm_userfault *uf = kvm_userfault_state(kvm);
	int r;

	mutex_lock(&uf->poison_lock);
	r = poison ? kvm_userfault_poison_add(kvm, start, end) :
		     kvm_userfault_poison_remove(kvm, start, end);
	mutex_unlock(&uf->poison_lock);

	if (!r)
		trace_kvm_userfault_poison(gfn_to_gpa(start), gfn_to_gpa(end - start), poison);
	return r;
}

/*
 * Somebody waited for this page, and was told that it is poison.  Others may have found
 * it present meanwhile, or see it from another address space.
 */
int kvm_userfault_poison_page(struct kvm *kvm, gfn_t gfn)
{
	int r = kvm_userfault_poison_change(kvm, gfn, gfn + 1, true);

	if (!r)
		kvm_userfault_unmap_page(kvm, gfn);
	return r;
}

/*
 * After pages were added: until this returns 0 they may be in use.  -EINTR; -EBUSY,
 * with @busy lowered to the first one that KVM goes on using by a mapping of its own.
 */
static int kvm_userfault_poison_enforce(struct kvm *kvm, gfn_t start, gfn_t end,
					gfn_t *busy)
{
	int r, r2;

	r = kvm_userfault_unmap_range(kvm, start, end);
	/* They find out when they try again. */
	kvm_userfault_recheck_waiters(kvm_userfault_state(kvm));
	if (r)
		return r;

	r = kvm_userfault_maps_busy(kvm, KVM_USERFAULT_AS_ALL, start, end, busy, false);
	r2 = r == -EINTR ? 0 : kvm_userfault_drain(kvm, false);
	return r2 ?: r;
}

int kvm_userfault_ioctl_poison(struct kvm *kvm, void __user *argp)
{
	struct kvm_userfault_range range;
	gfn_t start, end, busy;
	bool all = false;
	u64 flags;
	int r;

	if (copy_from_user(&range, argp, sizeof(range)))
		return -EFAULT;
	/* Such a VM cannot have the feature. */
	if (!kvm_arch_userfault_can_drop(kvm))
		return -EOPNOTSUPP;
	if (!kvm_userfault_has_feature(kvm, KVM_USERFAULT_FEATURE_POISON))
		return -EPERM;

	flags = range.flags;
	range.flags = 0;
	if (flags == (KVM_USERFAULT_POISON_CLEAR | KVM_USERFAULT_POISON_ALL)) {
		if (range.gpa || range.size)
			return -EINVAL;
		all = true;
		range.size = PAGE_SIZE;
	} else if (flags != KVM_USERFAULT_POISON_SET && flags != KVM_USERFAULT_POISON_CLEAR) {
		return -EINVAL;
	}
	/* It is of all address spaces. */
	if (!kvm_userfault_range_valid(&range) || range.as_id)
		return -EINVAL;

	start = gpa_to_gfn(range.gpa);
	end = start + (range.size >> PAGE_SHIFT);
	if (all)
		return kvm_userfault_poison_change(kvm, 0, gpa_to_gfn(~0ull) + 1, false);

	busy = end;
	r = kvm_userfault_poison_change(kvm, start, end, flags == KVM_USERFAULT_POISON_SET);
	if (!r && flags == KVM_USERFAULT_POISON_SET)
		r = kvm_userfault_poison_enforce(kvm, start, end, &busy);
	if (r && r != -EBUSY)
		return r;

	range.gpa += gfn_to_gpa(busy - start);
	range.size -= gfn_to_gpa(busy - start);
	range.flags = flags;
	return copy_to_user(argp, &range, sizeof(range)) ? -EFAULT : r;
}

/* The next ranges in [@start, @end); returns how many, and the generation they are of. */
static unsigned int kvm_userfault_poison_next(struct kvm_userfault *uf, gfn_t start, gfn_t end,
					      struct kvm_userfault_poison_range *ranges,
					      unsigned int room, u64 *generation)
{
	const struct kvm_userfault_poison *set;
	unsigned int nr = 0, i;
	gfn_t from, to;

	mutex_lock(&uf->poison_lock);
	*generation = uf->poison_generation;
	set = kvm_userfault_poison_locked(uf);
	i = kvm_userfault_poison_before(set, start);
	for (; set && nr < room && i < set->nr && set->ranges[i].start < end; i++) {
		from = max(start, set->ranges[i].start);
		to = min(end, set->ranges[i].end);
		ranges[nr++] = (struct kvm_userfault_poison_range) {
			.gpa = gfn_to_gpa(from),
			.size = gfn_to_gpa(to - from),
		};
	}
	mutex_unlock(&uf->poison_lock);
	return nr;
}

/*
 * What is poisoned within the range that is asked for, by ascending address, as far
 * as there is room.  A page that is poisoned during a whole pass is listed: ranges may
 * grow together or fall apart meanwhile, but a page does not move, and the next call
 * begins behind the last one that was listed.  What one call lists is of one generation:
 * it ends early when the set changes.
 */
int kvm_userfault_ioctl_get_poison(struct kvm *kvm, void __user *argp)
{
	struct kvm_userfault_poison_range ranges[KVM_USERFAULT_POISON_BATCH], __user *to;
	struct kvm_userfault *uf = kvm_userfault_state(kvm);
	struct kvm_userfault_poison_list list;
	unsigned int nr, room, done = 0;
	u64 generation;
	gfn_t at, end;

	if (copy_from_user(&list, argp, sizeof(list)))
		return -EFAULT;
	if (!kvm_userfault_has_feature(kvm, KVM_USERFAULT_FEATURE_POISON))
		return -EPERM;
	if (list.flags || memchr_inv(list.reserved, 0, sizeof(list.reserved)) || !list.nr ||
	    list.ranges != untagged_addr(list.ranges) ||
	    !PAGE_ALIGNED(list.gpa) || !PAGE_ALIGNED(list.size) ||
	    list.gpa + list.size <= list.gpa)
		return -EINVAL;

	to = u64_to_user_ptr(list.ranges);
	at = gpa_to_gfn(list.gpa);
	end = at + (list.size >> PAGE_SHIFT);
	do {
		room = min(list.nr - done, KVM_USERFAULT_POISON_BATCH);
		nr = kvm_userfault_poison_next(uf, at, end, ranges, room, &generation);
		if (!done)
			list.generation = generation;
		else if (generation != list.generation)
			break;
		/* Without the lock: the buffer may be memory that somebody has to fill. */
		if (copy_to_user(to + done, ranges, nr * sizeof(ranges[0])))
			return -EFAULT;
		done += nr;
		at = nr < room ? end : gpa_to_gfn(ranges[nr - 1].gpa + ranges[nr - 1].size);
		if (signal_pending(current))
			break;
		cond_resched();
	} while (done < list.nr && at < end);

	list.size -= gfn_to_gpa(at) - list.gpa;
	list.gpa = gfn_to_gpa(at);
	list.nr = done;
	return copy_to_user(argp, &list, sizeof(list)) ? -EFAULT : 0;
}
