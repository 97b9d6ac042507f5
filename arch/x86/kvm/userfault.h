/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __KVM_X86_USERFAULT_H
#define __KVM_X86_USERFAULT_H

/* Hooks of the vCPU loop; those of the MMU are in mmu/userfault.h. */

#include <linux/kvm_host.h>

#ifdef CONFIG_KVM_USERFAULT

/* Numbered from the top, as KVM numbers its own from the bottom. */
#define KVM_REQ_USERFAULT	KVM_ARCH_REQ(55)

int kvm_x86_userfault_request(struct kvm_vcpu *vcpu);

/* Requests, before the guest is entered.  True: return @r from there instead. */
static inline bool kvm_x86_userfault_requests(struct kvm_vcpu *vcpu, int *r)
{
	if (!kvm_check_request(KVM_REQ_USERFAULT, vcpu))
		return false;

	*r = kvm_x86_userfault_request(vcpu);
	return *r <= 0;
}

#else

static inline bool kvm_x86_userfault_requests(struct kvm_vcpu *vcpu, int *r)
{
	return false;
}

#endif /* CONFIG_KVM_USERFAULT */

#endif /* __KVM_X86_USERFAULT_H */
