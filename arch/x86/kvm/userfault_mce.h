/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __KVM_X86_USERFAULT_MCE_H
#define __KVM_X86_USERFAULT_MCE_H

#include <linux/types.h>

/*
 * Which machine check a vCPU is to see when it accesses poison: a function of what
 * is in here, and of nothing else, so that all cases can be tried outside of KVM.
 */
struct kvm_userfault_mce_state {
	u64 gpa;
	u64 access;		/* KVM_MEMORY_EXIT_FLAG_READ, WRITE, EXEC, PAGE_WALK */

	bool intel;		/* by the guest's CPUID; AMD's rules otherwise */
	bool protected_state;	/* nobody can queue an exception */
	unsigned int nr_vcpus;	/* of the VM: who shares memory shares the error */

	u64 mcg_cap;
	u64 mcg_ctl;
	u64 mcg_ext_ctl;
	u64 mcg_status;
	const u64 *banks;	/* CTL, STATUS, ADDR, MISC of each */
	bool cr4_mce;

	bool reinjects;		/* an event is in the middle of its delivery */
	bool force;		/* then lose it, and say that there is no way back */
};

/* What to do. */
struct kvm_userfault_mce {
	bool shutdown;		/* nothing else then */
	unsigned int bank;
	u64 status, addr, misc;
	u64 mcg_status;
};

/*
 * EBUSY: an event is in delivery.  ENODEV: a bank or a control would swallow it.
 * EOPNOTSUPP: this vCPU alone cannot be told.
 */
int kvm_userfault_choose_mce(const struct kvm_userfault_mce_state *s,
			     struct kvm_userfault_mce *mce);

#endif /* __KVM_X86_USERFAULT_MCE_H */
