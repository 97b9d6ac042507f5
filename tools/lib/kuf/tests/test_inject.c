// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Machine checks: which one each vCPU gets, as a table, and what KVM is told.
 */
#include "test.h"
#include "../mce.h"

#define VCPU		800	/* no open file has this number */
#define R		KVM_MEMORY_EXIT_FLAG_READ
#define X		KVM_MEMORY_EXIT_FLAG_EXEC
#define TOUCHED		(KUFI_MCI_VAL | KUFI_MCI_UC | KUFI_MCI_EN | KUFI_MCI_MISCV | KUFI_MCI_ADDRV)
#define RECOVERABLE	(TOUCHED | KUFI_MCI_S | KUFI_MCI_AR)
#define OTHERS		(KUFI_MCI_VAL | KUFI_MCI_UC)
#define CAP		(KUFI_MCG_CTL_P | KUFI_MCG_SER_P)
#define STOPPED		(KUFI_MCG_MCIP | KUFI_MCG_RIPV)

enum {
	SIBLING = 1,
	NO_MCE = 2,
	NOT_STARTED = 4,
	IN_HANDLER = 8,
	CTL_OFF = 16,
	BANK_9_USED = 32,
	BANK_9_OFF = 64,
	ALL_OFF = 128,
	ALL_USED = 256,
};

static const struct row {
	const char *what;
	unsigned int how;
	uint64_t cap, access;
	int ret;
	uint32_t result;
	unsigned int bank;
	uint64_t status, mcg_status;
} rows[] = {
	{ "a load", 0, CAP | 10, R, 0, KVM_USERFAULT_INJECT_QUEUED, 9,
	  RECOVERABLE | 0x134, STOPPED | KUFI_MCG_EIPV },
	{ "a fetch", 0, CAP | 10, X, 0, KVM_USERFAULT_INJECT_QUEUED, 9,
	  RECOVERABLE | 0x150, STOPPED | KUFI_MCG_EIPV },
	{ "few banks", 0, CAP | 4, R, 0, KVM_USERFAULT_INJECT_QUEUED, 3,
	  RECOVERABLE | 0x134, STOPPED | KUFI_MCG_EIPV },
	{ "no recovery", 0, KUFI_MCG_CTL_P | 10, R, 0, KVM_USERFAULT_INJECT_QUEUED, 9,
	  TOUCHED | 0x134, STOPPED | KUFI_MCG_EIPV },
	{ "a bank in use", BANK_9_USED, CAP | 10, R, 0, KVM_USERFAULT_INJECT_QUEUED, 8,
	  RECOVERABLE | 0x134, STOPPED | KUFI_MCG_EIPV },
	{ "a bank that is off", BANK_9_OFF, CAP | 10, R, 0, KVM_USERFAULT_INJECT_QUEUED, 8,
	  RECOVERABLE | 0x134, STOPPED | KUFI_MCG_EIPV },
	{ "all in use", ALL_USED, CAP | 10, R, 0, KVM_USERFAULT_INJECT_QUEUED, 9,
	  RECOVERABLE | 0x134, STOPPED | KUFI_MCG_EIPV },
	{ "more banks than KVM has", 0, CAP | 255, R, 0, KVM_USERFAULT_INJECT_QUEUED, 9,
	  RECOVERABLE | 0x134, STOPPED | KUFI_MCG_EIPV },
	{ "no control register", CTL_OFF, KUFI_MCG_SER_P | 10, R, 0, KVM_USERFAULT_INJECT_QUEUED,
	  9, RECOVERABLE | 0x134, STOPPED | KUFI_MCG_EIPV },
	{ "in the handler", IN_HANDLER, CAP | 10, R, 0, KVM_USERFAULT_INJECT_SHUTDOWN, 9,
	  RECOVERABLE | 0x134, STOPPED | KUFI_MCG_EIPV },
	{ "CR4.MCE clear", NO_MCE, CAP | 10, R, 0, KVM_USERFAULT_INJECT_SHUTDOWN, 9,
	  RECOVERABLE | 0x134, STOPPED | KUFI_MCG_EIPV },
	{ "no banks", 0, CAP, R, -ENODEV, 0, 0, 0, 0 },
	{ "all banks off", ALL_OFF, CAP | 10, R, -ENODEV, 0, 0, 0, 0 },
	{ "switched off", CTL_OFF, CAP | 10, R, -ENODEV, 0, 0, 0, 0 },
	{ "a sibling", SIBLING, CAP | 10, 0, 0, KVM_USERFAULT_INJECT_QUEUED, 9, OTHERS, STOPPED },
	{ "a sibling in the handler", SIBLING | IN_HANDLER, CAP | 10, 0, 0,
	  KVM_USERFAULT_INJECT_SHUTDOWN, 9, OTHERS, STOPPED },
	{ "a sibling not started", SIBLING | NOT_STARTED, CAP | 10, 0, 0, KUF_INJECT_NONE,
	  0, 0, 0 },
	{ "a sibling without MCE", SIBLING | NO_MCE, CAP | 10, 0, 0, KUF_INJECT_NONE,
	  0, 0, 0 },
	{ "a sibling, switched off", SIBLING | CTL_OFF, CAP | 10, 0, -ENODEV, 0, 0, 0, 0 },
};

static struct kufi_mce_state state_for(const struct row *row)
{
	struct kufi_mce_state s = {
		.gpa = row->how & SIBLING ? 0 : GPA,
		.access = row->access,
		.mcg_cap = row->cap,
		.mcg_ctl = row->how & CTL_OFF ? 1 : ~0ull,
		.mcg_status = row->how & IN_HANDLER ? KUFI_MCG_MCIP : 0,
		.cr4_mce = !(row->how & NO_MCE),
		.started = !(row->how & NOT_STARTED),
		.sibling = row->how & SIBLING,
	};
	unsigned int i;

	for (i = 0; i < KUFI_MAX_BANKS; i++) {
		s.ctl[i] = row->how & ALL_OFF || (row->how & BANK_9_OFF && i == 9) ? 0 : ~0ull;
		if (row->how & ALL_USED || (row->how & BANK_9_USED && i == 9))
			s.status[i] = KUFI_MCI_VAL;
	}
	return s;
}

static void table(void)
{
	struct kufi_mce_state s;
	const struct row *row;
	struct kvm_x86_mce mce;
	uint32_t result;

	for (row = rows; row < rows + sizeof(rows) / sizeof(rows[0]); row++) {
		printf("# %s\n", row->what);
		s = state_for(row);
		EQUAL(kufi_choose_mce(&s, &mce, &result), row->ret);
		if (row->ret)
			continue;
		EQUAL(result, row->result);
		EQUAL(mce.bank, row->bank);
		EQUAL(mce.status, row->status);
		EQUAL(mce.mcg_status, row->mcg_status);
		EQUAL(mce.addr, row->status & KUFI_MCI_ADDRV ? GPA : 0);
		EQUAL(mce.misc, row->status & KUFI_MCI_MISCV ? 0x8c : 0);
	}
}

/* A vCPU, of some state. */
static struct {
	struct kufi_mce_state s;
	unsigned long fail;
	unsigned int nr_set, nr_inject;
	struct kvm_x86_mce mce;
	struct kvm_userfault_inject inject;
} vcpu;

static uint64_t msr(uint32_t index)
{
	switch (index) {
	case 0x179:
		return vcpu.s.mcg_cap;
	case 0x17a:
		return vcpu.s.mcg_status;
	case 0x17b:
		return vcpu.s.mcg_ctl;
	default:
		CHECK(index >= 0x400 && index < 0x400 + 4 * KUFI_MAX_BANKS);
		CHECK(index % 4 < 2);
		return index % 4 ? vcpu.s.status[index / 4 % 32] : vcpu.s.ctl[index / 4 % 32];
	}
}

static int vcpu_ioctl(int fd, unsigned long request, void *arg)
{
	struct kvm_userfault_inject *inject = arg;
	struct kvm_msrs *msrs = arg;

	EQUAL(fd, VCPU);
	if (request == vcpu.fail)
		return request == KVM_GET_MSRS ? 0 : -EBUSY;
	switch (request) {
	case KVM_GET_MSRS:
		EQUAL(msrs->nmsrs, 1);
		msrs->entries[0].data = msr(msrs->entries[0].index);
		return 1;
	case KVM_GET_SREGS:
		((struct kvm_sregs *)arg)->cr4 = vcpu.s.cr4_mce ? 0x40 : 0x20;
		return 0;
	case KVM_GET_MP_STATE:
		((struct kvm_mp_state *)arg)->mp_state = vcpu.s.started ?
			KVM_MP_STATE_HALTED : KVM_MP_STATE_UNINITIALIZED;
		return 0;
	case KVM_X86_SET_MCE:
		vcpu.nr_set++;
		vcpu.mce = *(struct kvm_x86_mce *)arg;
		return 0;
	case KVM_USERFAULT_INJECT:
		vcpu.nr_inject++;
		vcpu.inject = *inject;
		inject->result = KVM_USERFAULT_INJECT_NESTED_EXIT;
		return 0;
	default:
		FAIL("ioctl 0x%lx", request);
	}
}

static void begin(const struct row *row)
{
	memset(&vcpu, 0, sizeof(vcpu));
	vcpu.s = state_for(row);
	kufi_ioctl = vcpu_ioctl;
}

/* The state is read of the vCPU: each row once more. */
static void broadcast(void)
{
	const struct row *row;
	struct kuf_inject in;

	for (row = rows; row < rows + sizeof(rows) / sizeof(rows[0]); row++) {
		printf("# %s\n", row->what);
		begin(row);
		in = (struct kuf_inject){
			.size = sizeof(in), .vcpu_fd = VCPU, .gpa = vcpu.s.gpa,
			.access = row->access, .result = 77,
			.flags = row->how & SIBLING ? KUF_INJECT_SIBLING : KUF_INJECT_BROADCAST,
		};
		EQUAL(kuf_inject(&in), row->ret);
		EQUAL(in.result, row->ret ? 77 : row->result);
		EQUAL(vcpu.nr_set, !row->ret && row->result != KUF_INJECT_NONE);
		EQUAL(vcpu.nr_inject, 0);
		if (!vcpu.nr_set)
			continue;
		EQUAL(vcpu.mce.bank, row->bank);
		EQUAL(vcpu.mce.status, row->status);
		EQUAL(vcpu.mce.mcg_status, row->mcg_status);
	}
}

static void by_kvm(void)
{
	struct kuf_inject in = {
		.size = sizeof(in), .vcpu_fd = VCPU, .gpa = GPA,
		.access = KVM_MEMORY_EXIT_FLAG_POISON | KVM_MEMORY_EXIT_FLAG_OWN |
			  KVM_MEMORY_EXIT_FLAG_PAGE_WALK | R,
	};

	begin(rows);
	EQUAL(kuf_inject(&in), 0);
	EQUAL(in.result, KVM_USERFAULT_INJECT_NESTED_EXIT);
	EQUAL(vcpu.inject.gpa, GPA);
	EQUAL(vcpu.inject.flags, 0);
	EQUAL(vcpu.inject.access, KVM_MEMORY_EXIT_FLAG_PAGE_WALK | R);
	in.flags = KUF_INJECT_FORCE;
	EQUAL(kuf_inject(&in), 0);
	EQUAL(vcpu.inject.flags, KVM_USERFAULT_INJECT_FORCE);
	EQUAL(vcpu.nr_set, 0);
	vcpu.fail = KVM_USERFAULT_INJECT;
	EQUAL(kuf_inject(&in), -EBUSY);
	in.flags = KUF_INJECT_FORCE | KUF_INJECT_SIBLING;
	EQUAL(kuf_inject(&in), -EINVAL);
	in.flags = 8;
	EQUAL(kuf_inject(&in), -EINVAL);
	EQUAL(vcpu.nr_inject, 2);
}

static void errors(void)
{
	static const unsigned long requests[] = { KVM_GET_SREGS, KVM_GET_MP_STATE,
						  KVM_X86_SET_MCE };
	struct kuf_inject in = { .size = sizeof(in), .vcpu_fd = VCPU, .gpa = GPA,
				 .flags = KUF_INJECT_BROADCAST };
	unsigned int i;

	begin(rows);
	for (i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		vcpu.fail = requests[i];
		EQUAL(kuf_inject(&in), -EBUSY);
		EQUAL(vcpu.nr_set, 0);
	}
	/* No such register. */
	vcpu.fail = KVM_GET_MSRS;
	EQUAL(kuf_inject(&in), -ENODEV);
	in.size = 4;
	EQUAL(kuf_inject(&in), -EINVAL);
}

static const struct test tests[] = {
	TEST(table), TEST(broadcast), TEST(by_kvm), TEST(errors),
};

MAIN(tests)
