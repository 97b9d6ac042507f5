// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Machine checks of Intel's that are broadcast: the vCPU that touched the page gets the
 * error, the others one that is not theirs, and wait for it in their handlers.
 */
#include <errno.h>
#include <linux/kvm_userfault.h>

#include "mce.h"
#include <kuf/kuf.h>

/* Not one of the first, which have meanings of old; what KVM takes, too. */
#define PREFERRED_BANK	9

static unsigned int nr_banks(const struct kufi_mce_state *s)
{
	uint64_t nr = s->mcg_cap & KUFI_MCG_CAP_BANKS;

	return nr < KUFI_MAX_BANKS ? nr : KUFI_MAX_BANKS;
}

/* KVM drops errors of banks that are not enabled; one that is in use would overflow. */
static int choose_bank(const struct kufi_mce_state *s)
{
	unsigned int nr = nr_banks(s), i, bank;
	int any = -ENODEV;

	for (i = 0; i <= nr; i++) {
		bank = i ? nr - i : PREFERRED_BANK;
		if (bank >= nr || s->ctl[bank] != ~0ull)
			continue;
		if (!(s->status[bank] & KUFI_MCI_VAL))
			return bank;
		if (any < 0)
			any = bank;
	}
	return any;
}

static void fill_touched(const struct kufi_mce_state *s, struct kvm_x86_mce *mce)
{
	mce->status |= KUFI_MCI_EN | KUFI_MCI_MISCV | KUFI_MCI_ADDRV;
	mce->status |= s->access & KVM_MEMORY_EXIT_FLAG_EXEC ? KUFI_INSTR_FETCH : KUFI_DATA_LOAD;
	/* Without that nobody recovers from anything. */
	if (s->mcg_cap & KUFI_MCG_SER_P)
		mce->status |= KUFI_MCI_S | KUFI_MCI_AR;
	mce->addr = s->gpa;
	mce->misc = KUFI_MISC_PHYSICAL_4K;
	mce->mcg_status |= KUFI_MCG_EIPV;
}

int kufi_choose_mce(const struct kufi_mce_state *s, struct kvm_x86_mce *mce, uint32_t *result)
{
	int bank;

	*mce = (struct kvm_x86_mce){};
	*result = KUF_INJECT_NONE;
	/* It would end the VM, and nobody waits for it. */
	if (s->sibling && (!s->started || !s->cr4_mce))
		return 0;
	if (s->mcg_cap & KUFI_MCG_CTL_P && s->mcg_ctl != ~0ull)
		return -ENODEV;
	bank = choose_bank(s);
	if (bank < 0)
		return bank;
	mce->bank = bank;
	mce->status = KUFI_MCI_VAL | KUFI_MCI_UC;
	mce->mcg_status = KUFI_MCG_MCIP | KUFI_MCG_RIPV;
	/* A sibling's is not enabled and has no address: no error, but a reason to stop. */
	if (!s->sibling)
		fill_touched(s, mce);
	*result = s->mcg_status & KUFI_MCG_MCIP || !s->cr4_mce ? KVM_USERFAULT_INJECT_SHUTDOWN :
		  KVM_USERFAULT_INJECT_QUEUED;
	return 0;
}
