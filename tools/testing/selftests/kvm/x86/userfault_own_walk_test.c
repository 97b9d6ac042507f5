// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and shadow paging: KVM walks the guest's page tables, and a table is
 * absent.  Nothing has happened by then, so the vCPU waits for it as for a page that
 * the guest wants itself: with a userfault fd, interruptibly; without one KVM_RUN
 * exits.  With nested paging the CPU walks the tables; that is no access of KVM's own.
 */
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_order.h"
#include "userfault_take.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define NPAGES		16ul
#define GENERATION	70
#define WRITTEN		0x5757575757575757ull

/* Pages of the slot, behind the page tables. */
#define PAGE_ROOT	USERFAULT_NR_TABLES
#define PAGE_DATA	5ul

/* For 32 bits. */
#define PAGE_PDPT	8ul
#define PAGE_PAE_PD	9ul
#define PAGE_PAE_CODE	10ul
#define PAE_PORT	0xe

#define NR_LEVELS	4

/* In the order of a walk. */
static const u64 tables[NR_LEVELS] = {
	PAGE_ROOT, USERFAULT_PDPT, USERFAULT_PD, USERFAULT_PT
};

static const enum userfault_op ops[] = {
	USERFAULT_READ, USERFAULT_WRITE, USERFAULT_EXEC
};

static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu, struct userfault_slot **s,
				bool own, enum userfault_backing backing)
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, userfault_order_code);
	struct kvm_sregs sregs;

	userfault_enable_take(vm, own);
	*s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, 0);
	userfault_tables_create(*s);
	/* The root as well. */
	memcpy(userfault_alias(*s, PAGE_ROOT), addr_gpa2hva(vm, vm->mmu.pgd), PAGE_SIZE);
	userfault_fill_code(*s, PAGE_DATA);
	userfault_arm(*s);

	vcpu_sregs_get(*vcpu, &sregs);
	sregs.cr3 = userfault_gpa(*s, PAGE_ROOT);
	vcpu_sregs_set(*vcpu, &sregs);

	/* To where it takes orders. */
	userfault_order(vm, USERFAULT_READ, 0, 0, 0, 0);
	userfault_order_run(*vcpu);
	return vm;
}

static void order(struct userfault_slot *s, enum userfault_op op)
{
	userfault_order(s->vm, op, USERFAULT_TABLES_GVA + PAGE_DATA * PAGE_SIZE,
			userfault_gfn(s, PAGE_DATA), 1, WRITTEN);
}

/* The page is there, but has to be looked for. */
static void forget_data(struct userfault_slot *s)
{
	userfault_set_bit(s, PAGE_DATA);
	userfault_rescan(s, PAGE_DATA, 1);
	userfault_clear_bit(s, PAGE_DATA);
}

/* The order is done: the guest asks for the next one. */
static void assert_done(struct kvm_vcpu *vcpu, enum userfault_op op,
			struct userfault_slot *s)
{
	u64 *data = userfault_alias(s, PAGE_DATA);

	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	vcpu_run_complete_io(vcpu);
	if (op == USERFAULT_WRITE) {
		TEST_ASSERT_EQ(*data, WRITTEN);
		userfault_fill_code(s, PAGE_DATA);
	}
}

static void clear_accessed(struct userfault_slot *s)
{
	u64 *pt = userfault_alias(s, USERFAULT_PT);

	pt[PAGE_DATA] &= ~(BIT_ULL(5) | BIT_ULL(6));
	*(u64 *)userfault_alias(s, USERFAULT_PD) &= ~BIT_ULL(5);
	*(u64 *)userfault_alias(s, USERFAULT_PDPT) &= ~BIT_ULL(5);
}

static void assert_accessed(struct userfault_slot *s, enum userfault_op op)
{
	u64 pte = ((u64 *)userfault_alias(s, USERFAULT_PT))[PAGE_DATA];

	TEST_ASSERT(pte & BIT_ULL(5), "The entry 0x%lx was not marked accessed", pte);
	TEST_ASSERT(op != USERFAULT_WRITE || pte & BIT_ULL(6),
		    "The entry 0x%lx was not marked dirty", pte);
}

/* One event for the table; with it comes all that the access needs. */
static void test_levels(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	struct userfault_slot *s = t->s;
	int level, i;
	u64 waits;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		for (level = 0; level < NR_LEVELS; level++) {
			clear_accessed(s);
			forget_data(s);
			userfault_take(t, tables[level]);
			waits = vcpu_get_stat(vcpu, userfault_waits);

			order(s, ops[i]);
			userfault_take_run_ok(t, vcpu);
			assert_done(vcpu, ops[i], s);
			userfault_take_assert_one(t, tables[level], USERFAULT_OWN_WALK);
			assert_accessed(s, ops[i]);
			/* Where it would not be in others' way. */
			TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_waits), waits + 1);
		}
	}
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_own_waits), 0);
}

/* All of them, one after the other. */
static void test_whole_walk(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	int level;

	forget_data(t->s);
	for (level = 0; level < NR_LEVELS; level++)
		userfault_take(t, tables[level]);
	order(t->s, USERFAULT_WRITE);
	userfault_take_run_ok(t, vcpu);
	assert_done(vcpu, USERFAULT_WRITE, t->s);
	for (level = 0; level < NR_LEVELS; level++)
		userfault_take_assert_event(t, NR_LEVELS, level, tables[level],
					    USERFAULT_OWN_WALK);
}

/* A signal ends the wait, which begins anew when the vCPU is run again. */
static void test_signal(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	struct userfault_runner r;

	forget_data(t->s);
	userfault_take(t, USERFAULT_PD);
	order(t->s, USERFAULT_READ);

	userfault_runner_start(&r, vcpu);
	userfault_take_event(t, USERFAULT_PD, USERFAULT_OWN_WALK);
	userfault_runner_assert_waits(&r);
	userfault_runner_kick(&r);
	userfault_runner_join(&r);
	TEST_ASSERT(r.ret == -1 && r.error == EINTR, "KVM_RUN: %d (%s)", r.ret,
		    strerror(r.error));

	userfault_take_run_ok(t, vcpu);
	assert_done(vcpu, USERFAULT_READ, t->s);
	userfault_take_assert_one(t, USERFAULT_PD, USERFAULT_OWN_WALK);
}

/* Nobody serves: KVM_RUN exits, each time, until the table is there. */
static void test_exits(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	int level, i, j;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		for (level = 0; level < NR_LEVELS; level++) {
			forget_data(t->s);
			userfault_take(t, tables[level]);
			order(t->s, ops[i]);
			for (j = 0; j < 2; j++)
				userfault_run_expect(vcpu,
						     userfault_gpa(t->s, tables[level]),
						     USERFAULT_OWN_WALK);
			userfault_give(t, tables[level]);
			userfault_run(vcpu);
			assert_done(vcpu, ops[i], t->s);
		}
	}
}

/* A table whose bit cannot be read is one more reason to exit, fd or not. */
static void test_unreadable(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	struct userfault_slot *s = t->s;

	forget_data(s);
	order(s, USERFAULT_READ);
	userfault_slot_update(s, s->region.flags, (u64 *)PAGE_SIZE);
	userfault_run_expect(vcpu, userfault_gpa(s, PAGE_ROOT),
			     USERFAULT_OWN_WALK | KVM_MEMORY_EXIT_FLAG_BITMAP);
	userfault_slot_update(s, s->region.flags, s->bitmap);
	userfault_run(vcpu);
	assert_done(vcpu, USERFAULT_READ, s);
}

/* An ioctl that walks fails, and tells nobody. */
static void test_translate(struct userfault_taker *t, struct kvm_vcpu *vcpu)
{
	struct kvm_translation tr = {
		.linear_address = USERFAULT_TABLES_GVA + PAGE_DATA * PAGE_SIZE,
	};

	userfault_take(t, USERFAULT_PD);
	ASSERT_FAILS(__vcpu_ioctl(vcpu, KVM_TRANSLATE, &tr), EFAULT);
	userfault_fd_assert_quiet(t->fd);
	userfault_give(t, USERFAULT_PD);
	vcpu_ioctl(vcpu, KVM_TRANSLATE, &tr);
	TEST_ASSERT_EQ(tr.valid, 1);
	TEST_ASSERT_EQ(tr.physical_address, userfault_gpa(t->s, PAGE_DATA));
}

/*
 * in $PAE_PORT, %al; mov %cr3, %eax; mov %eax, %cr3; jmp to the beginning.  A guest
 * with PAE has KVM read four entries when it sets CR3.
 */
static const u8 pae_code[] = {
	0xe4, PAE_PORT, 0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0xeb, 0xf6
};

static void pae_enter(struct kvm_vcpu *vcpu, struct userfault_slot *s)
{
	const u64 huge = userfault_gpa(s, 0) & ~(BIT_ULL(21) - 1);
	struct kvm_segment *segs[] = { NULL, NULL, NULL, NULL };
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	int i;

	/* The slot's first 2M are where they are, and the code is among them. */
	memset(userfault_alias(s, PAGE_PDPT), 0, PAGE_SIZE);
	memset(userfault_alias(s, PAGE_PAE_PD), 0, PAGE_SIZE);
	((u64 *)userfault_alias(s, PAGE_PDPT))[huge >> 30] =
		userfault_gpa(s, PAGE_PAE_PD) | BIT_ULL(0);
	((u64 *)userfault_alias(s, PAGE_PAE_PD))[huge >> 21 & 511] = huge | 0xe3;
	memcpy(userfault_alias(s, PAGE_PAE_CODE), pae_code, sizeof(pae_code));

	vcpu_sregs_get(vcpu, &sregs);
	sregs.efer = 0;
	sregs.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_ET;
	sregs.cr4 = X86_CR4_PAE;
	sregs.cr3 = userfault_gpa(s, PAGE_PDPT);
	segs[0] = &sregs.ds;
	segs[1] = &sregs.es;
	segs[2] = &sregs.ss;
	segs[3] = &sregs.cs;
	for (i = 0; i < ARRAY_SIZE(segs); i++) {
		*segs[i] = (struct kvm_segment) {
			.limit = 0xffffffff, .selector = i == 3 ? 8 : 16, .type = i == 3 ? 11 : 3,
			.s = 1, .present = 1, .db = 1, .g = 1,
		};
	}
	vcpu_sregs_set(vcpu, &sregs);

	vcpu_regs_get(vcpu, &regs);
	regs.rip = userfault_gpa(s, PAGE_PAE_CODE);
	regs.rflags = 2;
	vcpu_regs_set(vcpu, &regs);
}

static void test_pdptrs(void)
{
	struct userfault_taker *t;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i;

	pr_info("pdptrs\n");
	vm = create_vm(&vcpu, &s, true, USERFAULT_ANON);
	t = userfault_taker_create(s, true);
	pae_enter(vcpu, s);

	userfault_run(vcpu);
	for (i = 0; i < 3; i++) {
		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
		TEST_ASSERT_EQ(vcpu->run->io.port, PAE_PORT);
		vcpu_run_complete_io(vcpu);
		userfault_take(t, PAGE_PDPT);
		userfault_take_run_ok(t, vcpu);
		userfault_take_assert_one(t, PAGE_PDPT, USERFAULT_OWN_READ);
	}

	userfault_taker_free(t);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

static void test_walks(enum userfault_backing backing)
{
	struct userfault_taker *t;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	pr_info("%s\n", userfault_backing_name(backing));
	vm = create_vm(&vcpu, &s, true, backing);

	t = userfault_taker_create(s, false);
	test_exits(t, vcpu);
	test_unreadable(t, vcpu);
	userfault_taker_free(t);

	t = userfault_taker_create(s, true);
	test_levels(t, vcpu);
	test_whole_walk(t, vcpu);
	test_signal(t, vcpu);
	test_unreadable(t, vcpu);
	test_translate(t, vcpu);
	/* The handler has gone. */
	close(t->fd);
	t->fd = -1;
	test_exits(t, vcpu);
	userfault_taker_free(t);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* Without the feature KVM takes what is there, here a table as it was. */
static void test_not_asked_for(void)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int level;

	vm = create_vm(&vcpu, &s, false, USERFAULT_ANON);
	for (level = 0; level < NR_LEVELS; level++) {
		forget_data(s);
		userfault_set_bit(s, tables[level]);
		userfault_rescan(s, tables[level], 1);
		order(s, USERFAULT_READ);
		userfault_run(vcpu);
		assert_done(vcpu, USERFAULT_READ, s);
		userfault_clear_bit(s, tables[level]);
	}
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(!kvm_is_tdp_enabled());

	test_walks(USERFAULT_ANON);
	test_walks(USERFAULT_SHMEM);
	test_walks(USERFAULT_GMEM);
	test_not_asked_for();
	test_pdptrs();
	return 0;
}
