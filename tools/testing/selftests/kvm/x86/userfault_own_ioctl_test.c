// SPDX-License-Identifier: GPL-2.0
/*
 * Ioctls that read or write the guest's memory, apart from KVM_RUN: if a page that
 * they need is absent they fail, and have done nothing.  They do not wait, since
 * whoever calls them may be the one who fills the page, and no event comes of them.
 */
#include <unistd.h>

#include <asm/kvm_para.h>
#include <asm/pvclock-abi.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_own_page.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define NPAGES		16ul
/* The guest's uppermost page table, and one of the next level. */
#define TOP_PAGE	1ul
#define NEXT_PAGE	2ul
#define CLOCK_PAGE	3ul
/* In the address space of system management mode, at the same place. */
#define SMM_SLOT	((1 << 16) | 11)

/* Guest addresses that this entry of the former maps, as the first one does. */
#define ALIAS		14ul
#define ALIAS_GVA	(ALIAS << (12 + 9 * (vm->mmu.pgtable_levels - 1)))

static void guest_code(void)
{
	for (;;)
		GUEST_SYNC(0);
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct userfault_slot *s;

/* A page is absent, and nobody may see what it contains. */
static void take(u64 page)
{
	struct userfault_own o = { .vcpu = vcpu, .s = s, .page = page };

	userfault_own_take(&o);
}

static void assert_untouched(u64 page)
{
	struct userfault_own o = { .vcpu = vcpu, .s = s, .page = page };

	userfault_own_assert_untouched(&o);
}

static void create(u64 features)
{
	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, features);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_GMEM, KVM_MEM_USERFAULT);
}

static void destroy(void)
{
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

#define PTE_FLAGS	(PTE_PRESENT_MASK(&vm->mmu) | PTE_WRITABLE_MASK(&vm->mmu))

static void fill_tables(u64 page)
{
	u64 *old = addr_gpa2hva(vm, vm->mmu.pgd);
	u64 *table = userfault_alias(s, page);

	if (page == TOP_PAGE) {
		memcpy(table, old, PAGE_SIZE);
		table[ALIAS] = userfault_gpa(s, NEXT_PAGE) | PTE_FLAGS;
	} else {
		memcpy(table, addr_gpa2hva(vm, old[0] & PHYSICAL_PAGE_MASK), PAGE_SIZE);
	}
	userfault_clear_bit(s, page);
}

static int translate(u64 gva, struct kvm_translation *tr)
{
	*tr = (struct kvm_translation) { .linear_address = gva };
	return __vcpu_ioctl(vcpu, KVM_TRANSLATE, tr);
}

static void assert_translates(u64 gva)
{
	struct kvm_translation tr;

	TEST_ASSERT(!translate(ALIAS_GVA + gva, &tr), "KVM_TRANSLATE: %s", strerror(errno));
	TEST_ASSERT(tr.valid, "It is not mapped");
	TEST_ASSERT_EQ(tr.physical_address, addr_gva2gpa(vm, gva));
}

#define assert_no_translation(gva, fd)					\
do {									\
	struct kvm_translation __tr;					\
									\
	ASSERT_FAILS(translate(ALIAS_GVA + (gva), &__tr), EFAULT);	\
	userfault_fd_assert_quiet(fd);					\
} while (0)

static void test_translate(void)
{
	u64 gva = (u64)guest_code & ~(PAGE_SIZE - 1ul), own_waits;
	struct kvm_translation tr;
	struct kvm_sregs sregs;
	u64 *bitmap;
	int fd;

	pr_info("KVM_TRANSLATE\n");

	create(USERFAULT_OWN_FEATURES);
	bitmap = s->bitmap;
	fd = userfault_fd_create(vm, KVM_USERFAULT_FD_VCPU);
	own_waits = vcpu_get_stat(vcpu, userfault_own_waits);
	take(TOP_PAGE);
	take(NEXT_PAGE);
	vcpu_sregs_get(vcpu, &sregs);
	sregs.cr3 = userfault_gpa(s, TOP_PAGE);
	vcpu_sregs_set(vcpu, &sregs);

	/* Level by level, and then again. */
	for (int i = 0; i < 2; i++) {
		assert_no_translation(gva, fd);
		assert_untouched(TOP_PAGE);
		fill_tables(TOP_PAGE);
		assert_no_translation(gva, fd);
		assert_untouched(NEXT_PAGE);
		fill_tables(NEXT_PAGE);
		assert_translates(gva);

		userfault_slot_update(s, s->region.flags, NULL);
		assert_no_translation(gva, fd);
		userfault_slot_update(s, s->region.flags, bitmap);
		assert_translates(gva);

		take(NEXT_PAGE);
		assert_no_translation(gva, fd);
		assert_untouched(NEXT_PAGE);
		/* What does not need that page is not affected. */
		TEST_ASSERT(!translate(gva, &tr) && tr.valid, "It needs no absent page");
		take(TOP_PAGE);
	}

	/* None of that has left anything behind: the guest goes on. */
	fill_tables(TOP_PAGE);
	fill_tables(NEXT_PAGE);
	userfault_run_sync(vcpu);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_own_waits), own_waits);
	close(fd);
	destroy();
}

/* Without the feature it is as it was: KVM reads what is there. */
static void test_translate_not_own(void)
{
	struct kvm_translation tr;
	struct kvm_sregs sregs;

	create(USERFAULT_OWN_FEATURES & ~KVM_USERFAULT_FEATURE_OWN);
	memset(userfault_alias(s, TOP_PAGE), 0, PAGE_SIZE);
	vcpu_sregs_get(vcpu, &sregs);
	sregs.cr3 = userfault_gpa(s, TOP_PAGE);
	vcpu_sregs_set(vcpu, &sregs);
	TEST_ASSERT(!translate(GPA, &tr) && !tr.valid, "KVM_TRANSLATE");
	destroy();
}

static void enter_smm(void)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	events.smi.smm = 1;
	vcpu_events_set(vcpu, &events);
}

/*
 * PAE's page directory pointers are loaded when the registers are set.  If they cannot
 * be, no register is.  In @smm they are not where they would be outside of it.
 */
static void test_sregs(bool smm)
{
	struct kvm_sregs before, sregs, after;
	struct userfault_slot *outside = NULL;
	int fd;

	pr_info("KVM_SET_SREGS%s\n", smm ? " in SMM" : "");

	create(USERFAULT_OWN_FEATURES);
	if (smm) {
		outside = s;
		userfault_clear_all(outside);
		s = userfault_slot_create(vm, SMM_SLOT, GPA, NPAGES, USERFAULT_ANON,
					  KVM_MEM_USERFAULT);
		enter_smm();
	}
	fd = userfault_fd_create(vm, KVM_USERFAULT_FD_VCPU);
	vcpu_sregs_get(vcpu, &before);
	sregs = before;
	sregs.cr3 = userfault_gpa(s, TOP_PAGE);
	sregs.cr2 = 0x1234;
	sregs.efer &= ~(EFER_LME | EFER_LMA);
	sregs.cs.l = 0;
	TEST_ASSERT((sregs.cr0 & X86_CR0_PG) && (sregs.cr4 & X86_CR4_PAE), "No paging");

	take(TOP_PAGE);
	TEST_ASSERT(__vcpu_ioctl(vcpu, KVM_SET_SREGS, &sregs) == -1 && errno == EFAULT,
		    "KVM_SET_SREGS: %s", strerror(errno));
	vcpu_sregs_get(vcpu, &after);
	TEST_ASSERT(!memcmp(&after, &before, sizeof(after)), "A register was set");
	assert_untouched(TOP_PAGE);
	userfault_fd_assert_quiet(fd);

	memset(userfault_alias(s, TOP_PAGE), 0, PAGE_SIZE);
	userfault_clear_bit(s, TOP_PAGE);
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_sregs_get(vcpu, &after);
	TEST_ASSERT(after.cr3 == sregs.cr3 && after.cr2 == sregs.cr2, "A register was not set");
	if (smm) {
		/* What is absent outside does not matter. */
		userfault_set_all(outside);
		vcpu_sregs_set(vcpu, &sregs);
		userfault_slot_free(outside);
	}
	close(fd);
	destroy();
}

/* The VMM sets an MSR that has KVM write to the guest: nothing is, half or whole. */
static void test_wall_clock(u32 msr, bool unreadable)
{
	const struct pvclock_wall_clock content = { .version = 100 };
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entries[3];
	} msrs = {
		.header.nmsrs = 3,
		.entries = {
			{ .index = MSR_KVM_ASYNC_PF_INT, .data = 0x30 },
			{ .index = msr },
			{ .index = MSR_KVM_POLL_CONTROL, .data = 1 },
		},
	};
	struct userfault_own o = {
		.page = CLOCK_PAGE,
		.content = &content,
		.size = sizeof(content),
	};
	const struct pvclock_wall_clock *wall;
	u64 *bitmap, own_waits;
	int fd;

	pr_info("KVM_SET_MSRS of 0x%x%s\n", msr, unreadable ? ", bitmap unreadable" : "");

	create(USERFAULT_OWN_FEATURES);
	o.s = s;
	o.vcpu = vcpu;
	bitmap = s->bitmap;
	msrs.entries[1].data = userfault_gpa(s, CLOCK_PAGE);
	fd = userfault_fd_create(vm, KVM_USERFAULT_FD_VCPU);
	own_waits = vcpu_get_stat(vcpu, userfault_own_waits);

	take(CLOCK_PAGE);
	if (unreadable) {
		userfault_clear_bit(s, CLOCK_PAGE);
		userfault_slot_update(s, s->region.flags, NULL);
	}
	TEST_ASSERT_EQ(__vcpu_ioctl(vcpu, KVM_SET_MSRS, &msrs.header), 1);
	assert_untouched(CLOCK_PAGE);
	TEST_ASSERT_EQ(vcpu_get_msr(vcpu, msr), 0);
	userfault_fd_assert_quiet(fd);

	if (unreadable)
		userfault_slot_update(s, s->region.flags, bitmap);
	userfault_own_give(&o);
	TEST_ASSERT_EQ(__vcpu_ioctl(vcpu, KVM_SET_MSRS, &msrs.header), 3);
	TEST_ASSERT_EQ(vcpu_get_msr(vcpu, msr), userfault_gpa(s, CLOCK_PAGE));
	wall = userfault_own_part(&o);
	TEST_ASSERT_EQ(wall->version, 102);
	TEST_ASSERT(wall->sec || wall->nsec, "There is no time");
	userfault_own_assert_rest(&o);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_own_waits), own_waits);
	close(fd);
	destroy();
}

/* Without a wall clock there is no page, not even the first one. */
static void test_no_wall_clock(u32 msr)
{
	pr_info("KVM_SET_MSRS of 0x%x to 0\n", msr);

	vm = vm_create_barebones();
	vcpu = __vm_vcpu_add(vm, 0);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, USERFAULT_OWN_FEATURES);
	s = userfault_slot_create(vm, SLOT, 0, NPAGES, USERFAULT_ANON, KVM_MEM_USERFAULT);
	take(0);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, msr, userfault_gpa(s, 0) + 64), 0);
	TEST_ASSERT_EQ(_vcpu_set_msr(vcpu, msr, 0), 1);
	assert_untouched(0);
	destroy();
}

/* Ioctls that only tell KVM where something is touch nothing, and so succeed. */
static void test_addresses(void)
{
	const struct {
		u32 msr;
		u64 flags;
	} msrs[] = {
		{ MSR_KVM_STEAL_TIME, KVM_MSR_ENABLED },
		{ MSR_KVM_SYSTEM_TIME_NEW, KVM_MSR_ENABLED },
		{ MSR_KVM_SYSTEM_TIME, KVM_MSR_ENABLED },
		{ MSR_KVM_PV_EOI_EN, KVM_MSR_ENABLED },
	};
	struct kvm_vapic_addr va;
	struct kvm_mp_state mp;
	int fd, i;

	pr_info("addresses\n");

	create(USERFAULT_OWN_FEATURES);
	fd = userfault_fd_create(vm, KVM_USERFAULT_FD_VCPU);
	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		take(4 + i);
		vcpu_set_msr(vcpu, msrs[i].msr, userfault_gpa(s, 4 + i) | msrs[i].flags);
	}
	take(12);
	va.vapic_addr = userfault_gpa(s, 12);
	vcpu_ioctl(vcpu, KVM_SET_VAPIC_ADDR, &va);
	vcpu_ioctl(vcpu, KVM_GET_MP_STATE, &mp);
	vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp);

	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		assert_untouched(4 + i);
	assert_untouched(12);
	userfault_fd_assert_quiet(fd);
	close(fd);
	destroy();
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_SMM));

	test_translate();
	test_translate_not_own();
	test_sregs(false);
	test_sregs(true);
	for (int unreadable = 0; unreadable < 2; unreadable++) {
		test_wall_clock(MSR_KVM_WALL_CLOCK, unreadable);
		test_wall_clock(MSR_KVM_WALL_CLOCK_NEW, unreadable);
	}
	test_no_wall_clock(MSR_KVM_WALL_CLOCK);
	test_no_wall_clock(MSR_KVM_WALL_CLOCK_NEW);
	test_addresses();

	return 0;
}
