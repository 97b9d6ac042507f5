// SPDX-License-Identifier: GPL-2.0
/*
 * System registers, with the page directory pointers, so that KVM need not read them
 * from memory.  A vCPU that is in a guest of the guest's is refused.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "abi.h"
#include "state.h"

#define NESTED_MAX	(64u << 10)

/*
 * Between two runs of its guests a hypervisor that uses SVM has nothing but MSRs in KVM,
 * if interrupts reach it; with VMX it has more from VMXON on.
 */
static bool is_nested(const struct kvm_nested_state *nested)
{
	if (nested->flags & (KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING))
		return true;
	if (nested->format == KVM_STATE_NESTED_FORMAT_SVM)
		return !(nested->flags & KVM_STATE_NESTED_GIF_SET);
	return nested->hdr.vmx.vmxon_pa != ~0ull;
}

static int refuse_nested(struct machine *m, u32 cpu)
{
	struct kvm_nested_state *nested;
	int err = 0;

	/* Also when the guest is not offered SVM or VMX. */
	if (ioctl(m->vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE) <= 0)
		return 0;
	nested = calloc(1, NESTED_MAX);
	if (!nested)
		return kuf_error(-ENOMEM, "nested state");
	nested->size = NESTED_MAX;
	if (ioctl(m->vm.vcpus[cpu].fd, KVM_GET_NESTED_STATE, nested))
		err = kuf_error(-errno, "getting nested state of vCPU %u", cpu);
	else if (is_nested(nested))
		err = kuf_error(-EOPNOTSUPP, "vCPU %u runs a guest of its own: cannot be saved",
				cpu);
	free(nested);
	return err;
}

static int save(struct machine *m, u32 cpu, void *data)
{
	int err = refuse_nested(m, cpu);

	if (err)
		return err;
	if (ioctl(m->vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_SREGS2) <= 0)
		return kuf_error(-EOPNOTSUPP, "this kernel has no KVM_GET_SREGS2 (Linux 5.14)");
	if (ioctl(m->vm.vcpus[cpu].fd, KVM_GET_SREGS2, data))
		return kuf_error(-errno, "getting system registers of vCPU %u", cpu);
	return sizeof(struct kvm_sregs2);
}

static int load(struct machine *m, u32 cpu, const void *data, u32 length)
{
	struct kvm_sregs2 sregs;

	memcpy(&sregs, data, sizeof(sregs));
	if (ioctl(m->vm.vcpus[cpu].fd, KVM_SET_SREGS2, &sregs))
		return kuf_error(-errno, "setting system registers of vCPU %u", cpu);
	return 0;
}

const struct state_group state_sregs = {
	.type = STATE_SREGS, .version = 1, .name = "system registers", .per_vcpu = true,
	.min = sizeof(struct kvm_sregs2), .max = sizeof(struct kvm_sregs2),
	.save = save, .load = load,
};
