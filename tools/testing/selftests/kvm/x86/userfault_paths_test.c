// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault: the ways in which the x86 MMU maps pages without an ordinary
 * fault, or maps more than the faulting page, and that none of them maps a page
 * whose bit is set: the fast page fault, dirty logging going on and off,
 * KVM_PRE_FAULT_MEMORY, read-only memslots, NX huge pages and their recovery.
 *
 * The guest's memory is paged by AMD's nested page tables or by shadow ones.
 * EPT, TDX and SEV-SNP share the hooks under test; they are compiled, but no
 * test of this runs on them.
 */
#include <stdlib.h>
#include <unistd.h>

#include <sys/mman.h>

#include <linux/bitmap.h>
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
#define GENERATION	7
#define WRITTEN		0x5757575757575757ull

static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu)
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, userfault_order_code);

	userfault_enable_access(vm);
	return vm;
}

static void ok(struct kvm_vcpu *vcpu, struct userfault_slot *s,
	       enum userfault_op op, u64 page, u64 nr, u64 arg)
{
	userfault_order_ok(vcpu, s, op, GVA, page, nr, arg);
}

static void exits(struct kvm_vcpu *vcpu, struct userfault_slot *s,
		  enum userfault_op op, u64 page)
{
	userfault_order_exits(vcpu, s, op, GVA, page);
}

/* Shadow mappings are no larger than the guest's; nested ones do not care. */
static void map_huge(struct kvm_vm *vm, u64 npages)
{
	virt_map_level(vm, GVA, GPA, npages * PAGE_SIZE,
		       kvm_is_tdp_enabled() ? PG_LEVEL_4K : PG_LEVEL_2M);
}

/* Exactly these pages (bits of @expected) were dirtied since the last time. */
static void check_dirty(struct userfault_slot *s, u64 expected, bool manual)
{
	unsigned long log = 0;

	TEST_ASSERT(s->npages <= BITS_PER_LONG, "One word is not enough");
	kvm_vm_get_dirty_log(s->vm, SLOT, &log);
	TEST_ASSERT(log == expected, "Dirty: 0x%lx instead of 0x%lx", log, expected);
	if (manual)
		kvm_vm_clear_dirty_log(s->vm, SLOT, &log, 0, s->npages);
}

/*
 * Pages that dirty logging has write-protected.  A write to one that is there
 * takes the fast path, in an armed slot as in any other.  A write to one that
 * arming took away exits, although the fast path could have fixed what was
 * there before.
 */
static void test_fast_page_fault(bool manual)
{
	const u64 npages = 16, absent = 3, present = 4;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 fast;

	pr_info("fast page fault, dirty log cleared %s\n",
		manual ? "by KVM_CLEAR_DIRTY_LOG" : "when read");

	vm = create_vm(&vcpu);
	if (manual)
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	s = userfault_slot_create(vm, SLOT, GPA, npages, USERFAULT_ANON,
				  KVM_MEM_LOG_DIRTY_PAGES);
	virt_map(vm, GVA, GPA, npages);

	/* All of them writable, dirty, and then write-protected. */
	ok(vcpu, s, USERFAULT_WRITE, 0, npages, WRITTEN);
	check_dirty(s, BIT(npages) - 1, manual);
	check_dirty(s, 0, manual);

	userfault_set_bit(s, absent);
	userfault_arm(s);
	userfault_scribble(s, absent);

	exits(vcpu, s, USERFAULT_WRITE, absent);
	exits(vcpu, s, USERFAULT_READ, absent);
	check_dirty(s, 0, manual);

	/* Only direct page tables have a fast path. */
	fast = vcpu_get_stat(vcpu, pf_fast);
	ok(vcpu, s, USERFAULT_WRITE, present, 1, WRITTEN + 1);
	if (kvm_is_tdp_enabled())
		TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_fast), fast + 1);
	check_dirty(s, BIT(present), manual);
	TEST_ASSERT_EQ(*(u64 *)userfault_alias(s, present), WRITTEN + 1);

	/* Only the access that goes through makes the page dirty. */
	userfault_resolve(s, absent, GENERATION);
	check_dirty(s, 0, manual);
	ok(vcpu, s, USERFAULT_WRITE, absent, 1, WRITTEN + 2);
	check_dirty(s, BIT(absent), manual);
	TEST_ASSERT_EQ(*(u64 *)userfault_alias(s, absent), WRITTEN + 2);

	/* And the page is now one that the fast path may fix. */
	fast = vcpu_get_stat(vcpu, pf_fast);
	ok(vcpu, s, USERFAULT_WRITE, absent, 1, WRITTEN + 3);
	if (kvm_is_tdp_enabled())
		TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_fast), fast + 1);
	check_dirty(s, BIT(absent), manual);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* Dirty logging on or off, the slot staying as armed as it is. */
static void set_dirty_logging(struct userfault_slot *s, bool on)
{
	u32 flags = s->region.flags & ~KVM_MEM_LOG_DIRTY_PAGES;

	userfault_slot_update(s, flags | (on ? KVM_MEM_LOG_DIRTY_PAGES : 0),
			      s->bitmap);
}

/*
 * Dirty logging goes on and off in an armed slot over and over, which splits
 * the huge pages and puts them together again, with other pages absent each
 * time.  What is absent holds garbage, so a hole that got covered shows.
 */
static void test_dirty_logging_alternating(void)
{
	const u64 npages = 2 * SPAN;
	u64 absent[3], huge = 0, page;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int round, i, j;

	pr_info("dirty logging on and off while armed\n");

	vm = create_vm(&vcpu);
	s = userfault_slot_create(vm, SLOT, GPA, npages, USERFAULT_ANON_THP, 0);
	map_huge(vm, npages);
	userfault_fill_all(s, GENERATION);

	for (round = 0; round < 24; round++) {
		/* One inside each span, and one at the border between them. */
		absent[0] = 1 + round * 37 % (SPAN - 2);
		absent[1] = SPAN + 1 + round * 91 % (SPAN - 1);
		absent[2] = SPAN - 1 + round % 2;

		userfault_clear_all(s);
		for (i = 0; i < ARRAY_SIZE(absent); i++)
			userfault_set_bit(s, absent[i]);
		/* Every other round starts from pages that are mapped small. */
		userfault_slot_update(s, KVM_MEM_USERFAULT |
				      (round & 1 ? KVM_MEM_LOG_DIRTY_PAGES : 0),
				      s->bitmap);
		for (i = 0; i < ARRAY_SIZE(absent); i++)
			userfault_scribble(s, absent[i]);

		for (i = 0; i < ARRAY_SIZE(absent); i++) {
			/* Some of what is there gets mapped first. */
			for (page = 0; page < npages; page += SPAN / 8) {
				if (!userfault_test_bit(s, page))
					ok(vcpu, s, USERFAULT_CHECK, page, 1,
					   GENERATION);
			}

			for (j = 0; j < 2; j++) {
				set_dirty_logging(s, !(round & 1));
				exits(vcpu, s, USERFAULT_READ, absent[i]);
				set_dirty_logging(s, round & 1);
				exits(vcpu, s, USERFAULT_WRITE, absent[i]);
			}

			userfault_resolve(s, absent[i], GENERATION);
			ok(vcpu, s, USERFAULT_CHECK, absent[i], 1, GENERATION);
		}

		/* All there: logging off for good lets them be huge again. */
		set_dirty_logging(s, false);
		ok(vcpu, s, USERFAULT_CHECK, 0, npages, GENERATION);
		userfault_disarm(s);
		ok(vcpu, s, USERFAULT_CHECK, 0, npages, GENERATION);
		if (!round)
			huge = vm_get_stat(vm, pages_2m);
		TEST_ASSERT(huge >= 2, "%lu huge pages", huge);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge);
	}

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

static void pre_fault(struct kvm_vcpu *vcpu, u64 page, u64 nr, int err, u64 done)
{
	struct kvm_pre_fault_memory range = {
		.gpa = GPA + page * PAGE_SIZE,
		.size = nr * PAGE_SIZE,
	};
	int r = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);

	TEST_ASSERT(r == (err ? -1 : 0) && (!err || errno == err) &&
		    range.gpa == GPA + (page + done) * PAGE_SIZE &&
		    range.size == (nr - done) * PAGE_SIZE,
		    "Pages %lu + %lu: wanted errno %d after %lu pages, got %d (%s), gpa 0x%llx size 0x%llx",
		    page, nr, err, done, r, r ? strerror(errno) : "success",
		    range.gpa, range.size);
}

/*
 * How far KVM_PRE_FAULT_MEMORY comes: to the first page whose bit is set, and
 * no further however often it is called; with 2M mappings where all bits of a
 * span are clear.  What it left mapped is what the guest uses.
 */
static void test_pre_fault(void)
{
	const u64 npages = 3 * SPAN, absent = SPAN + 100;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_run before;
	u64 huge, small, faults;
	struct kvm_vm *vm;

	if (!kvm_is_tdp_enabled()) {
		pr_info("KVM_PRE_FAULT_MEMORY: needs nested paging\n");
		return;
	}
	pr_info("KVM_PRE_FAULT_MEMORY\n");

	vm = create_vm(&vcpu);
	s = userfault_slot_create(vm, SLOT, GPA, npages, USERFAULT_ANON_THP, 0);
	virt_map(vm, GVA, GPA, npages);
	userfault_fill_all(s, GENERATION);

	/* All that the guest itself needs gets mapped, and stays. */
	ok(vcpu, s, USERFAULT_CHECK, 0, npages, GENERATION);
	userfault_set_all(s);
	userfault_arm(s);
	userfault_clear_all(s);
	userfault_set_bit(s, absent);
	huge = vm_get_stat(vm, pages_2m);
	small = vm_get_stat(vm, pages_4k);

	memset(vcpu->run, 0xa5, sizeof(*vcpu->run));
	before = *vcpu->run;

	/* The first span huge, then small ones up to the page. */
	pre_fault(vcpu, 0, npages, 0, absent);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), small + 100);
	pre_fault(vcpu, absent, npages - absent, EAGAIN, 0);
	pre_fault(vcpu, absent, 1, EAGAIN, 0);
	pre_fault(vcpu, absent - 1, 2, 0, 1);

	/* Nothing can be read of the map: no progress, no matter which page. */
	TEST_ASSERT(!mprotect(s->bitmap, s->bitmap_size, PROT_NONE), "mprotect");
	pre_fault(vcpu, 2 * SPAN, SPAN, EFAULT, 0);
	TEST_ASSERT(!mprotect(s->bitmap, s->bitmap_size, PROT_READ | PROT_WRITE),
		    "mprotect");

	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), small + 100);
	TEST_ASSERT(!memcmp(&before, vcpu->run, sizeof(before)),
		    "KVM_PRE_FAULT_MEMORY wrote to vcpu->run");
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_exits), 0);

	memset(vcpu->run, 0, sizeof(*vcpu->run));
	exits(vcpu, s, USERFAULT_CHECK, absent);

	/* Resolved, it takes its whole span, and the rest goes through. */
	userfault_resolve(s, absent, GENERATION);
	pre_fault(vcpu, absent, npages - absent, 0, npages - absent);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 3);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), small);

	faults = vcpu_get_stat(vcpu, pf_taken);
	ok(vcpu, s, USERFAULT_CHECK, 0, npages, GENERATION);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_taken), faults);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/*
 * A read-only slot: first of all the page has to be there, be it read, called
 * or written.  Only then a write is MMIO, as in any read-only slot.
 */
static void test_read_only(enum userfault_backing backing)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_run *run;
	struct kvm_vm *vm;
	int i;

	pr_info("read-only: %s\n", userfault_backing_name(backing));

	vm = create_vm(&vcpu);
	s = userfault_slot_create(vm, SLOT, GPA, 8, backing,
				  KVM_MEM_USERFAULT | KVM_MEM_READONLY);
	virt_map(vm, GVA, GPA, 8);
	run = vcpu->run;

	exits(vcpu, s, USERFAULT_READ, 0);
	userfault_resolve(s, 0, GENERATION);
	ok(vcpu, s, USERFAULT_CHECK, 0, 1, GENERATION);

	exits(vcpu, s, USERFAULT_EXEC, 1);
	userfault_fill_code(s, 1);
	userfault_clear_bit(s, 1);
	ok(vcpu, s, USERFAULT_EXEC, 1, 1, 0);

	for (i = 0; i < 2; i++)
		exits(vcpu, s, USERFAULT_WRITE, 2);
	userfault_resolve(s, 2, GENERATION);

	userfault_order(vm, USERFAULT_WRITE, GVA + 2 * PAGE_SIZE, 0, 1, WRITTEN);
	TEST_ASSERT(!__userfault_run(vcpu), "KVM_RUN: %s", strerror(errno));
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT(run->mmio.is_write && run->mmio.len == 8 &&
		    run->mmio.phys_addr == userfault_gpa(s, 2) &&
		    *(u64 *)run->mmio.data == WRITTEN, "Not the write of the guest");
	userfault_order_run(vcpu);
	userfault_check(s, 2, GENERATION);
	ok(vcpu, s, USERFAULT_CHECK, 2, 1, GENERATION);

	/* The page next to it is as absent as before. */
	exits(vcpu, s, USERFAULT_WRITE, 3);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

#define NX_PARAM	"/sys/module/kvm/parameters/nx_huge_pages"

static char nx_saved[3][16];
static const char * const nx_params[] = {
	NX_PARAM, NX_PARAM "_recovery_ratio", NX_PARAM "_recovery_period_ms",
};

static void write_param(const char *path, const char *value)
{
	FILE *f = fopen(path, "w");

	TEST_ASSERT(f && fputs(value, f) >= 0 && !fclose(f), "%s: %s", path,
		    strerror(errno));
}

static void restore_nx_params(void)
{
	for (int i = 0; i < ARRAY_SIZE(nx_params); i++)
		write_param(nx_params[i], nx_saved[i]);
}

/* Recover all split huge pages, ten times a second. */
static void set_nx_params(void)
{
	static const char * const values[] = { "Y", "1", "100" };

	for (int i = 0; i < ARRAY_SIZE(nx_params); i++) {
		FILE *f = fopen(nx_params[i], "r");

		TEST_ASSERT(f && fgets(nx_saved[i], sizeof(nx_saved[i]), f),
			    "%s: %s", nx_params[i], strerror(errno));
		fclose(f);
	}
	atexit(restore_nx_params);
	for (int i = 0; i < ARRAY_SIZE(nx_params); i++)
		write_param(nx_params[i], values[i]);
}

static void wait_for_nx_recovery(struct kvm_vm *vm)
{
	int ms;

	for (ms = 0; vm_get_stat(vm, nx_lpage_splits); ms += 10) {
		TEST_ASSERT(ms < 60000, "No recovery within a minute");
		usleep(10000);
	}
}

/*
 * With NX huge pages a page that is executed gets a small mapping among its
 * neighbours' large one.  Later on the small mappings of the span are dropped,
 * for the next fault to map a large page; not if a bit was set meanwhile.
 */
static void test_nx_recovery(void)
{
	const u64 called = 6, absent = 7;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 huge, small;

	pr_info("NX huge pages\n");

	set_nx_params();
	vm = create_vm(&vcpu);
	s = userfault_slot_create(vm, SLOT, GPA, SPAN, USERFAULT_ANON_THP, 0);
	map_huge(vm, SPAN);
	for (u64 page = 0; page < SPAN; page++)
		userfault_fill_code(s, page);
	userfault_clear_all(s);
	userfault_arm(s);

	ok(vcpu, s, USERFAULT_READ, 0, 0, 0);
	huge = vm_get_stat(vm, pages_2m);
	ok(vcpu, s, USERFAULT_READ, 0, 1, 0);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);

	/* Split by the call, and small until recovered. */
	ok(vcpu, s, USERFAULT_EXEC, called, 1, 0);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge);
	wait_for_nx_recovery(vm);
	ok(vcpu, s, USERFAULT_READ, called, 1, 0);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);

	/* Split again, and now a page goes away before the recovery comes. */
	ok(vcpu, s, USERFAULT_EXEC, called, 1, 0);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge);
	userfault_set_bit(s, absent);
	userfault_slot_update(s, 0, NULL);
	userfault_arm(s);
	userfault_scribble(s, absent);
	wait_for_nx_recovery(vm);

	small = vm_get_stat(vm, pages_4k);
	ok(vcpu, s, USERFAULT_READ, called, 1, 0);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge);
	TEST_ASSERT(vm_get_stat(vm, pages_4k) > small, "Nothing was mapped");
	exits(vcpu, s, USERFAULT_READ, absent);
	exits(vcpu, s, USERFAULT_EXEC, absent);
	ok(vcpu, s, USERFAULT_EXEC, called, 1, 0);
	wait_for_nx_recovery(vm);
	exits(vcpu, s, USERFAULT_EXEC, absent);

	/*
	 * There again.  Large it is only with userfault off: KVM remembers that
	 * a small page was called in this span, but since that happened while a
	 * bit was set, it does not count it as a huge page to be recovered.
	 */
	userfault_fill_code(s, absent);
	userfault_clear_bit(s, absent);
	ok(vcpu, s, USERFAULT_EXEC, absent, 1, 0);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge);
	userfault_disarm(s);
	ok(vcpu, s, USERFAULT_READ, absent, 1, 0);
	if (kvm_is_tdp_enabled())
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();

	test_fast_page_fault(false);
	test_fast_page_fault(true);
	test_dirty_logging_alternating();
	test_pre_fault();
	test_read_only(USERFAULT_ANON);
	test_read_only(USERFAULT_SHMEM);
	test_nx_recovery();
	return 0;
}
