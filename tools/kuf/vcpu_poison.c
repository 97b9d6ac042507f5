// SPDX-License-Identifier: GPL-2.0
/*
 * The guest is told of poison that it touched.  Mostly KVM does that, and no vCPU exits.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include <kuf/kuf.h>

#include "abi.h"
#include "poison.h"
#include "vcpu.h"

#define NR_BANKS	10
#define MCG_CTL_P	BIT_ULL(8)
#define MCG_SER_P	BIT_ULL(24)

/*
 * Updates that KVM makes on its own are left out, and exit just once.  What exits again
 * and again is an instruction of the guest's.
 */
#define OWN_HITS	3
/* An event may be on its way that the error would replace; not for ever. */
#define BUSY_HITS	100

int vcpu_setup_mce(struct vcpu *vcpu)
{
	u64 offered = 0, cap;

	if (ioctl(vcpu->vm->kvm_fd, KVM_X86_GET_MCE_CAP_SUPPORTED, &offered))
		return kuf_error(-errno, "KVM_X86_GET_MCE_CAP_SUPPORTED");
	/* KVM takes away what the CPU does not have. */
	cap = NR_BANKS | (offered & (MCG_CTL_P | MCG_SER_P));
	if (ioctl(vcpu->fd, KVM_X86_SETUP_MCE, &cap))
		return kuf_error(-errno, "KVM_X86_SETUP_MCE of vCPU %u", vcpu->id);
	return 0;
}

static void stop(struct vcpu *vcpu, int err, int code)
{
	if (err == -ENODEV)
		kuf_error(err, "vCPU %u touched poison at 0x%llx: its machine checks are off",
			  vcpu->id, (unsigned long long)vcpu->hit_gpa);
	else
		kuf_error(err, "vCPU %u touched poison at 0x%llx and cannot be told", vcpu->id,
			  (unsigned long long)vcpu->hit_gpa);
	vm_stop(vcpu->vm, code);
}

/* Intel's guests wait in their handlers for all other CPUs. */
static int broadcast(struct vcpu *vcpu, struct kuf_inject *in)
{
	struct vm *vm = vcpu->vm;
	unsigned int i;

	for (i = 0; i < vm->nr_vcpus; i++) {
		if (&vm->vcpus[i] == vcpu)
			continue;
		__atomic_store_n(&vm->vcpus[i].told, true, __ATOMIC_SEQ_CST);
		vcpu_kick(&vm->vcpus[i]);
	}
	in->flags = KUF_INJECT_BROADCAST;
	return kuf_inject(in);
}

bool vcpu_told(struct vcpu *vcpu)
{
	struct kuf_inject in = {
		.size = sizeof(in),
		.vcpu_fd = vcpu->fd,
		.flags = KUF_INJECT_SIBLING,
	};
	int err;

	if (!__atomic_load_n(&vcpu->told, __ATOMIC_SEQ_CST))
		return false;
	vcpu_set_immediate_exit(vcpu, 0);
	__atomic_store_n(&vcpu->told, false, __ATOMIC_SEQ_CST);
	err = kuf_inject(&in);
	if (err && err != -ENODEV)
		stop(vcpu, err, KUF_EXIT_KVM);
	return true;
}

void vcpu_hit_poison(struct vcpu *vcpu)
{
	const struct kuf_memory_fault *fault = kuf_memory_fault(vcpu->run);
	struct kuf_inject in = {
		.size = sizeof(in),
		.vcpu_fd = vcpu->fd,
		.gpa = align_down(fault->gpa, PAGE_SIZE),
		.access = fault->flags,
	};
	int err;

	vcpu->hits = vcpu->hit_gpa == in.gpa ? vcpu->hits + 1 : 1;
	vcpu->hit_gpa = in.gpa;
	if (fault->flags & KVM_MEMORY_EXIT_FLAG_OWN && vcpu->hits < OWN_HITS)
		return;
	if (vcpu->hits > BUSY_HITS)
		in.flags = KUF_INJECT_FORCE;
	err = kuf_inject(&in);
	if (err == -EBUSY)
		return;
	if (err == -EOPNOTSUPP)
		err = broadcast(vcpu, &in);
	if (err == -ENODEV)
		stop(vcpu, err, KUF_EXIT_CRASH);
	else if (err)
		stop(vcpu, err, KUF_EXIT_KVM);
	else if (in.result == KVM_USERFAULT_INJECT_SHUTDOWN)
		kuf_say("vCPU %u touched poison at 0x%llx and takes no machine check now", vcpu->id,
			(unsigned long long)in.gpa);
}
