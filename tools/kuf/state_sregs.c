// SPDX-License-Identifier: GPL-2.0
/*
 * System registers, with the page directory pointers, so that KVM need not read them
 * from memory.  A guest that is itself a hypervisor is refused: what KVM keeps for
 * it is in other places as well.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "abi.h"
#include "state.h"

#define CR4_VMXE	BIT_ULL(13)
#define EFER_SVME	BIT_ULL(12)

static int save(struct machine *m, u32 cpu, void *data)
{
	struct kvm_sregs2 *sregs = data;

	if (ioctl(m->vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_SREGS2) <= 0)
		return kuf_error(-EOPNOTSUPP, "this kernel has no KVM_GET_SREGS2 (Linux 5.14)");
	if (ioctl(m->vm.vcpus[cpu].fd, KVM_GET_SREGS2, sregs))
		return kuf_error(-errno, "getting system registers of vCPU %u", cpu);
	if (sregs->efer & EFER_SVME || sregs->cr4 & CR4_VMXE)
		return kuf_error(-EOPNOTSUPP, "vCPU %u runs a hypervisor (SVM or VMX is on), which cannot be saved",
				 cpu);
	return sizeof(*sregs);
}

static int load(struct machine *m, u32 cpu, const void *data, u32 length)
{
	struct kvm_sregs2 sregs;

	memcpy(&sregs, data, sizeof(sregs));
	if (sregs.efer & EFER_SVME || sregs.cr4 & CR4_VMXE)
		return kuf_error(-EOPNOTSUPP, "vCPU %u ran a hypervisor", cpu);
	if (ioctl(m->vm.vcpus[cpu].fd, KVM_SET_SREGS2, &sregs))
		return kuf_error(-errno, "setting system registers of vCPU %u", cpu);
	return 0;
}

const struct state_group state_sregs = {
	.type = STATE_SREGS, .version = 1, .name = "system registers", .per_vcpu = true,
	.min = sizeof(struct kvm_sregs2), .max = sizeof(struct kvm_sregs2),
	.save = save, .load = load,
};
