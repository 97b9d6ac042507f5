// SPDX-License-Identifier: GPL-2.0
/*
 * Which machine check tells a guest of poison: kvm_userfault_choose_mce(), as KVM is
 * built with it, for all that it depends on.  The expected values are numbers from the
 * manuals, not names.  Prints KTAP on stdout.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <linux/kvm.h>
#include <linux/kvm_userfault.h>

#include "userfault_mce.h"

#define GPA		0x123456000ull
#define ALL		(~0ull)
#define MAX_BANKS	32

/* VAL, UC, EN, MISCV, ADDRV. */
#define STATUS		0xbc00000000000000ull
#define AMD_STATUS	(STATUS | 0x80000000000ull)
#define INTEL_LOAD	(STATUS | 0x180000000000134ull)
#define INTEL_FETCH	(STATUS | 0x180000000000150ull)
#define VALID		0x8000000000000000ull

#define CTL_P		0x100ull
#define SER_P		0x1000000ull
#define LMCE_P		0x8000000ull
#define AMD_CAP		(CTL_P | 10)
#define INTEL_CAP	(CTL_P | SER_P | 10)

#define READ		KVM_MEMORY_EXIT_FLAG_READ
#define EXEC		KVM_MEMORY_EXIT_FLAG_EXEC
#define WALK		KVM_MEMORY_EXIT_FLAG_PAGE_WALK

/* A bit a bank. */
struct row {
	const char *name;
	bool intel;
	u64 cap, ctl, ext_ctl, mcg_status;
	unsigned int vcpus;
	bool no_mce, reinjects, force, protected_state;
	u64 access;
	u64 disabled, taken;

	int ret;
	bool shutdown;
	unsigned int bank;
	u64 status, result;
};

#define AMD		.cap = AMD_CAP, .ctl = ALL, .vcpus = 1, .access = READ
#define INTEL		.intel = true, .cap = INTEL_CAP, .ctl = ALL, .vcpus = 1, .access = READ
#define AMD_OK		.bank = 9, .status = AMD_STATUS, .result = 7
#define INTEL_OK	.bank = 9, .status = INTEL_LOAD, .result = 7

static const struct row rows[] = {
	{ "amd-load", AMD, AMD_OK },
	{ "amd-fetch", AMD, AMD_OK, .access = EXEC },
	{ "amd-smp", AMD, AMD_OK, .vcpus = 64 },
	{ "amd-no-mcg-ctl", AMD, AMD_OK, .cap = 10, .ctl = 0 },
	{ "amd-one-bank", AMD, AMD_OK, .cap = CTL_P | 1, .bank = 0 },
	{ "amd-many-banks", AMD, AMD_OK, .cap = CTL_P | 32 },
	{ "amd-lmce-says-nothing", AMD, AMD_OK, .cap = AMD_CAP | LMCE_P, .ext_ctl = 1 },
	{ "amd-northbridge-never", AMD, .disabled = ALL & ~(1 << 4), .ret = -ENODEV },
	{ "amd-eight-banks", AMD, AMD_OK, .cap = CTL_P | 8, .bank = 7 },

	{ "intel-load", INTEL, INTEL_OK },
	{ "intel-fetch", INTEL, INTEL_OK, .access = EXEC, .status = INTEL_FETCH },
	{ "intel-walk", INTEL, INTEL_OK, .access = READ | WALK },
	{ "intel-bank-4", INTEL, INTEL_OK, .disabled = ALL & ~(1 << 4), .bank = 4 },
	{ "intel-smp", INTEL, .vcpus = 2, .ret = -EOPNOTSUPP },
	{ "intel-smp-lmce-off", INTEL, .vcpus = 2, .cap = INTEL_CAP | LMCE_P,
	  .ret = -EOPNOTSUPP },
	{ "intel-smp-lmce-no-cap", INTEL, .vcpus = 2, .ext_ctl = 1, .ret = -EOPNOTSUPP },
	{ "intel-smp-lmce", INTEL, INTEL_OK, .vcpus = 2, .cap = INTEL_CAP | LMCE_P,
	  .ext_ctl = 1, .result = 15 },
	{ "intel-lmce", INTEL, INTEL_OK, .cap = INTEL_CAP | LMCE_P, .ext_ctl = 1,
	  .result = 15 },
	{ "intel-no-recovery", INTEL, .cap = CTL_P | 10, .ret = -EOPNOTSUPP },

	{ "no-banks", AMD, .cap = CTL_P, .ret = -ENODEV },
	{ "protected", AMD, .protected_state = true, .ret = -EOPNOTSUPP },
	{ "mcg-ctl-zero", AMD, .ctl = 0, .ret = -ENODEV },
	{ "mcg-ctl-partly", AMD, .ctl = ALL >> 1, .ret = -ENODEV },
	{ "banks-off", AMD, .disabled = ALL, .ret = -ENODEV },
	{ "bank-off", AMD, AMD_OK, .disabled = 1 << 9, .bank = 8 },
	{ "bank-taken", AMD, AMD_OK, .taken = 1 << 9, .bank = 8 },
	{ "banks-taken-but-one", AMD, AMD_OK, .taken = ALL & ~(1 << 2), .bank = 2 },
	{ "banks-taken", AMD, AMD_OK, .taken = ALL },
	{ "bank-off-others-taken", AMD, AMD_OK, .disabled = 1 << 9, .taken = ALL, .bank = 8 },

	{ "mcip", AMD, .mcg_status = 4, .shutdown = true },
	{ "cr4", AMD, .no_mce = true, .shutdown = true },
	{ "intel-mcip", INTEL, .mcg_status = 4, .shutdown = true },
	{ "not-mcip", AMD, AMD_OK, .mcg_status = 3 },
	{ "mcip-banks-off", AMD, .mcg_status = 4, .disabled = ALL, .ret = -ENODEV },

	{ "reinjects", AMD, .reinjects = true, .ret = -EBUSY },
	{ "reinjects-mcip", AMD, .reinjects = true, .mcg_status = 4, .ret = -EBUSY },
	{ "reinjects-banks-off", AMD, .reinjects = true, .disabled = ALL, .ret = -ENODEV },
	{ "reinjects-force", AMD, AMD_OK, .reinjects = true, .force = true, .result = 4 },
	{ "intel-reinjects-force", INTEL, INTEL_OK, .reinjects = true, .force = true,
	  .result = 4 },
	{ "force-mcip", AMD, .reinjects = true, .force = true, .mcg_status = 4,
	  .shutdown = true },
	{ "force-nothing", AMD, AMD_OK, .force = true },
};

static int choose(const struct row *row, struct kvm_userfault_mce *mce)
{
	/* More than there are must not be looked at: those are ready to be taken. */
	u64 banks[MAX_BANKS + 8][4] = {};
	struct kvm_userfault_mce_state s = {
		.gpa = GPA,
		.access = row->access,
		.intel = row->intel,
		.protected_state = row->protected_state,
		.nr_vcpus = row->vcpus,
		.mcg_cap = row->cap,
		.mcg_ctl = row->ctl,
		.mcg_ext_ctl = row->ext_ctl,
		.mcg_status = row->mcg_status,
		.banks = banks[0],
		.cr4_mce = !row->no_mce,
		.reinjects = row->reinjects,
		.force = row->force,
	};

	for (unsigned int i = 0; i < MAX_BANKS + 8; i++) {
		bool there = i < (row->cap & 0xff);

		banks[i][0] = there && row->disabled >> i & 1 ? ALL - 1 : ALL;
		banks[i][1] = there && row->taken >> i & 1 ? VALID : 0;
	}
	return kvm_userfault_choose_mce(&s, mce);
}

static bool as_expected(const struct row *row)
{
	struct kvm_userfault_mce mce, wanted = {};
	int ret;

	memset(&mce, 0x5a, sizeof(mce));
	ret = choose(row, &mce);
	if (!row->ret && row->shutdown) {
		wanted.shutdown = true;
	} else if (!row->ret) {
		wanted.bank = row->bank;
		wanted.status = row->status;
		wanted.addr = GPA;
		wanted.misc = 0x8c;
		wanted.mcg_status = row->result;
	}
	if (ret == row->ret && mce.shutdown == wanted.shutdown && mce.bank == wanted.bank &&
	    mce.status == wanted.status && mce.addr == wanted.addr &&
	    mce.misc == wanted.misc && mce.mcg_status == wanted.mcg_status)
		return true;

	printf("# %s: %d, shutdown %d, bank %u, ", row->name, ret, mce.shutdown, mce.bank);
	printf("STATUS 0x%llx ADDR 0x%llx MISC 0x%llx MCG_STATUS 0x%llx\n",
	       (unsigned long long)mce.status,
	       (unsigned long long)mce.addr, (unsigned long long)mce.misc,
	       (unsigned long long)mce.mcg_status);
	return false;
}

int main(void)
{
	const unsigned int nr = sizeof(rows) / sizeof(rows[0]);
	int failed = 0;

	printf("KTAP version 1\n1..%u\n", nr);
	for (unsigned int i = 0; i < nr; i++) {
		bool ok = as_expected(&rows[i]);

		printf("%s %u mce.%s\n", ok ? "ok" : "not ok", i + 1, rows[i].name);
		failed |= !ok;
	}
	return failed;
}
