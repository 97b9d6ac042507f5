// SPDX-License-Identifier: GPL-2.0
/*
 * FPU and vector registers: as much as KVM says that it has of them.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "abi.h"
#include "state.h"

#define XSAVE_MAX	(64u << 10)

/* Bytes; 4 KiB where there is no KVM_GET_XSAVE2. */
static int size_of(struct machine *m)
{
	int size = ioctl(m->vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	return size > (int)sizeof(struct kvm_xsave) ? size : (int)sizeof(struct kvm_xsave);
}

static int save(struct machine *m, u32 cpu, void *data)
{
	int size = size_of(m);
	bool big = ioctl(m->vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) > 0;

	if (size > (int)XSAVE_MAX)
		return kuf_error(-E2BIG, "%d bytes of XSAVE state", size);
	if (ioctl(m->vm.vcpus[cpu].fd, big ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, data))
		return kuf_error(-errno, "getting XSAVE state of vCPU %u", cpu);
	return size;
}

static int load(struct machine *m, u32 cpu, const void *data, u32 length)
{
	u8 copy[XSAVE_MAX] __attribute__((aligned(64)));

	if ((int)length != size_of(m))
		return kuf_error(0, "%u bytes of XSAVE state, where this host has %d", length,
				 size_of(m));
	memcpy(copy, data, length);
	if (ioctl(m->vm.vcpus[cpu].fd, KVM_SET_XSAVE, copy))
		return kuf_error(-errno, "setting XSAVE state of vCPU %u", cpu);
	return 0;
}

const struct state_group state_xsave = {
	.type = STATE_XSAVE, .version = 1, .name = "XSAVE state", .per_vcpu = true,
	.min = sizeof(struct kvm_xsave), .max = XSAVE_MAX, .save = save, .load = load,
};
