// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The guest is told of poison that it touched.
 */
#include "internal.h"
#include "mce.h"

#define MSR_MCG_CAP	0x179
#define MSR_MCG_STATUS	0x17a
#define MSR_MCG_CTL	0x17b
#define MSR_MC0_CTL	0x400	/* then STATUS, ADDR, MISC; then the next bank's */
#define BANK_MSRS	4
#define CR4_MCE		0x40

struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

static int get_msr(int vcpu_fd, uint32_t index, uint64_t *value)
{
	struct one_msr msr = { .head.nmsrs = 1, .entry.index = index };
	int ret = kufi_ioctl(vcpu_fd, KVM_GET_MSRS, &msr);

	if (ret < 0)
		return ret;
	*value = msr.entry.data;
	return ret == 1 ? 0 : -ENODEV;
}

static int get_banks(int vcpu_fd, struct kufi_mce_state *s)
{
	uint64_t nr = s->mcg_cap & KUFI_MCG_CAP_BANKS, i;
	int ret = 0;

	for (i = 0; !ret && i < nr && i < KUFI_MAX_BANKS; i++) {
		ret = get_msr(vcpu_fd, MSR_MC0_CTL + i * BANK_MSRS, &s->ctl[i]);
		if (!ret)
			ret = get_msr(vcpu_fd, MSR_MC0_CTL + i * BANK_MSRS + 1, &s->status[i]);
	}
	return ret;
}

static int get_state(int vcpu_fd, struct kufi_mce_state *s)
{
	struct kvm_mp_state mp = {};
	struct kvm_sregs sregs = {};
	int ret;

	ret = get_msr(vcpu_fd, MSR_MCG_CAP, &s->mcg_cap);
	if (!ret)
		ret = get_msr(vcpu_fd, MSR_MCG_STATUS, &s->mcg_status);
	if (!ret && s->mcg_cap & KUFI_MCG_CTL_P)
		ret = get_msr(vcpu_fd, MSR_MCG_CTL, &s->mcg_ctl);
	if (!ret)
		ret = get_banks(vcpu_fd, s);
	if (!ret)
		ret = kufi_ioctl(vcpu_fd, KVM_GET_SREGS, &sregs);
	if (!ret)
		ret = kufi_ioctl(vcpu_fd, KVM_GET_MP_STATE, &mp);
	s->cr4_mce = sregs.cr4 & CR4_MCE;
	s->started = mp.mp_state != KVM_MP_STATE_UNINITIALIZED &&
		     mp.mp_state != KVM_MP_STATE_INIT_RECEIVED;
	return ret;
}

static int inject_mce(struct kuf_inject *in)
{
	struct kufi_mce_state s = {
		.gpa = in->gpa,
		.access = in->access,
		.sibling = in->flags & KUF_INJECT_SIBLING,
	};
	struct kvm_x86_mce mce;
	int ret;

	ret = get_state(in->vcpu_fd, &s);
	if (!ret)
		ret = kufi_choose_mce(&s, &mce, &in->result);
	if (ret || in->result == KUF_INJECT_NONE)
		return ret;
	return kufi_ioctl(in->vcpu_fd, KVM_X86_SET_MCE, &mce);
}

static int inject(struct kuf_inject *in)
{
	struct kvm_userfault_inject args = {
		.gpa = in->gpa,
		.flags = in->flags & KUF_INJECT_FORCE ? KVM_USERFAULT_INJECT_FORCE : 0,
		/* What an exit says besides is not for KVM. */
		.access = in->access & (KVM_MEMORY_EXIT_FLAG_READ | KVM_MEMORY_EXIT_FLAG_WRITE |
					KVM_MEMORY_EXIT_FLAG_EXEC |
					KVM_MEMORY_EXIT_FLAG_PAGE_WALK),
	};
	int ret = kufi_ioctl(in->vcpu_fd, KVM_USERFAULT_INJECT, &args);

	in->result = args.result;
	return ret;
}

int kuf_inject(struct kuf_inject *user)
{
	struct kuf_inject in;
	int ret;

	ret = kufi_copy_in(&in, sizeof(in), user);
	if (ret)
		return ret;
	switch (in.flags) {
	case 0:
	case KUF_INJECT_FORCE:
		ret = inject(&in);
		break;
	case KUF_INJECT_BROADCAST:
	case KUF_INJECT_SIBLING:
		ret = inject_mce(&in);
		break;
	default:
		return -EINVAL;
	}
	if (!ret)
		kufi_copy_out(user, &in);
	return ret;
}
