/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pages that are declared poisoned, and what their use leads to.
 */
#ifndef SELFTEST_KVM_USERFAULT_POISON_H
#define SELFTEST_KVM_USERFAULT_POISON_H

#include <linux/kvm_userfault.h>

#include "kvm_util.h"

/* KVM_USERFAULT_POISON with these flags; all of it is done. */
void userfault_poison(struct kvm_vm *vm, gpa_t gpa, u64 size, u64 flags);
int __userfault_poison(struct kvm_vm *vm, gpa_t gpa, u64 size, u64 flags);

/* KVM_USERFAULT_INJECT; its result. */
u32 userfault_inject(struct kvm_vcpu *vcpu, gpa_t gpa, u64 access, u32 flags);
int __userfault_inject(struct kvm_vcpu *vcpu, gpa_t gpa, u64 access, u32 flags, u32 *result);

/* READ, WRITE, EXEC and PAGE_WALK of the exit. */
u64 vcpu_fault_access(struct kvm_vcpu *vcpu);

/*
 * Assert that KVM_RUN, which returned @ret, ended as poison was hit at @gpa.  Of a
 * walk of the page tables whether it reads or writes is not looked at.
 */
void userfault_assert_poison_exit(struct kvm_vcpu *vcpu, int ret, gpa_t gpa, u64 access,
				  bool own);

/* Machine checks with all that KVM offers on this host, and @banks banks. */
void userfault_setup_mce(struct kvm_vcpu *vcpu, unsigned int banks);

#endif /* SELFTEST_KVM_USERFAULT_POISON_H */
