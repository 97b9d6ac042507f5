// SPDX-License-Identifier: GPL-2.0
/*
 * The registers that the first vCPU begins with.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "abi.h"
#include "vcpu.h"

#define CR0_PE		BIT_ULL(0)
#define CR0_ET		BIT_ULL(4)
#define CR0_PG		BIT_ULL(31)
#define CR4_PAE		BIT_ULL(5)
#define EFER_LME	BIT_ULL(8)
#define EFER_LMA	BIT_ULL(10)

#define SEG_CODE	0xb	/* execute, read, accessed */
#define SEG_DATA	0x3	/* read, write, accessed */

static struct kvm_segment flat(u16 selector, u8 type, bool is64)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.l = is64,
		.db = !is64,
		.g = 1,
	};
}

int vcpu_set_entry(struct vcpu *vcpu, const struct boot_entry *entry)
{
	struct kvm_regs regs = {
		.rip = entry->rip,
		.rsi = entry->rsi,
		.rflags = 2,
	};
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs))
		return kuf_error(-errno, "KVM_GET_SREGS");
	sregs.cs = flat(BOOT_CS, SEG_CODE, entry->cr3);
	sregs.ds = flat(BOOT_DS, SEG_DATA, false);
	sregs.es = sregs.ds;
	sregs.fs = sregs.ds;
	sregs.gs = sregs.ds;
	sregs.ss = sregs.ds;
	sregs.gdt.base = entry->gdt;
	sregs.gdt.limit = BOOT_GDT_SIZE - 1;
	sregs.cr0 = CR0_PE | CR0_ET;
	if (entry->cr3) {
		sregs.cr0 |= CR0_PG;
		sregs.cr3 = entry->cr3;
		sregs.cr4 |= CR4_PAE;
		sregs.efer |= EFER_LME | EFER_LMA;
	}
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs))
		return kuf_error(-errno, "KVM_SET_SREGS");
	if (ioctl(vcpu->fd, KVM_SET_REGS, &regs))
		return kuf_error(-errno, "KVM_SET_REGS");
	return 0;
}

void vcpu_say_where(struct vcpu *vcpu)
{
	struct kvm_mp_state mp = {};
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) || ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) ||
	    ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp))
		return;
	kuf_say("vCPU %u: rip 0x%llx rsp 0x%llx rflags 0x%llx cr3 0x%llx cs 0x%x, mp state %u",
		vcpu->id, regs.rip, regs.rsp, regs.rflags, sregs.cr3, sregs.cs.selector,
		mp.mp_state);
}
