/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __KVM_X86_USERFAULT_H
#define __KVM_X86_USERFAULT_H

/* Hooks of the vCPU loop; those of the MMU are in mmu/userfault.h. */

#include <linux/kvm_host.h>

#ifdef CONFIG_KVM_USERFAULT

/* Numbered from the top, as KVM numbers its own from the bottom. */
#define KVM_REQ_USERFAULT_MAP	KVM_ARCH_REQ(55)

void kvm_x86_userfault_map(struct kvm_vcpu *vcpu);

/* Requests, before the guest is entered. */
static inline void kvm_x86_userfault_requests(struct kvm_vcpu *vcpu)
{
	if (kvm_check_request(KVM_REQ_USERFAULT_MAP, vcpu))
		kvm_x86_userfault_map(vcpu);
}

#else

static inline void kvm_x86_userfault_requests(struct kvm_vcpu *vcpu)
{
}

#endif /* CONFIG_KVM_USERFAULT */

#endif /* __KVM_X86_USERFAULT_H */
