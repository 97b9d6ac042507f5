// SPDX-License-Identifier: GPL-2.0
/*
 * KVM Userfault: capabilities, the bitmap reads behind each decision, and the
 * exit to userspace.
 *
 * The order that makes a decision on a bit hold, for a vCPU's page fault:
 *
 *	vCPU					userspace / KVM ioctl
 *	sample mmu_invalidate_seq		set the bit (or the memslot flag)
 *	read the memslot's flag			smp_mb()
 *	read the bit				take mmu_lock
 *	look up the page			unmap, bump mmu_invalidate_seq
 *	take mmu_lock, recheck the sequence	release mmu_lock
 *	map the page
 *
 * A fault that read the old bit sampled the old sequence, so it either maps
 * the page before the unmapping, which removes it, or finds the sequence
 * changed and starts over.  In the other direction userspace fills the page
 * and then clears the bit with release semantics; smp_rmb() after the bit was
 * read clear orders the lookup of the page, and so the guest's accesses, after
 * it.
 */
#include <linux/bitmap.h>
#include <linux/build_bug.h>
#include <linux/file.h>
#include <linux/kvm_host.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define CREATE_TRACE_POINTS
#include <trace/events/kvm_userfault.h>

#include "userfault.h"

/* What this build can do. */
#define KVM_USERFAULT_FEATURES_SUPPORTED				\
	(KVM_USERFAULT_FEATURE_EXIT | KVM_USERFAULT_FEATURE_ACCESS |	\
	 KVM_USERFAULT_FEATURE_RESCAN | KVM_USERFAULT_FEATURE_FD |	\
	 (IS_ENABLED(CONFIG_HAVE_KVM_USERFAULT_OWN) ?			\
	  KVM_USERFAULT_FEATURE_OWN : 0) |				\
	 (IS_ENABLED(CONFIG_HAVE_KVM_USERFAULT_POISON) ?		\
	  KVM_USERFAULT_FEATURE_POISON | KVM_USERFAULT_FEATURE_POISON_INJECT : 0))

/* The level cap's question: is a whole 2M span present? */
#define KVM_USERFAULT_SPAN_MAX	512

static_assert(offsetof(struct kvm_userspace_memory_region2, userfault_bitmap) ==
	      KVM_USERFAULT_BITMAP_OFFSET);
static_assert(offsetof(struct kvm_userspace_memory_region2, userfault_wp_bitmap) ==
	      KVM_USERFAULT_WP_BITMAP_OFFSET);
static_assert(sizeof(struct kvm_userspace_memory_region2) == 160);

/* @kvm is NULL for /dev/kvm, which knows of no VM what its type lacks. */
static u64 kvm_userfault_features(struct kvm *kvm)
{
	u64 features = KVM_USERFAULT_FEATURES_SUPPORTED;

	if (kvm && !kvm_arch_userfault_can_drop(kvm))
		features &= ~(KVM_USERFAULT_FEATURE_RESCAN | KVM_USERFAULT_FEATURE_POISON |
			      KVM_USERFAULT_FEATURE_POISON_INJECT);
	return features;
}

int kvm_userfault_check_extension(struct kvm *kvm, long cap)
{
	if (cap == KVM_CAP_USERFAULT)
		return 1;

	return kvm_userfault_features(kvm);
}

/*
 * The VM's state, allocated by the first call.  Ioctls that need it may race
 * and hold different locks; the loser takes the winner's.
 */
static struct kvm_userfault *kvm_userfault_get(struct kvm *kvm)
{
	struct kvm_userfault *uf = kvm_userfault_state(kvm);
	struct kvm_userfault *other;

	if (uf)
		return uf;

	uf = kzalloc_obj(*uf, GFP_KERNEL_ACCOUNT);
	if (!uf)
		return NULL;

	if (init_srcu_struct(&uf->srcu)) {
		kfree(uf);
		return NULL;
	}
	kref_init(&uf->ref);
	kvm_userfault_init_waiters(uf);
	kvm_userfault_init_poison(uf);

	other = cmpxchg(&kvm->userfault.state, NULL, uf);
	if (other) {
		cleanup_srcu_struct(&uf->srcu);
		kfree(uf);
		return other;
	}
	return uf;
}

static void kvm_userfault_free(struct kref *ref)
{
	kfree(container_of(ref, struct kvm_userfault, ref));
}

void kvm_userfault_put(struct kvm_userfault *uf)
{
	kref_put(&uf->ref, kvm_userfault_free);
}

void kvm_userfault_destroy_vm(struct kvm *kvm)
{
	struct kvm_userfault *uf = kvm->userfault.state;

	if (!uf)
		return;

	kvm_userfault_kill(uf);
	/* A polled grace period may not have ended: its waiter was killed. */
	synchronize_srcu(&uf->srcu);
	/* What was to expedite it. */
	srcu_barrier(&uf->srcu);
	cleanup_srcu_struct(&uf->srcu);
	kvm_userfault_destroy_poison(uf);
	kvm_userfault_put(uf);
}

int kvm_userfault_enable_cap(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	struct kvm_userfault *uf;

	if (cap->flags || cap->args[1] || cap->args[2] || cap->args[3])
		return -EINVAL;
	if (cap->args[0] & ~kvm_userfault_features(kvm))
		return -EINVAL;
	if (!cap->args[0])
		return 0;

	uf = kvm_userfault_get(kvm);
	if (!uf)
		return -ENOMEM;

	atomic64_or(cap->args[0], &uf->features);

	/*
	 * Pfn caches of absent pages may be valid.  Other accesses ask the bitmap
	 * from now on; those under way are not of a VM that has opted in.
	 */
	if (cap->args[0] & KVM_USERFAULT_FEATURE_OWN)
		kvm_userfault_drop_gpcs(kvm, 0, ULONG_MAX);
	return 0;
}

/*
 * Tell the v1 ioctl, which cannot carry a bitmap, from the v2 one.  The mark is
 * made in KVM's copy of a pad that userspace may have left uninitialised.
 */
void kvm_userfault_mark_ioctl(struct kvm_userspace_memory_region2 *mem,
			      unsigned int ioctl)
{
	mem->pad1 = ioctl == KVM_SET_USER_MEMORY_REGION;
}

int kvm_userfault_check_region(struct kvm *kvm,
			       const struct kvm_userspace_memory_region2 *mem)
{
	unsigned long map = mem->userfault_bitmap;
	u64 npages = mem->memory_size >> PAGE_SHIFT;

	if (!(mem->flags & KVM_MEM_USERFAULT) || !npages)
		return 0;

	/*
	 * Whether there is memory behind the pointer is not asked: it may come
	 * and go, and while there is none every page counts as absent.
	 */
	if (mem->userfault_bitmap != untagged_addr(mem->userfault_bitmap) ||
	    !access_ok((void __user *)map, DIV_ROUND_UP(npages, 64) * sizeof(u64)))
		return -EINVAL;

	return kvm_userfault_get(kvm) ? 0 : -ENOMEM;
}

void kvm_userfault_init_memslot(struct kvm_memory_slot *slot,
				const struct kvm_userspace_memory_region2 *mem)
{
	if (mem->flags & KVM_MEM_USERFAULT)
		slot->userfault.bitmap = u64_to_user_ptr(mem->userfault_bitmap);
}

#ifdef CONFIG_KVM_GUEST_MEMFD
static bool kvm_userfault_same_gmem(const struct kvm_memory_slot *slot,
				    const struct kvm_userspace_memory_region2 *mem)
{
	struct file *file = fget(mem->guest_memfd);
	bool same;

	if (!file)
		return false;

	same = file == READ_ONCE(slot->gmem.file) &&
	       mem->guest_memfd_offset == (u64)slot->gmem.pgoff << PAGE_SHIFT;
	fput(file);
	return same;
}
#else
static bool kvm_userfault_same_gmem(const struct kvm_memory_slot *slot,
				    const struct kvm_userspace_memory_region2 *mem)
{
	return false;
}
#endif

/* Does @mem describe @slot as it is, apart from what may be changed in place? */
static bool kvm_userfault_same_slot(const struct kvm_memory_slot *slot,
				    const struct kvm_userspace_memory_region2 *mem)
{
	return mem->userspace_addr == slot->userspace_addr &&
	       mem->guest_phys_addr == slot->base_gfn << PAGE_SHIFT &&
	       mem->memory_size == (u64)slot->npages << PAGE_SHIFT &&
	       !((mem->flags ^ slot->flags) &
		 (KVM_MEM_READONLY | KVM_MEM_GUEST_MEMFD));
}

static int kvm_userfault_arm(struct kvm *kvm, struct kvm_memory_slot *slot,
			     const u8 __user *map)
{
	WRITE_ONCE(slot->userfault.bitmap, map);
	/* Pairs with smp_rmb() in kvm_userfault_read(): no flag without its map. */
	smp_wmb();
	WRITE_ONCE(slot->flags, slot->flags | KVM_MEM_USERFAULT);

	return kvm_userfault_drop_absent(kvm, slot);
}

static void kvm_userfault_disarm(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	WRITE_ONCE(slot->flags, slot->flags & ~KVM_MEM_USERFAULT);
	kvm_arch_userfault_disabled(kvm, slot);
}

/*
 * Apply what @mem says of the userfault flag and pointer to the live memslot.
 *
 * The slot is not replaced: a new one would have to be bound to its guest_memfd
 * in place of the old one, under the feet of vCPUs that still use that one.
 * Both memslot sets share this object, so writing its two fields is all it
 * takes, and nobody has to wait for kvm->srcu.
 *
 * Returns 0 when all was done here, KVM_USERFAULT_NOT_MINE when the common code
 * has to go on (a move, dirty logging, nothing of ours, or a change that it
 * refuses), or -errno.  -EINTR only goes to a dying process.  -EBUSY: the slot is armed,
 * but hardware or KVM goes on using an absent page that it has mapped.
 */
int kvm_userfault_update_memslot(struct kvm *kvm, struct kvm_memory_slot *slot,
				 const struct kvm_userspace_memory_region2 *mem)
{
	const u8 __user *map = u64_to_user_ptr(mem->userfault_bitmap);
	bool was_armed = slot->flags & KVM_MEM_USERFAULT;
	bool arm = mem->flags & KVM_MEM_USERFAULT;
	bool own = kvm_userfault_has_feature(kvm, KVM_USERFAULT_FEATURE_OWN);
	bool changed;
	bool log_change = (mem->flags ^ slot->flags) & KVM_MEM_LOG_DIRTY_PAGES;
	int r;

	lockdep_assert_held(&kvm->slots_lock);

	if (!arm && !was_armed)
		return KVM_USERFAULT_NOT_MINE;

	/* The v1 ioctl would disarm by not knowing better. */
	if (was_armed && mem->pad1 && kvm_userfault_has_feature(kvm, ~0ull))
		return -EINVAL;

	if (!kvm_userfault_same_slot(slot, mem))
		return KVM_USERFAULT_NOT_MINE;

	if ((mem->flags & KVM_MEM_GUEST_MEMFD) &&
	    !kvm_userfault_same_gmem(slot, mem))
		return -EINVAL;

	changed = arm != was_armed || (arm && map != slot->userfault.bitmap);
	if (changed) {
		if (!kvm_arch_userfault_can_drop(kvm))
			return -EOPNOTSUPP;

		/*
		 * The common code can still fail.  Having armed the slot by then
		 * stops the guest, and a repeated call goes on from there; having
		 * disarmed it would let the guest run on unfilled pages.  So leave
		 * that to the common code as a whole: the new slot comes without
		 * the flag, and kvm->srcu waits for the readers of the old map.
		 */
		if (!arm && log_change)
			return KVM_USERFAULT_NOT_MINE;

		r = 0;
		if (arm)
			r = kvm_userfault_arm(kvm, slot, map);
		else
			kvm_userfault_disarm(kvm, slot);
		/* Who waits for a page may find it present now. */
		kvm_userfault_recheck_waiters(kvm_userfault_state(kvm));

		/*
		 * Readers of an older map, and KVM's own accesses to pages that
		 * were present.  Who sees the flag for the first time reads no
		 * older map.
		 */
		if (!r && (was_armed || own))
			r = kvm_userfault_drain(kvm, true);
		if (r)
			return r;
	}

	/* Also if a call that failed here is repeated; not for dirty logging's sake. */
	if (arm && (changed || !log_change)) {
		gfn_t busy = slot->base_gfn + slot->npages;

		r = kvm_userfault_maps_busy(kvm, slot->as_id, slot->base_gfn,
					    slot->base_gfn + slot->npages, &busy, true);
		if (r)
			return r;
	}

	return log_change ? KVM_USERFAULT_NOT_MINE : 0;
}

/*
 * Copy the bits of [@start, @end), which start at bit @start % 8 of @bits.
 * Returns how many bytes could not be read: there is no memory, or this is not
 * the VM's own process, where the pointer would mean something else.  Only called
 * for a slot that was armed; says so when it is no longer.
 */
unsigned long kvm_userfault_read(struct kvm *kvm, const struct kvm_memory_slot *slot,
				 gfn_t start, gfn_t end, void *bits, bool *armed)
{
	struct kvm_userfault *uf = kvm_userfault_state(kvm);
	unsigned long first = (start - slot->base_gfn) / 8;
	unsigned long last = (end - 1 - slot->base_gfn) / 8;
	unsigned long left = 0;
	int idx;

	*armed = true;
	if (WARN_ON_ONCE(current->mm != kvm->mm))
		return last - first + 1;

	/*
	 * Inside the section look at the flag again: the map of a slot that was
	 * disarmed, by an ioctl that returned, is userspace's to unmap or reuse.
	 */
	idx = srcu_read_lock(&uf->srcu);
	*armed = kvm_memslot_userfault_armed(slot);
	if (*armed) {
		/* Pairs with smp_wmb() in kvm_userfault_arm(). */
		smp_rmb();
		left = copy_from_user(bits, READ_ONCE(slot->userfault.bitmap) + first,
				      last - first + 1);
	}
	srcu_read_unlock(&uf->srcu, idx);

	/* See the comment at the top of the file. */
	smp_rmb();
	return left;
}

enum kvm_userfault_page kvm_userfault_test_gfn(struct kvm *kvm,
					       const struct kvm_memory_slot *slot,
					       gfn_t gfn)
{
	bool armed;
	u8 byte;

	if (kvm_userfault_read(kvm, slot, gfn, gfn + 1, &byte, &armed))
		return KVM_USERFAULT_UNREADABLE;
	if (!armed)
		return KVM_USERFAULT_PRESENT;

	return byte & BIT((gfn - slot->base_gfn) % 8) ? KVM_USERFAULT_ABSENT :
							KVM_USERFAULT_PRESENT;
}

/* Is every page of the range known to be present? */
bool kvm_userfault_range_present(struct kvm *kvm,
				 const struct kvm_memory_slot *slot,
				 gfn_t start, gfn_t end)
{
	/* The span starts at any bit of its first byte. */
	DECLARE_BITMAP(bits, KVM_USERFAULT_SPAN_MAX + 8);
	unsigned long shift = (start - slot->base_gfn) % 8;
	unsigned long nr = end - start;
	bool armed;

	if (WARN_ON_ONCE(nr > KVM_USERFAULT_SPAN_MAX))
		return false;
	/* The copy may end within the last word. */
	bits[(shift + nr - 1) / BITS_PER_LONG] = 0;
	if (kvm_userfault_read(kvm, slot, start, end, bits, &armed))
		return false;

	return !armed || find_next_bit(bits, shift + nr, shift) == shift + nr;
}

/*
 * Exit with KVM_EXIT_MEMORY_FAULT.  Without KVM_USERFAULT_FEATURE_ACCESS userspace
 * sees exactly what the series posted upstream reports, a bare error for an
 * unreadable map included.
 */
int kvm_userfault_exit(struct kvm_vcpu *vcpu, gfn_t gfn, u64 flags)
{
	if (flags & KVM_MEMORY_EXIT_FLAG_POISON)
		vcpu->stat.generic.userfault_poison_hits++;
	else
		vcpu->stat.generic.userfault_exits++;

	if (!kvm_userfault_has_feature(vcpu->kvm, KVM_USERFAULT_FEATURE_ACCESS)) {
		if (flags & KVM_MEMORY_EXIT_FLAG_BITMAP)
			return -EFAULT;
		flags &= KVM_MEMORY_EXIT_FLAG_USERFAULT |
			 KVM_MEMORY_EXIT_FLAG_POISON |
			 KVM_MEMORY_EXIT_FLAG_PRIVATE;
	}

	kvm_prepare_memory_fault_exit(vcpu, gfn_to_gpa(gfn), PAGE_SIZE,
				      flags & KVM_MEMORY_EXIT_FLAG_WRITE,
				      flags & KVM_MEMORY_EXIT_FLAG_EXEC,
				      flags & KVM_MEMORY_EXIT_FLAG_PRIVATE);
	vcpu->run->memory_fault.flags |= flags;
	return flags & KVM_MEMORY_EXIT_FLAG_POISON ? -EHWPOISON : -EFAULT;
}

/* What the vCPU was stopped at, or is going to be. */
void kvm_userfault_record(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
			  gfn_t gfn, u64 flags)
{
	vcpu->userfault.gfn = gfn;
	vcpu->userfault.flags = flags;
	vcpu->userfault.as_id = slot->as_id;
	vcpu->userfault.deferred = false;
}

/*
 * The vCPU cannot go on with what was recorded.  Returns 0 if it has to call
 * kvm_userfault_vcpu_wait() before it enters the guest, or -EFAULT with an exit
 * prepared.
 */
int kvm_userfault_stop(struct kvm_vcpu *vcpu)
{
	u64 flags = vcpu->userfault.flags;

	/* A bitmap that cannot be read is for the VMM to repair, poison not at all. */
	if (!(flags & (KVM_MEMORY_EXIT_FLAG_BITMAP | KVM_MEMORY_EXIT_FLAG_POISON)) &&
	    kvm_userfault_served(vcpu->kvm, flags)) {
		vcpu->userfault.wait = true;
		return 0;
	}
	return kvm_userfault_exit(vcpu, vcpu->userfault.gfn, flags);
}

/*
 * A vCPU's guest cannot have @page.  @access has the READ, WRITE, EXEC and
 * PAGE_WALK flags.  Returns what kvm_userfault_stop() does.
 */
int kvm_userfault_vcpu_fault(struct kvm_vcpu *vcpu,
			     const struct kvm_memory_slot *slot,
			     enum kvm_userfault_page page, gfn_t gfn,
			     u64 access, bool is_private)
{
	u64 flags = access;

	if (is_private)
		flags |= KVM_MEMORY_EXIT_FLAG_PRIVATE;
	flags |= kvm_userfault_page_flags(page);

	trace_kvm_userfault(vcpu->vcpu_id, gfn_to_gpa(gfn), flags, slot);
	kvm_userfault_record(vcpu, slot, gfn, flags);
	return kvm_userfault_stop(vcpu);
}

static int kvm_userfault_ioctl_rescan(struct kvm *kvm, void __user *argp)
{
	struct kvm_userfault_range range;
	int r;

	if (copy_from_user(&range, argp, sizeof(range)))
		return -EFAULT;
	r = kvm_userfault_rescan(kvm, &range);
	/* What is left. */
	if (copy_to_user(argp, &range, sizeof(range)))
		return -EFAULT;
	return r;
}

int kvm_userfault_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp)
{
	struct kvm_userfault_fd fd;

	switch (ioctl) {
	case KVM_USERFAULT_CREATE_FD:
		if (copy_from_user(&fd, argp, sizeof(fd)))
			return -EFAULT;
		return kvm_userfault_create_fd(kvm, &fd);
	case KVM_USERFAULT_RESCAN:
		return kvm_userfault_ioctl_rescan(kvm, argp);
	case KVM_USERFAULT_POISON:
		return kvm_userfault_ioctl_poison(kvm, argp);
	case KVM_USERFAULT_GET_POISON:
		return kvm_userfault_ioctl_get_poison(kvm, argp);
	default:
		return -ENOTTY;
	}
}

/* Of a vCPU, with its mutex held. */
int kvm_userfault_vcpu_ioctl(struct kvm_vcpu *vcpu, void __user *argp)
{
	struct kvm_userfault_inject inject;
	int r;

	if (copy_from_user(&inject, argp, sizeof(inject)))
		return -EFAULT;
	if (!kvm_arch_userfault_can_drop(vcpu->kvm))
		return -EOPNOTSUPP;
	if (!kvm_userfault_has_feature(vcpu->kvm, KVM_USERFAULT_FEATURE_POISON))
		return -EPERM;
	if (inject.flags & ~KVM_USERFAULT_INJECT_FORCE || inject.result ||
	    inject.access & ~(KVM_MEMORY_EXIT_FLAG_READ | KVM_MEMORY_EXIT_FLAG_WRITE |
			      KVM_MEMORY_EXIT_FLAG_EXEC | KVM_MEMORY_EXIT_FLAG_PAGE_WALK) ||
	    memchr_inv(inject.reserved, 0, sizeof(inject.reserved)))
		return -EINVAL;

	r = kvm_arch_userfault_inject(vcpu, &inject);
	if (r)
		return r;
	return copy_to_user(argp, &inject, sizeof(inject)) ? -EFAULT : 0;
}

/* A memslot was deleted, moved or created anew; with slots_lock held. */
void kvm_userfault_memslots_changed(struct kvm *kvm)
{
	struct kvm_userfault *uf = kvm_userfault_state(kvm);

	if (uf)
		kvm_userfault_recheck_waiters(uf);
}
