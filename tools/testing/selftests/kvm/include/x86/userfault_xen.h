/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What userfault's tests have of a Xen guest: shared_info and an event channel.
 */
#ifndef SELFTEST_KVM_USERFAULT_XEN_H
#define SELFTEST_KVM_USERFAULT_XEN_H

#include "kvm_util.h"

#define USERFAULT_XEN_MSR	0x40000000
/* The only port, and its bit in that word of the pending ones. */
#define USERFAULT_XEN_PORT	70
#define USERFAULT_XEN_WORD	(USERFAULT_XEN_PORT / 64)
#define USERFAULT_XEN_EVENT	BIT_ULL(USERFAULT_XEN_PORT % 64)

/* In 64-bit mode. */
static inline void userfault_xen_enable(struct kvm_vm *vm)
{
	struct kvm_xen_hvm_config config = {
		.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL |
			 KVM_XEN_HVM_CONFIG_EVTCHN_SEND,
		.msr = USERFAULT_XEN_MSR,
	};
	struct kvm_xen_hvm_attr attr = {
		.type = KVM_XEN_ATTR_TYPE_LONG_MODE,
		.u.long_mode = 1,
	};

	vm_ioctl(vm, KVM_XEN_HVM_CONFIG, &config);
	vm_ioctl(vm, KVM_XEN_HVM_SET_ATTR, &attr);
}

static inline int __userfault_xen_set_shinfo(struct kvm_vm *vm, u64 gfn)
{
	struct kvm_xen_hvm_attr attr = {
		.type = KVM_XEN_ATTR_TYPE_SHARED_INFO,
		.u.shared_info.gfn = gfn,
	};

	return __vm_ioctl(vm, KVM_XEN_HVM_SET_ATTR, &attr);
}

static inline void userfault_xen_set_shinfo(struct kvm_vm *vm, u64 gfn)
{
	int r = __userfault_xen_set_shinfo(vm, gfn);

	TEST_ASSERT(!r, KVM_IOCTL_ERROR(KVM_XEN_HVM_SET_ATTR, r));
}

/* An event on that port, for that vCPU. */
static inline int __userfault_xen_send(struct kvm_vcpu *vcpu)
{
	struct kvm_irq_routing_xen_evtchn e = {
		.port = USERFAULT_XEN_PORT,
		.vcpu = vcpu->id,
		.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL,
	};

	return __vm_ioctl(vcpu->vm, KVM_XEN_HVM_EVTCHN_SEND, &e);
}

static inline void userfault_xen_send(struct kvm_vcpu *vcpu)
{
	int r = __userfault_xen_send(vcpu);

	TEST_ASSERT(!r, KVM_IOCTL_ERROR(KVM_XEN_HVM_EVTCHN_SEND, r));
}

#endif /* SELFTEST_KVM_USERFAULT_XEN_H */
