// SPDX-License-Identifier: GPL-2.0
/*
 * Registers of a vCPU that KVM has an ioctl each for, to get and to set.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "abi.h"
#include "state.h"

#define REGS_MAX	sizeof(struct kvm_lapic_state)

int state_ioctl_save(const struct state_group *g, struct machine *m, u32 cpu, void *data)
{
	if (ioctl(m->vm.vcpus[cpu].fd, g->get, data) < 0)
		return kuf_error(-errno, "getting the %s of vCPU %u", g->name, cpu);
	return g->max;
}

int state_ioctl_load(const struct state_group *g, struct machine *m, u32 cpu, const void *data)
{
	u64 copy[REGS_MAX / sizeof(u64)];

	if (g->max > sizeof(copy))
		return kuf_error(-E2BIG, "the %s", g->name);
	/* In the file they are not aligned. */
	memcpy(copy, data, g->max);
	if (ioctl(m->vm.vcpus[cpu].fd, g->set, copy) < 0)
		return kuf_error(-errno, "setting the %s of vCPU %u", g->name, cpu);
	return 0;
}

const struct state_group state_regs = {
	.type = STATE_REGS, .version = 1, .name = "registers", .per_vcpu = true,
	.min = sizeof(struct kvm_regs), .max = sizeof(struct kvm_regs),
	.get = KVM_GET_REGS, .set = KVM_SET_REGS,
};

const struct state_group state_xcrs = {
	.type = STATE_XCRS, .version = 1, .name = "XCRs", .per_vcpu = true,
	.min = sizeof(struct kvm_xcrs), .max = sizeof(struct kvm_xcrs),
	.get = KVM_GET_XCRS, .set = KVM_SET_XCRS,
};

const struct state_group state_events = {
	.type = STATE_EVENTS, .version = 1, .name = "events", .per_vcpu = true,
	.min = sizeof(struct kvm_vcpu_events), .max = sizeof(struct kvm_vcpu_events),
	.get = KVM_GET_VCPU_EVENTS, .set = KVM_SET_VCPU_EVENTS,
};

const struct state_group state_mp = {
	.type = STATE_MP, .version = 1, .name = "MP state", .per_vcpu = true,
	.min = sizeof(struct kvm_mp_state), .max = sizeof(struct kvm_mp_state),
	.get = KVM_GET_MP_STATE, .set = KVM_SET_MP_STATE,
};

const struct state_group state_debug = {
	.type = STATE_DEBUG, .version = 1, .name = "debug registers", .per_vcpu = true,
	.min = sizeof(struct kvm_debugregs), .max = sizeof(struct kvm_debugregs),
	.get = KVM_GET_DEBUGREGS, .set = KVM_SET_DEBUGREGS,
};

const struct state_group state_lapic = {
	.type = STATE_LAPIC, .version = 1, .name = "local APIC", .per_vcpu = true,
	.min = sizeof(struct kvm_lapic_state), .max = sizeof(struct kvm_lapic_state),
	.get = KVM_GET_LAPIC, .set = KVM_SET_LAPIC,
};
