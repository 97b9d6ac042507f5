// SPDX-License-Identifier: GPL-2.0
/*
 * CPUID: what KVM supports, and where this vCPU is: each one is a package.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "abi.h"
#include "vcpu.h"

#define LEAF1_ECX_TSC_DEADLINE	BIT(24)
#define LEAF1_ECX_HYPERVISOR	BIT(31)
#define AMD_EBX_OVERFLOW_RECOV	BIT(0)
#define AMD_EBX_SUCCOR		BIT(1)

/* The end of the vendor's name. */
#define AMD_ECX			0x444d4163
#define HYGON_ECX		0x656e6975

/* Topology levels, in bits 8 to 15 of ECX: threads, then cores, of one each. */
static void set_topology_level(struct kvm_cpuid_entry2 *e, u32 id)
{
	e->eax = 0;
	e->ebx = e->index < 2;
	e->ecx = e->index < 2 ? (e->index + 1) << 8 | e->index : e->index;
	e->edx = id;
}

bool vcpu_is_amd(const struct vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *leaf0 = &vcpu->cpuid->entries[0];

	return leaf0->ecx == AMD_ECX || leaf0->ecx == HYGON_ECX;
}

static void adapt(struct kvm_cpuid_entry2 *e, u32 id, bool tsc_deadline, bool amd)
{
	switch (e->function) {
	case 0x1:
		e->ebx = (e->ebx & 0x0000ffff) | 1u << 16 | id << 24;
		e->ecx |= LEAF1_ECX_HYPERVISOR;
		if (tsc_deadline)
			e->ecx |= LEAF1_ECX_TSC_DEADLINE;
		break;
	case 0x4:
		/* Nothing is shared, neither caches nor the package. */
		e->eax &= ~(0x3fu << 26 | 0xfffu << 14);
		break;
	case 0xb:
	case 0x1f:
		set_topology_level(e, id);
		break;
	case 0x80000007:
		/* Without them no guest survives an error; KVM does not know of them. */
		if (amd)
			e->ebx |= AMD_EBX_OVERFLOW_RECOV | AMD_EBX_SUCCOR;
		break;
	case 0x80000008:
		e->ecx &= ~(0xf0ffu);
		break;
	case 0x8000001d:
		e->eax &= ~(0xfffu << 14);
		break;
	case 0x8000001e:
		e->eax = id;
		e->ebx = 0;
		e->ecx = 0;
		break;
	}
}

int vcpu_set_cpuid(struct vcpu *vcpu)
{
	bool tsc_deadline = ioctl(vcpu->vm->fd, KVM_CHECK_EXTENSION,
				  KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	struct kvm_cpuid2 *cpuid;
	int err = 0;
	u32 i;

	cpuid = calloc(1, sizeof(*cpuid) + CPUID_MAX_ENTRIES * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return kuf_error(-ENOMEM, "CPUID");
	cpuid->nent = CPUID_MAX_ENTRIES;
	if (ioctl(vcpu->vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid)) {
		err = kuf_error(-errno, "KVM_GET_SUPPORTED_CPUID");
		goto out;
	}
	vcpu->cpuid = cpuid;
	for (i = 0; i < cpuid->nent; i++)
		adapt(&cpuid->entries[i], vcpu->id, tsc_deadline, vcpu_is_amd(vcpu));
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid)) {
		err = kuf_error(-errno, "KVM_SET_CPUID2 of vCPU %u", vcpu->id);
		goto out;
	}
	return 0;

out:
	vcpu->cpuid = NULL;
	free(cpuid);
	return err;
}
