// SPDX-License-Identifier: GPL-2.0
/*
 * KVM Userfault: KVM's own accesses to guest memory.
 *
 * Whatever reads or writes guest memory in the kernel goes through one of these:
 *
 *  - kvm_userfault_access, around an access through the page's HVA.  It holds the
 *    private SRCU from the last look at the bit to the end of the access, and
 *    never while it waits.
 *  - kvm_userfault_map_begin()/end(), around the life of a kvm_host_map, which can
 *    be long: it is registered in the vCPU before the bit is looked at.
 *  - kvm_userfault_gpc_absent(), when a pfn cache looks up its page: after
 *    gpc_invalidate_seq was sampled, as is the rule for what can make it invalid.
 *
 * The other side sets bits and then, in this order, drops mappings and pfn caches
 * (mmu_invalidate_seq and gpc_invalidate_seq retire lookups on the way), looks for
 * host maps and waits for the SRCU.  Either side has a full barrier between its
 * write and its read, so an access that was not waited for has seen the bit.
 *
 * What an access to an absent page does follows from where KVM is, which is said by
 * vcpu->userfault.mode and never guessed: in KVM_RUN it waits where it is, or, if
 * it can be done again from the top, makes the caller go back there.  Anywhere else
 * (other ioctls, kthreads) it fails.
 */
#include <linux/kvm_host.h>
#include <linux/ktime.h>
#include <linux/uaccess.h>
#include <trace/events/kvm_userfault.h>

#include "kvm_mm.h"
#include "userfault.h"

static bool kvm_userfault_obeys(struct kvm *kvm, const struct kvm_memory_slot *slot)
{
	return kvm_userfault_slot_armed(slot) &&
	       kvm_userfault_has_feature(kvm, KVM_USERFAULT_FEATURE_OWN);
}

static enum kvm_userfault_page kvm_userfault_own_page(struct kvm *kvm,
						      const struct kvm_memory_slot *slot,
						      gfn_t gfn)
{
	if (slot && kvm_userfault_poisoned(kvm, gfn, gfn + 1))
		return KVM_USERFAULT_POISONED;
	if (!kvm_userfault_obeys(kvm, slot))
		return KVM_USERFAULT_PRESENT;
	/* A worker of somebody else's cannot read the bitmap. */
	if (current->mm != kvm->mm)
		return KVM_USERFAULT_UNREADABLE;

	return kvm_userfault_test_gfn(kvm, slot, gfn);
}

/* The same where neither sleeping nor faulting is allowed. */
static enum kvm_userfault_page
kvm_userfault_own_page_nofault(struct kvm *kvm, const struct kvm_memory_slot *slot,
			       gfn_t gfn)
{
	const u8 __user *map;
	u8 byte;

	if (slot && kvm_userfault_poisoned(kvm, gfn, gfn + 1))
		return KVM_USERFAULT_POISONED;
	if (!kvm_userfault_obeys(kvm, slot))
		return KVM_USERFAULT_PRESENT;

	/* Pairs with smp_wmb() in kvm_userfault_arm(). */
	smp_rmb();
	map = READ_ONCE(slot->userfault.bitmap);
	if (current->mm != kvm->mm ||
	    copy_from_user_nofault(&byte, map + (gfn - slot->base_gfn) / 8, 1))
		return KVM_USERFAULT_UNREADABLE;
	/* As in kvm_userfault_read(). */
	smp_rmb();

	return byte & BIT((gfn - slot->base_gfn) % 8) ? KVM_USERFAULT_ABSENT :
							KVM_USERFAULT_PRESENT;
}

static u64 kvm_userfault_own_flags(enum kvm_userfault_page page, u64 access)
{
	return access | KVM_MEMORY_EXIT_FLAG_OWN | kvm_userfault_page_flags(page);
}

/* The vCPU on whose behalf this task accesses memory, or NULL. */
static struct kvm_vcpu *kvm_userfault_loaded_vcpu(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu = kvm_get_running_vcpu();

	return vcpu && vcpu->kvm == kvm ? vcpu : NULL;
}

static int kvm_userfault_own_error(enum kvm_userfault_page page)
{
	return page == KVM_USERFAULT_POISONED ? -EHWPOISON : -EFAULT;
}

/* Was userspace told that KVM, for this vCPU, hits @gfn, since the poison last changed? */
bool kvm_userfault_told(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	const struct kvm_vcpu_userfault *u = &vcpu->userfault;
	u32 i;

	if (u->told_generation != kvm_userfault_poison_generation(vcpu->kvm))
		return false;
	for (i = 0; i < min(u->nr_told, KVM_USERFAULT_TOLD_PAGES); i++) {
		if (u->told[i] == gfn)
			return true;
	}
	return false;
}

/*
 * Poison, in KVM_RUN, where there is nothing to wait for.  The access fails; that KVM
 * does not make of it what it does of memory that is not there is for the
 * architecture to see to, once it is back where it can leave KVM_RUN.
 */
void kvm_userfault_hit(struct kvm_vcpu *vcpu, gfn_t gfn, u64 flags)
{
	struct kvm_vcpu_userfault *u = &vcpu->userfault;

	/* One more is remembered: this one may have been told before. */
	if (u->hit && u->hit_gfn != gfn && !kvm_userfault_told(vcpu, u->hit_gfn)) {
		u->untold = true;
		u->untold_gfn = u->hit_gfn;
		u->untold_flags = u->hit_flags;
	}
	u->hit = true;
	u->hits++;
	u->hit_gfn = gfn;
	u->hit_flags = flags;
}

/* Poison that is still there, and that userspace does not know KVM to hit. */
static bool kvm_userfault_is_news(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	return kvm_userfault_poisoned(vcpu->kvm, gfn, gfn + 1) && !kvm_userfault_told(vcpu, gfn);
}

/*
 * Is there a hit to be dealt with?  The last one, if an instruction was @stopped: by that
 * one.  Otherwise one that is news, if there is any, and the last one if it has @ended
 * something else.  What nothing came of, say an update of what KVM shares with the guest, is
 * told only once, as it is going to be tried again and again; nor is it told if it comes
 * late, after an exit in which userspace made the page usable again.
 */
bool kvm_userfault_take_hit(struct kvm_vcpu *vcpu, bool stopped, bool ended)
{
	u64 generation = kvm_userfault_poison_generation(vcpu->kvm);
	struct kvm_vcpu_userfault *u = &vcpu->userfault;
	bool news = kvm_userfault_is_news(vcpu, u->hit_gfn);

	if (!stopped && !news && u->untold && kvm_userfault_is_news(vcpu, u->untold_gfn)) {
		u->hit_gfn = u->untold_gfn;
		u->hit_flags = u->untold_flags;
		news = true;
	}
	u->hit = false;
	u->untold = false;
	if (!stopped && !ended && !news) {
		vcpu->stat.generic.userfault_poison_hits++;
		return false;
	}
	if (u->told_generation != generation) {
		u->told_generation = generation;
		u->nr_told = 0;
	}
	if (!kvm_userfault_told(vcpu, u->hit_gfn))
		u->told[u->nr_told++ % KVM_USERFAULT_TOLD_PAGES] = u->hit_gfn;
	return true;
}

bool kvm_userfault_injects(struct kvm *kvm)
{
	return kvm_userfault_has_feature(kvm, KVM_USERFAULT_FEATURE_POISON_INJECT);
}

int kvm_userfault_report_hit(struct kvm_vcpu *vcpu)
{
	return kvm_userfault_exit(vcpu, vcpu->userfault.hit_gfn, vcpu->userfault.hit_flags);
}

/*
 * @page is not PRESENT.  Returns 0 if the access should look again, or -errno: it
 * does not take place.
 */
static int kvm_userfault_own_blocked(struct kvm *kvm, const struct kvm_memory_slot *slot,
				     enum kvm_userfault_page page, gfn_t gfn, u64 access)
{
	struct kvm_vcpu *vcpu = kvm_userfault_loaded_vcpu(kvm);
	u64 flags = kvm_userfault_own_flags(page, access);

	trace_kvm_userfault(vcpu ? vcpu->vcpu_id : -1, gfn_to_gpa(gfn), flags, slot);

	if (!vcpu)
		return kvm_userfault_own_error(page);

	if (vcpu->userfault.mode == KVM_USERFAULT_MODE_WAIT) {
		if (page == KVM_USERFAULT_POISONED) {
			kvm_userfault_hit(vcpu, gfn, flags);
			return -EHWPOISON;
		}
		return kvm_userfault_wait_in_place(vcpu, slot, gfn, flags);
	}

	vcpu->userfault.failed = true;
	if (vcpu->userfault.mode == KVM_USERFAULT_MODE_RESTART) {
		kvm_userfault_record(vcpu, slot, gfn, flags);
		vcpu->userfault.restart = true;
		return -EAGAIN;
	}
	return kvm_userfault_own_error(page);
}

void __kvm_userfault_access_begin(struct kvm *kvm, const struct kvm_memory_slot *slot,
				  gfn_t gfn, u64 flags,
				  struct kvm_userfault_access *access)
{
	struct srcu_struct *srcu = &kvm_userfault_state(kvm)->srcu;
	enum kvm_userfault_page page;

	might_sleep();

	for (;;) {
		access->idx = srcu_read_lock(srcu);
		page = kvm_userfault_own_page(kvm, slot, gfn);
		if (page == KVM_USERFAULT_PRESENT) {
			access->srcu = srcu;
			return;
		}
		srcu_read_unlock(srcu, access->idx);

		access->err = kvm_userfault_own_blocked(kvm, slot, page, gfn, flags);
		if (access->err)
			return;
	}
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(__kvm_userfault_access_begin);

void __kvm_userfault_access_begin_nofault(struct kvm *kvm,
					  const struct kvm_memory_slot *slot, gfn_t gfn,
					  struct kvm_userfault_access *access)
{
	struct srcu_struct *srcu = &kvm_userfault_state(kvm)->srcu;

	access->idx = srcu_read_lock(srcu);
	if (kvm_userfault_own_page_nofault(kvm, slot, gfn) == KVM_USERFAULT_PRESENT) {
		access->srcu = srcu;
		return;
	}
	srcu_read_unlock(srcu, access->idx);
	access->err = -EFAULT;
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(__kvm_userfault_access_begin_nofault);

void __kvm_userfault_access_end(struct kvm_userfault_access *access)
{
	srcu_read_unlock(access->srcu, access->idx);
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(__kvm_userfault_access_end);

/* Would an access to @gpa have to wait, or fail? */
bool kvm_userfault_own_absent(struct kvm *kvm, int as_id, gpa_t gpa)
{
	struct kvm_memory_slot *slot;

	if (!kvm_userfault_state(kvm))
		return false;

	slot = __gfn_to_memslot(__kvm_memslots(kvm, as_id), gpa_to_gfn(gpa));
	return kvm_userfault_own_page(kvm, slot, gpa_to_gfn(gpa)) != KVM_USERFAULT_PRESENT;
}

/*
 * A request of the vCPU cannot be carried out before the page is there.  If so, make
 * the vCPU wait for it, or exit, before it enters the guest; the caller makes its
 * request again.
 */
bool kvm_userfault_defer(struct kvm_vcpu *vcpu, gpa_t gpa, u64 access)
{
	struct kvm *kvm = vcpu->kvm;
	struct kvm_memory_slot *slot;
	enum kvm_userfault_page page;
	gfn_t gfn = gpa_to_gfn(gpa);
	u64 flags;

	if (!kvm_userfault_state(kvm) || !vcpu->userfault.mode)
		return false;

	slot = gfn_to_memslot(kvm, gfn);
	page = kvm_userfault_own_page(kvm, slot, gfn);
	/* There is nothing to wait for: the access itself will tell. */
	if (page == KVM_USERFAULT_PRESENT || page == KVM_USERFAULT_POISONED)
		return false;

	flags = kvm_userfault_own_flags(page, access);
	trace_kvm_userfault(vcpu->vcpu_id, gpa, flags, slot);
	kvm_userfault_record(vcpu, slot, gfn, flags);
	vcpu->userfault.wait = true;
	vcpu->userfault.deferred = true;
	return true;
}

/*
 * Host maps.
 */

/* The next map will be unmapped soon, so RESCAN can wait for that. */
void kvm_userfault_map_local(struct kvm_vcpu *vcpu, bool local)
{
	vcpu->userfault.map_local = local;
}
EXPORT_SYMBOL_FOR_KVM_INTERNAL(kvm_userfault_map_local);

static void kvm_userfault_map_set(struct kvm_userfault_map *map,
				  enum kvm_userfault_map_state state)
{
	/* What it is before that it is; what was done with it before that it is not. */
	smp_store_release(&map->state, state);
}

/* Without a memslot, too, as kvm_userfault_map_end() does not know. */
int kvm_userfault_map_begin(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
			    gfn_t gfn, u64 access)
{
	struct kvm_userfault_map *map = NULL;
	struct kvm *kvm = vcpu->kvm;
	enum kvm_userfault_page page;
	int i, r;

	for (i = 0; i < ARRAY_SIZE(vcpu->userfault.maps) && !map; i++) {
		if (!vcpu->userfault.maps[i].state)
			map = &vcpu->userfault.maps[i];
	}
	/* More than any vCPU can have at a time. */
	if (WARN_ON_ONCE(!map))
		return -ENOSPC;

	map->gfn = gfn;
	map->as_id = kvm_arch_vcpu_memslots_id(vcpu);

	for (;;) {
		kvm_userfault_map_set(map, KVM_USERFAULT_MAP_TRIED);
		/* Seen by all who set the bit and do not find it seen. */
		smp_mb();

		page = kvm_userfault_own_page(kvm, slot, gfn);
		if (page == KVM_USERFAULT_PRESENT) {
			kvm_userfault_map_set(map, vcpu->userfault.map_local ?
					      KVM_USERFAULT_MAP_LOCAL :
					      KVM_USERFAULT_MAP_LONG);
			return 0;
		}

		kvm_userfault_map_set(map, KVM_USERFAULT_MAP_NONE);
		r = kvm_userfault_own_blocked(kvm, slot, page, gfn, access);
		if (r)
			return r;
	}
}

/*
 * Of several maps of a page that of the shortest life: a hypervisor can have one page
 * serve two purposes, and local maps end first.  All are of one address space.
 */
void kvm_userfault_map_end(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	struct kvm_userfault_map *map, *end = NULL;
	int i;

	for (i = 0; i < ARRAY_SIZE(vcpu->userfault.maps); i++) {
		map = &vcpu->userfault.maps[i];
		if (map->state && map->gfn == gfn &&
		    (!end || map->state == KVM_USERFAULT_MAP_LOCAL))
			end = map;
	}
	if (end)
		kvm_userfault_map_set(end, KVM_USERFAULT_MAP_NONE);
}

/*
 * Look for host maps of absent pages in [@start, @end), and wait for those that
 * end soon.  Returns 0, -EBUSY with @busy lowered to the first page that stays in
 * use, or -EINTR.  A vCPU that waits for another page while it has this one mapped
 * must not be waited for: whoever is to fill that one may be the caller.
 */
int kvm_userfault_maps_busy(struct kvm *kvm, u32 as_id, gfn_t start, gfn_t end,
			    gfn_t *busy, bool killable)
{
	struct kvm_userfault_map *map;
	struct kvm_vcpu *vcpu;
	unsigned long i;
	bool again;
	u8 state;
	int nr, r = 0;

	if (!kvm_userfault_has_feature(kvm, KVM_USERFAULT_FEATURE_OWN |
				       KVM_USERFAULT_FEATURE_POISON))
		return 0;

	/* The bits, set by userspace, before the maps. */
	smp_mb();
	do {
		again = false;
		kvm_for_each_vcpu(i, vcpu, kvm) {
			for (nr = 0; nr < ARRAY_SIZE(vcpu->userfault.maps); nr++) {
				map = &vcpu->userfault.maps[nr];
				/* Pairs with kvm_userfault_map_set(). */
				state = smp_load_acquire(&map->state);
				if (!state ||
				    map->gfn < start || map->gfn >= end ||
				    (as_id != KVM_USERFAULT_AS_ALL && as_id != map->as_id) ||
				    kvm_userfault_look_again(kvm, map->as_id, map->gfn) ==
				    KVM_USERFAULT_PRESENT)
					continue;
				if (state == KVM_USERFAULT_MAP_TRIED ||
				    (state == KVM_USERFAULT_MAP_LOCAL &&
				     !READ_ONCE(vcpu->userfault.waits))) {
					again = true;
					continue;
				}
				*busy = min(*busy, map->gfn);
				r = -EBUSY;
			}
		}
		if (again) {
			if (kvm_userfault_interrupted(killable))
				return -EINTR;
			schedule_timeout_uninterruptible(1);
		}
	} while (again);

	return r;
}

/*
 * Pfn caches.
 */

/* With the cache's refresh_lock held, so nothing may wait in here. */
bool kvm_userfault_gpc_absent(struct kvm *kvm, const struct kvm_memory_slot *slot,
			      gpa_t gpa)
{
	enum kvm_userfault_page page;
	struct kvm_vcpu *vcpu;

	/* Caches of an HVA know of no page of the guest. */
	if (!slot || kvm_is_error_gpa(gpa) || !kvm_userfault_state(kvm))
		return false;

	page = kvm_userfault_own_page(kvm, slot, gpa_to_gfn(gpa));
	if (page == KVM_USERFAULT_PRESENT)
		return false;

	vcpu = kvm_userfault_loaded_vcpu(kvm);
	if (!vcpu)
		return true;
	/* Poison is not going to go away: nobody shall try again because of it. */
	if (page != KVM_USERFAULT_POISONED)
		vcpu->userfault.failed = true;
	else if (vcpu->userfault.mode)
		kvm_userfault_hit(vcpu, gpa_to_gfn(gpa),
				  kvm_userfault_own_flags(page, KVM_USERFAULT_WRITE));
	return true;
}

/*
 * Before a cache is looked up, where waiting is possible and a request of the
 * vCPU is not what asks for it: see to it that the page is there.
 */
void kvm_userfault_gpc_wait(struct kvm *kvm, const struct gfn_to_pfn_cache *gpc)
{
	gfn_t gfn = gpa_to_gfn(gpc->gpa);

	if (kvm_is_error_gpa(gpc->gpa) || !kvm_userfault_state(kvm))
		return;

	CLASS(kvm_userfault_access, access)(kvm, gfn_to_memslot(kvm, gfn), gfn,
					    KVM_USERFAULT_WRITE);
}

/*
 * Make the caches of [@start, @end), addresses of the host, look up their page again.
 * This is what an mmu_notifier does: a lookup that is under way notices by the
 * count or by the sequence.  Who uses a cache holds its lock, and is waited for.
 */
void kvm_userfault_drop_gpcs(struct kvm *kvm, unsigned long start, unsigned long end)
{
	bool wake;

	if (!kvm_userfault_has_feature(kvm, KVM_USERFAULT_FEATURE_OWN |
				       KVM_USERFAULT_FEATURE_POISON))
		return;

	spin_lock(&kvm->mn_invalidate_lock);
	kvm->mn_active_invalidate_count++;
	spin_unlock(&kvm->mn_invalidate_lock);

	gfn_to_pfn_cache_invalidate_start(kvm, start, end);

	spin_lock(&kvm->mn_invalidate_lock);
	kvm->gpc_invalidate_seq++;
	/* Pairs with smp_rmb() in mmu_notifier_retry_cache(). */
	smp_wmb();
	wake = !--kvm->mn_active_invalidate_count;
	spin_unlock(&kvm->mn_invalidate_lock);

	if (wake)
		rcuwait_wake_up(&kvm->mn_memslots_update_rcuwait);
}
