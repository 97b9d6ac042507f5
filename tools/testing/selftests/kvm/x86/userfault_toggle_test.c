// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault switched on and off on a live memslot, and its bitmap
 * exchanged: what is mapped and what exits before and after, for each kind of
 * memory, together with dirty logging, and with the levels of mappings.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/sizes.h>
#include <linux/userfaultfd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_util.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		(2 * SZ_2M / PAGE_SIZE)
#define GENERATION	5

static u64 guest_first, guest_nr, guest_generation;

/* Checks a number of pages in full, again and again. */
static void guest_code(void)
{
	for (;;) {
		u64 generation = READ_ONCE(guest_generation);
		u64 first = READ_ONCE(guest_first);
		u64 nr = READ_ONCE(guest_nr), i;

		for (i = first; i < first + nr; i++) {
			int bad = userfault_pattern_check((void *)(GVA + i * PAGE_SIZE),
							  PAGE_SIZE,
							  GPA / PAGE_SIZE + i,
							  generation);

			GUEST_ASSERT_EQ(bad, -1);
		}
		GUEST_SYNC(0);
	}
}

static void set_guest_range(struct kvm_vm *vm, u64 first, u64 nr, u64 generation)
{
	guest_first = first;
	guest_nr = nr;
	guest_generation = generation;
	sync_global_to_guest(vm, guest_first);
	sync_global_to_guest(vm, guest_nr);
	sync_global_to_guest(vm, guest_generation);
}

static void fill_all(struct userfault_slot *s, u64 generation)
{
	for (u64 i = 0; i < s->npages; i++)
		userfault_fill(s, i, generation);
}

/* Late arming drops what is mapped and absent, and only from then on exits. */
static void test_arm_disarm(enum userfault_backing backing, u32 flags)
{
	const u64 absent[] = { 0, 7, 8, 63, 64, 511, 512, NPAGES - 1 };
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i, round;

	pr_info("arm and disarm: %s%s%s\n", userfault_backing_name(backing),
		flags & KVM_MEM_LOG_DIRTY_PAGES ? ", dirty logging" : "",
		flags & KVM_MEM_READONLY ? ", read-only" : "");

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, flags);
	virt_map(vm, GVA, GPA, NPAGES);
	fill_all(s, GENERATION);
	set_guest_range(vm, 0, NPAGES, GENERATION);
	userfault_run_sync(vcpu);

	for (round = 0; round < 3; round++) {
		/* The bits alone take nothing away that is mapped. */
		userfault_clear_all(s);
		for (i = 0; i < ARRAY_SIZE(absent); i++)
			userfault_set_bit(s, absent[i]);
		userfault_run_sync(vcpu);

		userfault_arm(s);
		for (i = 0; i < ARRAY_SIZE(absent); i++) {
			userfault_run_expect(vcpu, userfault_gpa(s, absent[i]), 0);
			userfault_resolve(s, absent[i], GENERATION);
		}
		userfault_run_sync(vcpu);

		/* All absent, and then off: nothing exits any more. */
		userfault_set_all(s);
		userfault_disarm(s);
		userfault_run_sync(vcpu);
	}

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* A new pointer in the same call is a new map, and the old one is history. */
static void test_pointer_change(enum userfault_backing backing)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 *other;

	pr_info("another bitmap: %s\n", userfault_backing_name(backing));

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	fill_all(s, GENERATION);
	set_guest_range(vm, 0, NPAGES, GENERATION);

	userfault_clear_all(s);
	userfault_arm(s);
	userfault_run_sync(vcpu);

	/* Page 3 is absent in the new one. */
	other = kvm_mmap(s->bitmap_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1);
	other[0] = BIT(3);
	userfault_slot_update(s, s->region.flags, other);
	userfault_set_all(s);
	TEST_ASSERT(!mprotect(s->bitmap, s->bitmap_size, PROT_NONE), "mprotect");
	userfault_run_expect(vcpu, userfault_gpa(s, 3), 0);
	__atomic_store_n(&other[0], 0, __ATOMIC_RELEASE);
	userfault_run_sync(vcpu);

	/* NULL: legal, unreadable, and so nothing stays mapped. */
	userfault_slot_update(s, s->region.flags, NULL);
	TEST_ASSERT(__userfault_run(vcpu) == -1 && errno == EFAULT &&
		    vcpu->run->exit_reason == KVM_EXIT_UNKNOWN,
		    "With a NULL bitmap: exit reason %u", vcpu->run->exit_reason);

	userfault_slot_update(s, s->region.flags, other);
	userfault_run_sync(vcpu);

	kvm_munmap(other, s->bitmap_size);
	TEST_ASSERT(!mprotect(s->bitmap, s->bitmap_size, PROT_READ | PROT_WRITE),
		    "mprotect");
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* The flag and dirty logging changed by one ioctl, in every combination. */
static void test_dirty_logging(void)
{
	const u32 both = KVM_MEM_USERFAULT | KVM_MEM_LOG_DIRTY_PAGES;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u32 from, to;
	int i, j;
	const u32 combination[] = {
		0, KVM_MEM_USERFAULT, KVM_MEM_LOG_DIRTY_PAGES, both,
	};

	pr_info("together with dirty logging\n");

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON_THP, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	fill_all(s, GENERATION);
	set_guest_range(vm, 0, NPAGES, GENERATION);

	for (i = 0; i < ARRAY_SIZE(combination); i++) {
		for (j = 0; j < ARRAY_SIZE(combination); j++) {
			from = combination[i];
			to = combination[j];

			userfault_clear_all(s);
			userfault_slot_update(s, from, s->bitmap);
			userfault_run_sync(vcpu);

			userfault_set_bit(s, 5);
			userfault_slot_update(s, to, s->bitmap);
			/*
			 * Armed all along, the page stays mapped, so only what
			 * has just been armed has to exit.
			 */
			if (to & ~from & KVM_MEM_USERFAULT) {
				userfault_run_expect(vcpu, userfault_gpa(s, 5), 0);
				userfault_resolve(s, 5, GENERATION);
			}
			userfault_run_sync(vcpu);
		}
	}
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/*
 * A 2M page of the host stays one mapping while all of its bits are clear; one
 * set bit makes it small, and clear bits, or the flag going off, large again.
 */
static void test_levels(void)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 small, huge;

	if (!kvm_is_tdp_enabled()) {
		pr_info("levels: the guest's own page tables decide\n");
		return;
	}
	pr_info("levels\n");

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON_THP, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	fill_all(s, GENERATION);
	set_guest_range(vm, 0, NPAGES, GENERATION);

	/* What the guest itself takes, code and page tables, comes on top. */
	huge = vm_get_stat(vm, pages_2m);
	userfault_run_sync(vcpu);
	small = vm_get_stat(vm, pages_4k);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 2);

	/* Armed with clear bits: nothing has to change. */
	userfault_clear_all(s);
	userfault_arm(s);
	userfault_run_sync(vcpu);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 2);
	userfault_disarm(s);

	/* One bit in the first half. */
	userfault_set_bit(s, 100);
	userfault_arm(s);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);
	userfault_run_expect(vcpu, userfault_gpa(s, 100), 0);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), small + 100);

	/* Its fault is the one that finds all bits clear. */
	userfault_resolve(s, 100, GENERATION);
	userfault_run_sync(vcpu);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 2);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), small);

	/* Small mappings that no further fault would join come back at the end. */
	userfault_disarm(s);
	userfault_set_bit(s, 200);
	userfault_arm(s);
	set_guest_range(vm, 0, 200, GENERATION);
	userfault_run_sync(vcpu);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), small + 200);
	userfault_disarm(s);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 2);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), small);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/*
 * The map begins with the slot, not with 2M: in a slot that begins 5 pages
 * behind a 2M boundary the bits of a 2M span are spread over 65 bytes.  The
 * span's first and last page count, their neighbours outside do not.
 */
static void test_levels_unaligned(void)
{
	const u64 offset = 5, span = SZ_2M / PAGE_SIZE, nr = 3 * span;
	/* In pages of the slot. */
	const u64 first = span - offset, last = first + span - 1;
	const u64 inside[] = { first, first + 1, first + span / 2, last - 1, last };
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 small, huge;
	int i;

	if (!kvm_is_tdp_enabled())
		return;
	pr_info("levels, slot not aligned\n");

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	s = userfault_slot_create(vm, SLOT, GPA + offset * PAGE_SIZE, nr,
				  USERFAULT_ANON_THP, 0);
	virt_map(vm, GVA + offset * PAGE_SIZE, GPA + offset * PAGE_SIZE, nr);
	fill_all(s, GENERATION);
	userfault_clear_all(s);

	/* All of it, to get the guest's own code and tables mapped; then drop it. */
	set_guest_range(vm, offset, nr, GENERATION);
	userfault_run_sync(vcpu);
	userfault_set_all(s);
	userfault_arm(s);
	small = vm_get_stat(vm, pages_4k);
	huge = vm_get_stat(vm, pages_2m);
	userfault_disarm(s);
	userfault_clear_all(s);

	userfault_set_bit(s, first - 1);
	userfault_set_bit(s, last + 1);
	userfault_arm(s);
	set_guest_range(vm, offset + first, span, GENERATION);
	userfault_run_sync(vcpu);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), small);
	userfault_disarm(s);
	userfault_clear_all(s);

	for (i = 0; i < ARRAY_SIZE(inside); i++) {
		userfault_set_bit(s, inside[i]);
		userfault_arm(s);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge);

		/* A page of the span that is present, next to it or far away. */
		set_guest_range(vm, offset + (inside[i] == first ? last : first), 1,
				GENERATION);
		userfault_run_sync(vcpu);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), small + 1);

		set_guest_range(vm, offset + inside[i], 1, GENERATION);
		userfault_run_expect(vcpu, userfault_gpa(s, inside[i]), 0);
		userfault_resolve(s, inside[i], GENERATION);
		userfault_run_sync(vcpu);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_4k), small);
		userfault_disarm(s);
	}

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/*
 * Armed and disarmed while a vCPU runs.  Whenever the ioctl that armed the slot
 * has returned, an absent page can be rewritten without the guest seeing it:
 * the guest checks whole pages of one generation.
 */
static void test_running(enum userfault_backing backing)
{
	struct userfault_loop loop;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int round;

	pr_info("with a vCPU running: %s\n", userfault_backing_name(backing));

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	fill_all(s, GENERATION);
	set_guest_range(vm, 0, 64, GENERATION);

	userfault_loop_start(&loop, vcpu);

	for (round = 0; round < 100; round++) {
		u64 page = round % 64;

		userfault_set_bit(s, page);
		userfault_arm(s);
		/* Nobody can see this. */
		memset(userfault_alias(s, page), 0xee, PAGE_SIZE);
		usleep(200);
		userfault_resolve(s, page, GENERATION);
		usleep(200);
		userfault_disarm(s);
	}

	userfault_loop_stop(&loop);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/*
 * Dirty logging going off makes mappings large again, but not over a page that
 * is absent: here one that was never there, among others that are.
 */
static void test_dirty_log_recovery(void)
{
	const u32 both = KVM_MEM_USERFAULT | KVM_MEM_LOG_DIRTY_PAGES;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	pr_info("dirty logging goes off, page absent\n");

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON_THP, both);
	virt_map(vm, GVA, GPA, NPAGES);
	fill_all(s, GENERATION);
	userfault_clear_all(s);
	userfault_set_bit(s, 5);
	set_guest_range(vm, 0, 5, GENERATION);
	userfault_run_sync(vcpu);

	userfault_slot_update(s, KVM_MEM_USERFAULT, s->bitmap);
	set_guest_range(vm, 0, NPAGES, GENERATION);
	userfault_run_expect(vcpu, userfault_gpa(s, 5), 0);
	userfault_resolve(s, 5, GENERATION);
	userfault_run_sync(vcpu);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

static bool ioctl_done;

static void *disarm_thread(void *arg)
{
	userfault_disarm(arg);
	WRITE_ONCE(ioctl_done, true);
	return NULL;
}

/*
 * A vCPU is in the middle of reading the bitmap, which userfaultfd keeps from
 * it: switching userfault off has to wait until it has finished.
 */
static void test_reader_in_flight(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_zeropage zero = {};
	struct uffdio_register reg = {};
	struct pollfd pollfd = { .events = POLLIN };
	struct userfault_loop loop;
	pthread_t ioctl_tid;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct uffd_msg msg;
	struct kvm_vm *vm;
	u64 *map;
	int uffd;

	pr_info("the bitmap is being read\n");

	uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	pollfd.fd = uffd;
	TEST_ASSERT(uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api), "userfaultfd");

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	s = userfault_slot_alloc(vm, SLOT, GPA, NPAGES, USERFAULT_ANON);
	/* Private and untouched: the first to read it asks userfaultfd. */
	map = kvm_mmap(s->bitmap_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1);
	reg.range.start = (uintptr_t)map;
	reg.range.len = s->bitmap_size;
	reg.mode = UFFDIO_REGISTER_MODE_MISSING;
	TEST_ASSERT(!ioctl(uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	userfault_slot_update(s, KVM_MEM_USERFAULT, map);
	virt_map(vm, GVA, GPA, NPAGES);
	fill_all(s, GENERATION);
	set_guest_range(vm, 0, 1, GENERATION);

	userfault_loop_start(&loop, vcpu);
	TEST_ASSERT(poll(&pollfd, 1, 20000) == 1 &&
		    read(uffd, &msg, sizeof(msg)) == sizeof(msg) &&
		    msg.event == UFFD_EVENT_PAGEFAULT, "No read of the bitmap");

	WRITE_ONCE(ioctl_done, false);
	kvm_pthread_create(&ioctl_tid, NULL, disarm_thread, s);
	usleep(300000);
	TEST_ASSERT(!READ_ONCE(ioctl_done),
		    "The ioctl returned while the bitmap was being read");

	zero.range = reg.range;
	TEST_ASSERT(!ioctl(uffd, UFFDIO_ZEROPAGE, &zero), "UFFDIO_ZEROPAGE");
	kvm_pthread_join(ioctl_tid, NULL);

	userfault_loop_stop(&loop);
	close(uffd);
	kvm_munmap(map, s->bitmap_size);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	static const enum userfault_backing backings[] = {
		USERFAULT_ANON, USERFAULT_ANON_THP, USERFAULT_SHMEM,
		USERFAULT_GMEM,
	};
	int i;

	TEST_REQUIRE_USERFAULT();

	for (i = 0; i < ARRAY_SIZE(backings); i++) {
		test_arm_disarm(backings[i], 0);
		test_pointer_change(backings[i]);
		test_running(backings[i]);
	}
	test_arm_disarm(USERFAULT_ANON, KVM_MEM_LOG_DIRTY_PAGES);
	test_arm_disarm(USERFAULT_ANON, KVM_MEM_READONLY);
	test_dirty_logging();
	test_dirty_log_recovery();
	test_reader_in_flight();
	test_levels();
	test_levels_unaligned();
	return 0;
}
