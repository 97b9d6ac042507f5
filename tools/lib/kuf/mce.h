/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which machine check tells a vCPU of poison, where all of them have to get one.
 */
#ifndef KUF_MCE_H
#define KUF_MCE_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/kvm.h>

#define KUFI_MAX_BANKS		32

/* Registers of x86's machine check architecture. */
#define KUFI_MCG_CAP_BANKS	0xffull
#define KUFI_MCG_CTL_P		0x100ull
#define KUFI_MCG_SER_P		0x1000000ull
#define KUFI_MCG_RIPV		0x1ull
#define KUFI_MCG_EIPV		0x2ull
#define KUFI_MCG_MCIP		0x4ull
#define KUFI_MCI_VAL		0x8000000000000000ull
#define KUFI_MCI_UC		0x2000000000000000ull
#define KUFI_MCI_EN		0x1000000000000000ull
#define KUFI_MCI_MISCV		0x800000000000000ull
#define KUFI_MCI_ADDRV		0x400000000000000ull
#define KUFI_MCI_S		0x100000000000000ull
#define KUFI_MCI_AR		0x80000000000000ull
#define KUFI_MISC_PHYSICAL_4K	(2 << 6 | 12)
#define KUFI_DATA_LOAD		0x134
#define KUFI_INSTR_FETCH	0x150

/* A vCPU, and what it touched. */
struct kufi_mce_state {
	uint64_t gpa;
	uint64_t access;	/* KVM_MEMORY_EXIT_FLAG_* */
	uint64_t mcg_cap, mcg_ctl, mcg_status;
	uint64_t ctl[KUFI_MAX_BANKS], status[KUFI_MAX_BANKS];
	bool cr4_mce;
	bool started;		/* it is no CPU that waits to be started */
	bool sibling;		/* another one touched it */
};

/*
 * @mce for KVM_X86_SET_MCE, and what comes of it: a KVM_USERFAULT_INJECT_*, or
 * KUF_INJECT_NONE: there is nothing to be set.
 *
 * ENODEV	no bank reports errors
 */
int kufi_choose_mce(const struct kufi_mce_state *s, struct kvm_x86_mce *mce, uint32_t *result);

#endif /* KUF_MCE_H */
