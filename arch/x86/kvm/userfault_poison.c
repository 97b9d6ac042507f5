// SPDX-License-Identifier: GPL-2.0
/*
 * KVM Userfault on x86: what becomes of an access to poison.
 *
 * The guest's own access leaves KVM_RUN with EHWPOISON, or makes KVM queue a machine
 * check.  An access of KVM's own just fails where it is; see to it here that nobody
 * takes that for memory that is not there, and makes MMIO, a #PF, a #GP or an internal
 * error of it.  What the guest's instruction caused has not happened then: registers are
 * those from before it, and exceptions that came of the failure are taken back.
 */
#include <linux/kvm_host.h>

#include "cpuid.h"
#include "kvm_emulate.h"
#include "mmu.h"
#include "userfault.h"
#include "userfault_mce.h"
#include "x86.h"

static int kvm_x86_userfault_choose(struct kvm_vcpu *vcpu, u64 gpa, u64 access, bool force,
				    struct kvm_userfault_mce *mce)
{
	const struct kvm_userfault_mce_state s = {
		.gpa = gpa,
		.access = access,
		.intel = guest_cpuid_is_intel_compatible(vcpu),
		.protected_state = vcpu->arch.guest_state_protected,
		.nr_vcpus = atomic_read(&vcpu->kvm->online_vcpus),
		.mcg_cap = vcpu->arch.mcg_cap,
		.mcg_ctl = vcpu->arch.mcg_ctl,
		.mcg_ext_ctl = vcpu->arch.mcg_ext_ctl,
		.mcg_status = vcpu->arch.mcg_status,
		.banks = vcpu->arch.mce_banks,
		.cr4_mce = kvm_is_cr4_bit_set(vcpu, X86_CR4_MCE),
		.reinjects = kvm_event_needs_reinjection(vcpu) ||
			     vcpu->arch.exception.pending ||
			     vcpu->arch.exception_vmexit.pending,
		.force = force,
	};

	return kvm_userfault_choose_mce(&s, mce);
}

static void kvm_x86_userfault_queue(struct kvm_vcpu *vcpu, const struct kvm_userfault_mce *mce,
				    struct kvm_userfault_inject *inject)
{
	u64 *bank = vcpu->arch.mce_banks + 4 * mce->bank;

	if (mce->shutdown) {
		kvm_make_request(KVM_REQ_TRIPLE_FAULT, vcpu);
		inject->result = KVM_USERFAULT_INJECT_SHUTDOWN;
		return;
	}

	bank[1] = mce->status;
	bank[2] = mce->addr;
	bank[3] = mce->misc;
	vcpu->arch.mcg_status = mce->mcg_status;
	kvm_queue_exception(vcpu, MC_VECTOR);
	inject->result = is_guest_mode(vcpu) && vcpu->arch.exception_vmexit.pending ?
			 KVM_USERFAULT_INJECT_NESTED_EXIT : KVM_USERFAULT_INJECT_QUEUED;
}

/* KVM_USERFAULT_INJECT, with the vCPU's mutex held. */
int kvm_arch_userfault_inject(struct kvm_vcpu *vcpu, struct kvm_userfault_inject *inject)
{
	bool force = inject->flags & KVM_USERFAULT_INJECT_FORCE;
	struct kvm_userfault_mce mce;
	int r;

	vcpu_load(vcpu);
	r = kvm_x86_userfault_choose(vcpu, inject->gpa, inject->access, force, &mce);
	if (!r) {
		if (force) {
			kvm_clear_exception_queue(vcpu);
			kvm_clear_interrupt_queue(vcpu);
			vcpu->arch.nmi_injected = false;
		}
		kvm_x86_userfault_queue(vcpu, &mce, inject);
	}
	vcpu_put(vcpu);
	return r;
}

/*
 * KVM_USERFAULT_FEATURE_POISON_INJECT: the same without userspace, in KVM_RUN.  False:
 * userspace has to decide.  A shutdown is one of its decisions.
 */
static bool kvm_x86_userfault_try_inject(struct kvm_vcpu *vcpu, gfn_t gfn, u64 flags)
{
	struct kvm_userfault_inject inject = {};
	struct kvm_userfault_mce mce;

	if (!kvm_userfault_injects(vcpu->kvm))
		return false;
	if (kvm_x86_userfault_choose(vcpu, gfn_to_gpa(gfn), flags, false, &mce) || mce.shutdown)
		return false;

	kvm_x86_userfault_queue(vcpu, &mce, &inject);
	vcpu->stat.generic.userfault_poison_hits++;
	return true;
}

/* The guest's access, by a page fault that is not a prefetch. */
int kvm_x86_userfault_poison_fault(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
				   gfn_t gfn, u64 access, bool is_private)
{
	/* Queued: the guest is not entered without it, so nothing loops here. */
	if (kvm_x86_userfault_try_inject(vcpu, gfn, access))
		return 0;
	return kvm_userfault_vcpu_fault(vcpu, slot, KVM_USERFAULT_POISONED, gfn, access,
					is_private);
}

/* The walk of the guest's tables before it: true if the machine check is queued. */
bool kvm_x86_userfault_poison_walk(struct kvm_vcpu *vcpu)
{
	return vcpu->userfault.flags & KVM_MEMORY_EXIT_FLAG_POISON &&
	       kvm_x86_userfault_try_inject(vcpu, vcpu->userfault.gfn, vcpu->userfault.flags);
}

/*
 * Emulation.  Hits from before it, of updates that KVM made on its own, are not the
 * instruction's.
 */
bool __kvm_x86_userfault_emulate_stopped(struct kvm_vcpu *vcpu)
{
	vcpu->userfault.emul_stopped = true;
	/* Half of it may have been found to be MMIO, or come from a port. */
	vcpu->mmio_needed = 0;
	vcpu->mmio_read_completed = 0;
	vcpu->mmio_nr_fragments = 0;
	vcpu->arch.pio.count = 0;
	vcpu->arch.complete_userspace_io = NULL;
	/* Nor does what it made of registers count, which KVM_GET_REGS would take over. */
	vcpu->arch.emulate_regs_need_sync_to_vcpu = false;
	emulator_invalidate_register_cache(vcpu->arch.emulate_ctxt);
	return true;
}

/*
 * The CPU could not enter SMM.  If that was because of poison, as in SMRAM, it shuts
 * down, as hardware would; KVM takes everything else as the end of the VM.
 */
bool kvm_x86_userfault_smm_failed(struct kvm_vcpu *vcpu)
{
	if (!kvm_x86_userfault_emulate_hit(vcpu))
		return false;

	kvm_make_request(KVM_REQ_TRIPLE_FAULT, vcpu);
	return true;
}

/* Of an instruction that could not have what it wanted. */
static bool kvm_x86_userfault_drop_fault(struct kvm_vcpu *vcpu, struct kvm_queued_exception *ex)
{
	if (!ex->pending)
		return false;

	switch (ex->vector) {
	case UD_VECTOR:
	case TS_VECTOR:
	case NP_VECTOR:
	case SS_VECTOR:
	case GP_VECTOR:
	case PF_VECTOR:
		ex->pending = false;
		return true;
	default:
		return false;
	}
}

/*
 * An access of KVM's own has hit poison by the time that vcpu_enter_guest() or
 * vcpu_block() returned @r.  Returns what to go on with instead.
 */
int __kvm_x86_userfault_ran(struct kvm_vcpu *vcpu, int r)
{
	bool guests = vcpu->userfault.hits != vcpu->userfault.other_hits;
	u32 reason = vcpu->run->exit_reason;
	bool stopped = vcpu->userfault.emul_stopped;
	/* A shutdown has to get through some time, whatever each KVM_RUN hits before it. */
	bool failed = !r && guests && (reason == KVM_EXIT_INTERNAL_ERROR ||
				       reason == KVM_EXIT_FAIL_ENTRY ||
				       (reason == KVM_EXIT_SHUTDOWN &&
					!kvm_userfault_told(vcpu, vcpu->userfault.hit_gfn)));

	vcpu->userfault.other_hits = vcpu->userfault.hits;
	vcpu->userfault.emul_stopped = false;

	/* An exit for another reason must not get lost: this one comes after it. */
	if (r < 0 || (!r && !stopped && !failed))
		return r;

	/* Nor a shutdown, even if it came of this. */
	if (failed && reason == KVM_EXIT_SHUTDOWN)
		kvm_make_request(KVM_REQ_TRIPLE_FAULT, vcpu);

	if (r && guests) {
		stopped |= kvm_x86_userfault_drop_fault(vcpu, &vcpu->arch.exception);
		stopped |= kvm_x86_userfault_drop_fault(vcpu, &vcpu->arch.exception_vmexit);
	}
	if (!kvm_userfault_take_hit(vcpu, stopped,
				    failed || kvm_test_request(KVM_REQ_TRIPLE_FAULT, vcpu)))
		return r;

	if (stopped && kvm_x86_userfault_try_inject(vcpu, vcpu->userfault.hit_gfn,
						    vcpu->userfault.hit_flags))
		return 1;
	return kvm_userfault_report_hit(vcpu);
}
