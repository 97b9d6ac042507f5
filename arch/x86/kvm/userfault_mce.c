// SPDX-License-Identifier: GPL-2.0
/*
 * KVM Userfault on x86: which machine check tells a guest of poison.
 *
 * It is one that system software survives: an uncorrected error that was not hidden
 * by anything, of a page at a known address, which somebody wanted to use, reported
 * before the instruction that did.  Linux then ends the process, or takes the fixup of
 * a copy from user memory, and does not use the page again.
 */
#include <linux/errno.h>
#include <linux/kvm.h>
#include <linux/kvm_userfault.h>

#include <asm/mce.h>

#include "userfault_mce.h"

/* Registers of a bank. */
#define BANK_REGS	4
#define BANK_CTL	0
#define BANK_STATUS	1

/* Not one of the first, which have meanings of old; what QEMU takes, too. */
#define PREFERRED_BANK	9
/* The northbridge's, on AMD CPUs without scalable MCA. */
#define AMD_BANK_NB	4

/* Compound error codes of Intel's: data load, and instruction fetch. */
#define MCACOD_DATA_LOAD	0x134
#define MCACOD_INSTR_FETCH	0x150

/* ADDR is a physical address, of which the low 12 bits say nothing. */
#define MISC_PHYSICAL_4K	(2 << 6 | 12)

#define NR_BANKS(cap)	((cap) & 0xff)

static bool bank_reports(const struct kvm_userfault_mce_state *s, unsigned int bank)
{
	/* KVM ignores uncorrected errors of a bank unless all of them are enabled. */
	return s->banks[bank * BANK_REGS + BANK_CTL] == ~0ull &&
	       (s->intel || bank != AMD_BANK_NB);
}

/*
 * One that holds no other error: guests do not survive an overflow.  If there is
 * none the error in it is overwritten, as it has been there for a while.
 */
static int choose_bank(const struct kvm_userfault_mce_state *s)
{
	unsigned int nr = NR_BANKS(s->mcg_cap), i, bank;
	int any = -ENODEV;

	for (i = 0; i <= nr; i++) {
		bank = i ? nr - i : PREFERRED_BANK;
		if (bank >= nr || !bank_reports(s, bank))
			continue;
		if (!(s->banks[bank * BANK_REGS + BANK_STATUS] & MCI_STATUS_VAL))
			return bank;
		if (any < 0)
			any = bank;
	}
	return any;
}

/* Is only this vCPU told, as the guest has agreed to? */
static bool is_local(const struct kvm_userfault_mce_state *s)
{
	return s->mcg_cap & MCG_LMCE_P && s->mcg_ext_ctl & MCG_EXT_CTL_LMCE_EN;
}

int kvm_userfault_choose_mce(const struct kvm_userfault_mce_state *s,
			     struct kvm_userfault_mce *mce)
{
	int bank;

	*mce = (struct kvm_userfault_mce) {};

	if (s->protected_state)
		return -EOPNOTSUPP;
	if (!NR_BANKS(s->mcg_cap))
		return -ENODEV;
	if (s->intel) {
		/* No way to say that software can recover. */
		if (!(s->mcg_cap & MCG_SER_P))
			return -EOPNOTSUPP;
		/* All of them would wait for each other in the handler. */
		if (s->nr_vcpus > 1 && !is_local(s))
			return -EOPNOTSUPP;
	}
	if (s->mcg_cap & MCG_CTL_P && s->mcg_ctl != ~0ull)
		return -ENODEV;
	bank = choose_bank(s);
	if (bank < 0)
		return bank;
	if (s->reinjects && !s->force)
		return -EBUSY;

	/* As the CPU does; in SMM, too, which clears CR4.MCE. */
	if (s->mcg_status & MCG_STATUS_MCIP || !s->cr4_mce) {
		mce->shutdown = true;
		return 0;
	}

	mce->bank = bank;
	mce->addr = s->gpa;
	mce->misc = MISC_PHYSICAL_4K;
	mce->status = MCI_STATUS_VAL | MCI_STATUS_UC | MCI_STATUS_EN |
		      MCI_STATUS_MISCV | MCI_STATUS_ADDRV;
	mce->mcg_status = MCG_STATUS_MCIP;
	if (!s->reinjects)
		mce->mcg_status |= MCG_STATUS_RIPV | MCG_STATUS_EIPV;

	if (!s->intel) {
		mce->status |= MCI_STATUS_POISON;
		return 0;
	}
	mce->status |= MCI_STATUS_S | MCI_STATUS_AR;
	mce->status |= s->access & KVM_MEMORY_EXIT_FLAG_EXEC ? MCACOD_INSTR_FETCH :
							       MCACOD_DATA_LOAD;
	if (is_local(s))
		mce->mcg_status |= MCG_STATUS_LMCES;
	return 0;
}
