// SPDX-License-Identifier: GPL-2.0
/*
 * Registers of a vCPU that KVM has an ioctl each for.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "abi.h"
#include "state.h"

static int get(struct machine *m, u32 cpu, unsigned long request, void *data, u32 size,
	       const char *name)
{
	if (ioctl(m->vm.vcpus[cpu].fd, request, data) < 0)
		return kuf_error(-errno, "getting %s of vCPU %u", name, cpu);
	return size;
}

static int set(struct machine *m, u32 cpu, unsigned long request, const void *data,
	       const char *name)
{
	if (ioctl(m->vm.vcpus[cpu].fd, request, data) < 0)
		return kuf_error(-errno, "setting %s of vCPU %u", name, cpu);
	return 0;
}

#define GROUP(id, struct_name, type_id, title, get_request, set_request)		\
static int save_##id(struct machine *m, u32 cpu, void *data)				\
{											\
	return get(m, cpu, get_request, data, sizeof(struct struct_name), title);	\
}											\
											\
static int load_##id(struct machine *m, u32 cpu, const void *data, u32 length)		\
{											\
	struct struct_name copy;							\
											\
	memcpy(&copy, data, sizeof(copy));						\
	return set(m, cpu, set_request, &copy, title);					\
}											\
											\
const struct state_group state_##id = {							\
	.type = type_id, .version = 1, .name = title, .per_vcpu = true,			\
	.min = sizeof(struct struct_name), .max = sizeof(struct struct_name),		\
	.save = save_##id, .load = load_##id,						\
}

GROUP(regs, kvm_regs, STATE_REGS, "registers", KVM_GET_REGS, KVM_SET_REGS);
GROUP(xcrs, kvm_xcrs, STATE_XCRS, "XCRs", KVM_GET_XCRS, KVM_SET_XCRS);
GROUP(events, kvm_vcpu_events, STATE_EVENTS, "events", KVM_GET_VCPU_EVENTS,
      KVM_SET_VCPU_EVENTS);
GROUP(mp, kvm_mp_state, STATE_MP, "MP state", KVM_GET_MP_STATE, KVM_SET_MP_STATE);
GROUP(debug, kvm_debugregs, STATE_DEBUG, "debug registers", KVM_GET_DEBUGREGS,
      KVM_SET_DEBUGREGS);
/*
 * The timer's count goes on from what it was: until the vCPU runs, KVM has a timer that
 * the guest does not notice.
 */
GROUP(lapic, kvm_lapic_state, STATE_LAPIC, "local APIC", KVM_GET_LAPIC, KVM_SET_LAPIC);
