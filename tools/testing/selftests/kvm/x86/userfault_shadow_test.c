// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault with shadow paging: what the guest does to its page tables lets
 * KVM create, change or keep shadow mappings without an access by the guest.
 * None of that maps an absent page.  And the guest's own 2M pages, over a host
 * page of 2M, are shadowed small as long as a bit is set.
 */
#include <linux/sizes.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_order.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define SPAN		(SZ_2M / PAGE_SIZE)
#define NPAGES		32ul
#define GENERATION	60

/* Where the guest has its own page tables mapped: those of GVA. */
#define PT_GVA		0xe0000000ul
#define PD_GVA		(PT_GVA + PAGE_SIZE)

#define PTE_W		BIT_ULL(1)
#define PTE_A		BIT_ULL(5)
#define PTE_D		BIT_ULL(6)

enum flush { FLUSH_PAGE, FLUSH_ALL, NR_FLUSHES };

static struct {
	/* Table entries to write before the access, and how to flush then. */
	u64 table, first, nr, value[NPAGES];
	u64 flush;
	u64 gva;
	/* Read, or check if there is a generation. */
	u64 gfn, generation;
} guest_plan;

static void guest_code(void)
{
	for (;;) {
		u64 *table = (u64 *)READ_ONCE(guest_plan.table);
		u64 gva = READ_ONCE(guest_plan.gva);
		u64 gen = READ_ONCE(guest_plan.generation);
		u64 i;

		for (i = 0; i < READ_ONCE(guest_plan.nr); i++)
			WRITE_ONCE(table[guest_plan.first + i], guest_plan.value[i]);
		if (READ_ONCE(guest_plan.flush) == FLUSH_PAGE) {
			for (i = 0; i < NPAGES; i++)
				asm volatile("invlpg (%0)" : :
					     "r"(GVA + i * PAGE_SIZE) : "memory");
		} else {
			set_cr3(get_cr3());
		}
		GUEST_SYNC(0);

		if (gen)
			GUEST_ASSERT_EQ(userfault_pattern_check((void *)gva, PAGE_SIZE,
								guest_plan.gfn, gen), -1);
		else
			READ_ONCE(*(u64 *)gva);
		GUEST_SYNC(1);
	}
}

static void run_to(struct kvm_vcpu *vcpu, u64 stage)
{
	struct ucall uc;

	vcpu_run(vcpu);
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT_EQ(uc.cmd, UCALL_SYNC);
	TEST_ASSERT_EQ(uc.args[1], stage);
}

/* The guest's table that maps @gva, as a gpa, and its entry's index. */
static gpa_t table_of(struct kvm_vm *vm, gva_t gva, int level, u64 *index)
{
	const u64 mask = GENMASK_ULL(51, 12);
	gpa_t table = vm->mmu.pgd;
	int l;

	for (l = vm->mmu.pgtable_levels; ; l--) {
		*index = (gva >> (PAGE_SHIFT + 9 * (l - 1))) & 511;
		if (l == level)
			return table;
		table = ((u64 *)addr_gpa2hva(vm, table))[*index] & mask;
	}
}

static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu, struct userfault_slot **s)
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, guest_code);
	u64 index;

	userfault_enable_access(vm);
	*s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	virt_map(vm, PT_GVA, table_of(vm, GVA, PG_LEVEL_4K, &index), 1);
	virt_map(vm, PD_GVA, table_of(vm, GVA, PG_LEVEL_2M, &index), 1);
	userfault_fill_all(*s, GENERATION);

	memset(&guest_plan, 0, sizeof(guest_plan));
	return vm;
}

/* Let the guest write its table; then @page is absent or not. */
static void plan(struct kvm_vm *vm, struct userfault_slot *s, enum flush flush,
		 u64 gva, u64 page, u64 generation)
{
	guest_plan.flush = flush;
	guest_plan.gva = gva;
	guest_plan.gfn = userfault_gfn(s, page);
	guest_plan.generation = generation;
	sync_global_to_guest(vm, guest_plan);
}

static void read_ok(struct kvm_vcpu *vcpu, struct userfault_slot *s,
		    enum flush flush, u64 virt_page, u64 page)
{
	plan(s->vm, s, flush, GVA + virt_page * PAGE_SIZE, page, GENERATION);
	run_to(vcpu, 0);
	run_to(vcpu, 1);
}

/*
 * The tables are written and flushed in an armed slot; only the access exits,
 * at the page that the new entry points at.
 */
static void read_exits(struct kvm_vcpu *vcpu, struct userfault_slot *s,
		       enum flush flush, u64 virt_page, u64 page)
{
	plan(s->vm, s, flush, GVA + virt_page * PAGE_SIZE, page, 0);
	run_to(vcpu, 0);
	userfault_run_expect(vcpu, userfault_gpa(s, page),
			     KVM_MEMORY_EXIT_FLAG_READ);
	userfault_resolve(s, page, GENERATION);
	run_to(vcpu, 1);
	guest_plan.nr = 0;
	read_ok(vcpu, s, flush, virt_page, page);
}

static u64 pte(u64 page, u64 flags)
{
	return (GPA + page * PAGE_SIZE) | PTE_A | PTE_D | BIT_ULL(0) | flags;
}

static void plan_ptes(struct kvm_vm *vm, u64 first, u64 nr, u64 page, u64 flags)
{
	u64 index, i;

	table_of(vm, GVA, PG_LEVEL_4K, &index);
	guest_plan.table = PT_GVA;
	guest_plan.first = index + first;
	guest_plan.nr = nr;
	for (i = 0; i < nr; i++)
		guest_plan.value[i] = flags & BIT_ULL(63) ? 0 : pte(page + i, flags);
}

static void make_absent(struct userfault_slot *s, u64 page, u64 nr)
{
	for (; nr--; page++) {
		userfault_set_bit(s, page);
		userfault_scribble(s, page);
	}
}

/*
 * Entries that are mapped, all of them; arming takes every other page away.
 * The guest then changes the permissions of all, so KVM goes through its shadow
 * of the table (sync_spte): what it dropped has to stay dropped.
 */
static void test_permissions(enum flush flush)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 page;

	pr_info("permissions, %s\n", flush == FLUSH_PAGE ? "INVLPG" : "CR3");
	vm = create_vm(&vcpu, &s);

	/* Read-only, and all of it read. */
	plan_ptes(vm, 0, NPAGES, 0, 0);
	for (page = 0; page < NPAGES; page++) {
		read_ok(vcpu, s, flush, page, page);
		guest_plan.nr = 0;
	}

	for (page = 1; page < NPAGES; page += 2)
		userfault_set_bit(s, page);
	userfault_arm(s);
	for (page = 1; page < NPAGES; page += 2)
		userfault_scribble(s, page);

	plan_ptes(vm, 0, NPAGES, 0, PTE_W);
	for (page = 0; page < NPAGES; page += 2) {
		read_ok(vcpu, s, flush, page, page);
		read_exits(vcpu, s, flush, page + 1, page + 1);
		plan_ptes(vm, 0, NPAGES, 0, page % 4 ? PTE_W : 0);
	}

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/*
 * Entries go from one page to another, and from not present to present, next to
 * entries in use: what they name now is absent, though not in the host.
 */
static void test_entries_move(enum flush flush)
{
	const u64 half = NPAGES / 2;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 page;

	pr_info("entries move, %s\n", flush == FLUSH_PAGE ? "INVLPG" : "CR3");
	vm = create_vm(&vcpu, &s);

	make_absent(s, half, half);
	userfault_arm(s);
	for (page = 0; page < half; page++)
		read_ok(vcpu, s, flush, page, page);

	/* The lower half of the addresses now has the upper half's pages. */
	plan_ptes(vm, 0, half, half, PTE_W);
	for (page = 0; page + 1 < half; page += 3) {
		read_exits(vcpu, s, flush, page, half + page);
		TEST_ASSERT(userfault_test_bit(s, half + page + 1), "Not absent");
	}

	/* Gone from the tables, then back, all at once. */
	plan_ptes(vm, half, half, 0, BIT_ULL(63));
	read_ok(vcpu, s, flush, 0, half);
	plan_ptes(vm, half, half, half, PTE_W);
	read_ok(vcpu, s, flush, half, half);
	guest_plan.nr = 0;
	read_exits(vcpu, s, flush, half + 1, half + 1);
	read_exits(vcpu, s, flush, half + 2, half + 2);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/*
 * The entry of a directory, which is write-protected while it is shadowed and
 * so written by KVM on the guest's behalf (kvm_mmu_track_write()), goes away and
 * comes back.
 */
static void test_directory(enum flush flush)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 index, pde, page, writes;

	pr_info("directory, %s\n", flush == FLUSH_PAGE ? "INVLPG" : "CR3");
	vm = create_vm(&vcpu, &s);

	for (page = 0; page < NPAGES; page++)
		read_ok(vcpu, s, flush, page, page);

	make_absent(s, 4, 8);
	userfault_arm(s);
	pde = ((u64 *)addr_gpa2hva(vm, table_of(vm, GVA, PG_LEVEL_2M, &index)))[index];
	writes = vm_get_stat(vm, mmu_pte_write);

	guest_plan.table = PD_GVA;
	guest_plan.first = index;
	guest_plan.nr = 2;
	for (page = 4; page < 12; page += 2) {
		/* The second write is the one that counts. */
		guest_plan.value[0] = pde;
		guest_plan.value[1] = 0;
		read_ok(vcpu, s, flush, 0, 0);
		guest_plan.first = index;
		guest_plan.nr = 1;
		read_exits(vcpu, s, flush, page, page);
		guest_plan.nr = 1;
	}
	TEST_ASSERT(vm_get_stat(vm, mmu_pte_write) > writes,
		    "KVM has not seen the writes");
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* A 2M page of the guest's, over one of the host's. */
static void test_guest_2m(void)
{
	const u64 absent[] = { 0, 1, 7, 8, 100, 511 };
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 huge, page;
	int i;

	pr_info("2M in the guest's tables\n");

	vm = vm_create_with_one_vcpu(&vcpu, userfault_order_code);
	userfault_enable_access(vm);
	s = userfault_slot_create(vm, SLOT, GPA, 2 * SPAN, USERFAULT_ANON_THP, 0);
	virt_map_level(vm, GVA, GPA, 2 * SZ_2M, PG_LEVEL_2M);
	userfault_fill_all(s, GENERATION);

	huge = vm_get_stat(vm, pages_2m);
	userfault_order_ok(vcpu, s, USERFAULT_CHECK, GVA, 0, 2 * SPAN, GENERATION);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 2);

	for (i = 0; i < ARRAY_SIZE(absent); i++) {
		userfault_set_bit(s, absent[i]);
		userfault_arm(s);
		userfault_scribble(s, absent[i]);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);

		/* Around it, which would prefetch it if it could. */
		for (page = 0; page < SPAN; page++) {
			if (page == absent[i])
				userfault_order_exits(vcpu, s, USERFAULT_READ,
						      GVA, page);
			else
				userfault_order_ok(vcpu, s, USERFAULT_CHECK, GVA,
						   page, 1, GENERATION);
		}
		userfault_order_exits(vcpu, s, USERFAULT_WRITE, GVA, absent[i]);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);

		userfault_resolve(s, absent[i], GENERATION);
		userfault_order_ok(vcpu, s, USERFAULT_CHECK, GVA, absent[i], 1,
				   GENERATION);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 2);
		userfault_order_ok(vcpu, s, USERFAULT_CHECK, GVA, 0, 2 * SPAN,
				   GENERATION);
		userfault_disarm(s);
	}

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	enum flush flush;

	TEST_REQUIRE_USERFAULT();
	__TEST_REQUIRE(!kvm_is_tdp_enabled(), "needs shadow paging");

	for (flush = 0; flush < NR_FLUSHES; flush++) {
		test_permissions(flush);
		test_entries_move(flush);
		test_directory(flush);
	}
	test_guest_2m();
	return 0;
}
