// SPDX-License-Identifier: GPL-2.0
/*
 * KVM Userfault on x86: the questions that the MMU asks, and mapping a page when
 * the guest is entered again.
 *
 * The decision and the level cap run in a vCPU's ioctl, with kvm->srcu held,
 * preemption and page faults enabled and no lock taken, and after
 * mmu_invalidate_seq was sampled.
 */
#include <linux/kvm_host.h>

#include "hyperv.h"
#include "lapic.h"
#include "mmu.h"
#include "mmu/userfault.h"
#include "userfault.h"
#include "x86.h"
#include "xen.h"

static u64 kvm_mmu_userfault_access(const struct kvm_page_fault *fault)
{
	u64 access;

	if (fault->write)
		access = KVM_MEMORY_EXIT_FLAG_WRITE;
	else if (fault->exec)
		access = KVM_MEMORY_EXIT_FLAG_EXEC;
	else
		access = KVM_MEMORY_EXIT_FLAG_READ;

	/*
	 * Two-dimensional paging tells the CPU's walk of the guest's tables from
	 * its final access; the error code of a plain #PF does not have the bit.
	 */
	if (fault->error_code & PFERR_GUEST_PAGE_MASK)
		access |= KVM_MEMORY_EXIT_FLAG_PAGE_WALK;

	return access;
}

int __kvm_mmu_userfault_check(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	enum kvm_userfault_page page;
	int r;

	if (kvm_userfault_poisoned(vcpu->kvm, fault->gfn, fault->gfn + 1)) {
		if (fault->prefetch)
			return -EHWPOISON;
		r = kvm_x86_userfault_poison_fault(vcpu, fault->slot, fault->gfn,
						   kvm_mmu_userfault_access(fault),
						   fault->is_private);
		return r ?: RET_PF_SPURIOUS;
	}
	if (!kvm_memslot_userfault_armed(fault->slot))
		return RET_PF_CONTINUE;

	page = kvm_userfault_test_gfn(vcpu->kvm, fault->slot, fault->gfn);
	if (page == KVM_USERFAULT_PRESENT)
		return RET_PF_CONTINUE;

	/*
	 * KVM_PRE_FAULT_MEMORY and the completion of an async page fault are
	 * not accesses: nobody reads vcpu->run afterwards, or it holds an exit
	 * that userspace has not looked at yet.
	 */
	if (fault->prefetch)
		return page == KVM_USERFAULT_ABSENT ? -EAGAIN : -EFAULT;

	r = kvm_userfault_vcpu_fault(vcpu, fault->slot, page, fault->gfn,
				     kvm_mmu_userfault_access(fault),
				     fault->is_private);
	/* To wait, and to map the page when there is reason to hope for it. */
	kvm_make_request(KVM_REQ_USERFAULT, vcpu);
	/* Not RETRY: some callers try again without looking at requests. */
	return r ?: RET_PF_SPURIOUS;
}

/* A walk of the guest's page tables was stopped; returns the result of its fault. */
int __kvm_mmu_userfault_walk_stopped(struct kvm_vcpu *vcpu)
{
	vcpu->userfault.restart = false;
	if (kvm_x86_userfault_poison_walk(vcpu))
		return RET_PF_SPURIOUS;
	kvm_make_request(KVM_REQ_USERFAULT, vcpu);
	return kvm_userfault_stop(vcpu) ?: RET_PF_SPURIOUS;
}

/*
 * The page of something that KVM shares with its guest is absent: wait for it
 * before the guest is entered, or exit, rather than to lose an update.  The caller
 * makes its own request again.
 */
bool kvm_x86_userfault_defer(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	if (!kvm_userfault_defer(vcpu, gpa, KVM_MEMORY_EXIT_FLAG_WRITE))
		return false;

	kvm_make_request(KVM_REQ_USERFAULT, vcpu);
	return true;
}

bool kvm_x86_userfault_defer_gpc(struct kvm_vcpu *vcpu,
				 const struct gfn_to_pfn_cache *gpc)
{
	/* Caches of an HVA know of no page of the guest. */
	return gpc->active && !kvm_is_error_gpa(gpc->gpa) &&
	       kvm_x86_userfault_defer(vcpu, gpc->gpa);
}

/* All that kvm_guest_time_update() writes to. */
bool kvm_x86_userfault_defer_clock(struct kvm_vcpu *vcpu)
{
	bool defer = kvm_x86_userfault_defer_gpc(vcpu, &vcpu->arch.pv_time);
#ifdef CONFIG_KVM_HYPERV
	struct kvm_hv *hv = to_kvm_hv(vcpu->kvm);

	if (hv->hv_tsc_page_status == HV_TSC_PAGE_GUEST_CHANGED ||
	    hv->hv_tsc_page_status == HV_TSC_PAGE_HOST_CHANGED)
		defer = defer || kvm_x86_userfault_defer(vcpu, hv->hv_tsc_page & PAGE_MASK);
#endif
#ifdef CONFIG_KVM_XEN
	defer = defer || kvm_x86_userfault_defer_gpc(vcpu, &vcpu->arch.xen.vcpu_info_cache) ||
		kvm_x86_userfault_defer_gpc(vcpu, &vcpu->arch.xen.vcpu_time_info_cache);
#endif
	if (defer)
		kvm_make_request(KVM_REQ_CLOCK_UPDATE, vcpu);
	return defer;
}

/*
 * The lookup failed.  If it did as the page has gone since it was asked for, what was
 * to be said once has to be said again.
 */
void kvm_x86_userfault_clock_lost(struct kvm_vcpu *vcpu, u8 pvclock_flags)
{
	if (!vcpu->userfault.failed)
		return;

	vcpu->userfault.failed = false;
	if (pvclock_flags & PVCLOCK_GUEST_STOPPED)
		vcpu->arch.pvclock_set_guest_stopped_request = true;
	kvm_make_request(KVM_REQ_CLOCK_UPDATE, vcpu);
}

bool kvm_x86_userfault_defer_steal_time(struct kvm_vcpu *vcpu)
{
	u64 steal = vcpu->arch.st.msr_val;
	bool defer;

#ifdef CONFIG_KVM_XEN
	if (kvm_xen_msr_enabled(vcpu->kvm))
		defer = kvm_x86_userfault_defer_gpc(vcpu, &vcpu->arch.xen.runstate_cache) ||
			kvm_x86_userfault_defer_gpc(vcpu, &vcpu->arch.xen.runstate2_cache);
	else
#endif
		defer = steal & KVM_MSR_ENABLED &&
			kvm_x86_userfault_defer(vcpu, steal & KVM_STEAL_VALID_BITS);
	if (defer)
		kvm_make_request(KVM_REQ_STEAL_UPDATE, vcpu);
	return defer;
}

/*
 * Ioctls.  They fail before they have changed anything, or say less than they could.
 */
static bool kvm_x86_userfault_absent(struct kvm_vcpu *vcpu, int as_id, gpa_t gpa)
{
	bool absent;
	int idx;

	idx = srcu_read_lock(&vcpu->kvm->srcu);
	absent = kvm_userfault_own_absent(vcpu->kvm, as_id, gpa);
	srcu_read_unlock(&vcpu->kvm->srcu, idx);
	return absent;
}

/*
 * KVM_SET_SREGS is going to load PDPTRs, in system management mode from that mode's
 * memslots.  Within KVM_RUN it can wait.
 */
bool kvm_x86_userfault_pdptrs_absent(struct kvm_vcpu *vcpu, const struct kvm_sregs *sregs)
{
	return !vcpu->userfault.mode &&
	       (sregs->cr0 & X86_CR0_PG) && (sregs->cr4 & X86_CR4_PAE) &&
	       !(sregs->efer & EFER_LMA) &&
	       kvm_x86_userfault_absent(vcpu, kvm_arch_vcpu_memslots_id(vcpu), sregs->cr3);
}

/* The VMM sets the MSR of a wall clock, which KVM writes outside of that mode's. */
bool kvm_x86_userfault_wall_clock_absent(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	return gpa && !vcpu->userfault.mode &&
	       (kvm_x86_userfault_absent(vcpu, 0, gpa) ||
		kvm_x86_userfault_absent(vcpu, 0, gpa + sizeof(struct pvclock_wall_clock) - 1));
}

/* Was an event channel of Xen not signalled as its page is absent? */
bool kvm_x86_userfault_evtchn_lost(struct kvm_vcpu *vcpu, int r)
{
#ifdef CONFIG_KVM_XEN
	const struct gfn_to_pfn_cache *gpc = &vcpu->kvm->arch.xen.shinfo_cache;

	/* Poison does not go away: trying again is of no use. */
	return r == -EFAULT && !kvm_is_error_gpa(gpc->gpa) &&
	       !kvm_userfault_poisoned(vcpu->kvm, gpa_to_gfn(gpc->gpa),
				       gpa_to_gfn(gpc->gpa) + 1) &&
	       kvm_x86_userfault_absent(vcpu, 0, gpc->gpa);
#else
	return false;
#endif
}

/*
 * The hypercall page of Hyper-V is written with a mutex held that the clocks of
 * all vCPUs need; so wait for it before.
 */
void kvm_x86_userfault_hv_msr(struct kvm_vcpu *vcpu, u32 msr, u64 data)
{
	if (msr != HV_X64_MSR_HYPERCALL || !(data & HV_X64_MSR_HYPERCALL_ENABLE))
		return;

	CLASS(kvm_userfault_access_gfn, access)
		(vcpu, data >> HV_X64_MSR_HYPERCALL_PAGE_ADDRESS_SHIFT, KVM_USERFAULT_WRITE);
}

/*
 * Before the guest is entered again: map the page that it was waiting for, if
 * userspace has filled it.  The guest would fault once more otherwise.
 *
 * This is one attempt, and a silent one, whatever comes of it: the guest's own
 * access will find out.  Userspace had the vCPU in between, so nothing is taken
 * for granted that it may have changed; page tables of the guest, or of its
 * hypervisor, are not followed to find out what is still wanted.
 */
static void kvm_x86_userfault_map(struct kvm_vcpu *vcpu)
{
	const struct kvm_vcpu_userfault *wanted = &vcpu->userfault;
	u32 exit_reason = vcpu->run->exit_reason;
	u64 error_code = PFERR_GUEST_FINAL_MASK;
	gpa_t gpa = gfn_to_gpa(wanted->gfn);

	/* KVM's own accesses need no mapping. */
	if (wanted->flags & KVM_MEMORY_EXIT_FLAG_OWN)
		return;

	if (!tdp_enabled || is_guest_mode(vcpu) ||
	    wanted->as_id != kvm_arch_vcpu_memslots_id(vcpu))
		return;

	/* A read alone would map, say, the zero page, and that read-only. */
	if (wanted->flags & KVM_MEMORY_EXIT_FLAG_WRITE)
		error_code |= PFERR_WRITE_MASK;
	if (wanted->flags & KVM_MEMORY_EXIT_FLAG_EXEC)
		error_code |= PFERR_FETCH_MASK;

	if (kvm_arch_has_private_mem(vcpu->kvm) &&
	    kvm_mem_is_private(vcpu->kvm, wanted->gfn))
		error_code |= PFERR_PRIVATE_ACCESS;
	else
		gpa |= gfn_to_gpa(kvm_gfn_direct_bits(vcpu->kvm));

	if (kvm_mmu_reload(vcpu))
		return;

	if (kvm_mmu_do_page_fault(vcpu, gpa, error_code, true, NULL, NULL) ==
	    RET_PF_FIXED)
		vcpu->stat.pf_fixed++;

	/* A failure may have prepared an exit, which is not going to happen. */
	vcpu->run->exit_reason = exit_reason;
}

/*
 * KVM_REQ_USERFAULT, right before the guest is entered.  Returns 1 if it may be,
 * 0 or -errno to leave KVM_RUN.
 */
int kvm_x86_userfault_request(struct kvm_vcpu *vcpu)
{
	bool hv_timer;
	int r;

	if (vcpu->userfault.wait) {
		vcpu->userfault.wait = false;

		/* As when a vCPU blocks: the guest's own timer does not run. */
		hv_timer = kvm_lapic_hv_timer_in_use(vcpu);
		if (hv_timer)
			kvm_lapic_switch_to_sw_timer(vcpu);

		/* For seconds, maybe, while memslots have to be changed. */
		kvm_vcpu_srcu_read_unlock(vcpu);
		r = kvm_userfault_vcpu_wait(vcpu);
		kvm_vcpu_srcu_read_lock(vcpu);

		if (hv_timer)
			kvm_lapic_switch_to_hv_timer(vcpu);
		if (r == -EINTR)
			kvm_handle_signal_exit(vcpu);
		if (r <= 0)
			return r;
	}

	kvm_x86_userfault_map(vcpu);
	return 1;
}

/*
 * Nothing that holds a poisoned page.  And if the memslot is armed, at most 2M, and that
 * only if all of its pages are there: asking for 1G would mean to read 32 KiB of bitmap
 * on every fault.
 */
void __kvm_mmu_userfault_cap_level(struct kvm_vcpu *vcpu,
				   struct kvm_page_fault *fault)
{
	gfn_t span = KVM_PAGES_PER_HPAGE(PG_LEVEL_2M);
	gfn_t start = ALIGN_DOWN(fault->gfn, span);
	u8 level = PG_LEVEL_4K;

	if (fault->max_level == PG_LEVEL_4K ||
	    kvm_slot_dirty_track_enabled(fault->slot))
		return;

	while (fault->max_level > PG_LEVEL_4K &&
	       kvm_mmu_userfault_poisoned_span(vcpu->kvm, fault->gfn, fault->max_level))
		fault->max_level--;

	if (fault->max_level == PG_LEVEL_4K || !kvm_memslot_userfault_armed(fault->slot))
		return;

	/* A span that the slot does not cover is never mapped by one entry. */
	if (start >= fault->slot->base_gfn &&
	    start + span <= fault->slot->base_gfn + fault->slot->npages &&
	    kvm_userfault_range_present(vcpu->kvm, fault->slot, start, start + span))
		level = PG_LEVEL_2M;

	fault->max_level = min(fault->max_level, level);
}

/* Requests that being scheduled in makes; they can wait as long as the guest does. */
#define KVM_X86_USERFAULT_IDLE_REQUESTS					\
	(BIT_ULL(KVM_REQ_STEAL_UPDATE & KVM_REQUEST_MASK) |		\
	 BIT_ULL(KVM_REQ_MIGRATE_TIMER & KVM_REQUEST_MASK) |		\
	 BIT_ULL(KVM_REQ_CLOCK_UPDATE & KVM_REQUEST_MASK) |		\
	 BIT_ULL(KVM_REQ_GLOBAL_CLOCK_UPDATE & KVM_REQUEST_MASK) |	\
	 BIT_ULL(KVM_REQ_PMU & KVM_REQUEST_MASK))

/* Is there something that needs the guest to be entered, page or no page? */
bool kvm_arch_userfault_disturbed(struct kvm_vcpu *vcpu)
{
	u64 requests = READ_ONCE(vcpu->requests) & ~KVM_X86_USERFAULT_IDLE_REQUESTS;

	/*
	 * An event whose delivery needs the page cannot be delivered now, and
	 * none can before it; each attempt makes KVM_REQ_EVENT once more.  What a
	 * protected guest has in delivery KVM does not know.
	 */
	if (kvm_event_needs_reinjection(vcpu) || vcpu->arch.guest_state_protected)
		return requests & ~BIT_ULL(KVM_REQ_EVENT & KVM_REQUEST_MASK);

	/* Posted interrupts wake the task, but make no request. */
	return requests || kvm_arch_dy_has_pending_interrupt(vcpu);
}

/*
 * Dropping a private page of a TD destroys its content, and userspace has no
 * means to fill it again.  Such a memslot is armed when it is created, or not.
 */
bool kvm_arch_userfault_can_drop(struct kvm *kvm)
{
	return !kvm_has_mirrored_tdp(kvm);
}

void kvm_arch_userfault_disabled(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	/* While the dirty log is on, mappings are 4K; it going off does the same. */
	if (!kvm_slot_dirty_track_enabled(slot))
		kvm_mmu_recover_huge_pages(kvm, slot);
}
