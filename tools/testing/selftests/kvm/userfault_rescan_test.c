// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_USERFAULT_RESCAN: taking single pages back, on a live memslot.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/sizes.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_util.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define SPAN		(SZ_2M / PAGE_SIZE)
#define NPAGES		(2 * SPAN)
#define GENERATION	5

static u64 guest_first, guest_nr;

static u64 guest_generation(u64 page)
{
	u64 *p = (u64 *)(GVA + page * PAGE_SIZE);
	u64 first = userfault_pattern_first(GPA / PAGE_SIZE + page, GENERATION);

	return READ_ONCE(*p) == first ? GENERATION : GENERATION + 1;
}

/* Checks whole pages.  A page can become another generation on the way. */
static void guest_code(void)
{
	for (;;) {
		u64 first = READ_ONCE(guest_first);
		u64 nr = READ_ONCE(guest_nr), i;

		for (i = first; i < first + nr; i++) {
			u64 generation;
			int bad;

			do {
				generation = guest_generation(i);
				bad = userfault_pattern_check((void *)(GVA + i * PAGE_SIZE),
							      PAGE_SIZE,
							      GPA / PAGE_SIZE + i,
							      generation);
			} while (bad != -1 && guest_generation(i) != generation);
			GUEST_ASSERT_EQ(bad, -1);
		}
		GUEST_SYNC(0);
	}
}

static void set_guest(struct kvm_vm *vm, u64 first, u64 nr)
{
	guest_first = first;
	guest_nr = nr;
	sync_global_to_guest(vm, guest_first);
	sync_global_to_guest(vm, guest_nr);
}

static int rescan(struct kvm_vm *vm, struct kvm_userfault_range *range)
{
	return __vm_ioctl(vm, KVM_USERFAULT_RESCAN, range);
}

static struct kvm_userfault_range pages(struct userfault_slot *s, u64 first, u64 nr)
{
	return (struct kvm_userfault_range) {
		.gpa = userfault_gpa(s, first),
		.size = nr * PAGE_SIZE,
	};
}

/* The whole of it; asserts that nothing is left. */
static void rescan_pages(struct userfault_slot *s, u64 first, u64 nr)
{
	struct kvm_userfault_range range = pages(s, first, nr);
	int r = rescan(s->vm, &range);

	TEST_ASSERT(!r, KVM_IOCTL_ERROR(KVM_USERFAULT_RESCAN, r));
	TEST_ASSERT_EQ(range.size, 0);
	TEST_ASSERT_EQ(range.gpa, userfault_gpa(s, first + nr));
}

/* All pages filled, present and mapped. */
static struct kvm_vm *create(struct kvm_vcpu **vcpu, struct userfault_slot **s,
			     enum userfault_backing backing)
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, guest_code);
	u64 i;

	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_RESCAN);
	*s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, KVM_MEM_USERFAULT);
	virt_map(vm, GVA, GPA, NPAGES);
	for (i = 0; i < NPAGES; i++)
		userfault_fill(*s, i, GENERATION);
	userfault_clear_all(*s);
	set_guest(vm, 0, NPAGES);
	userfault_run_sync(*vcpu);
	return vm;
}

static void test_arguments(void)
{
	struct kvm_userfault_range range, good;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	pr_info("arguments\n");

	vm = vm_create_barebones();
	range = (struct kvm_userfault_range) { .gpa = GPA, .size = PAGE_SIZE };
	ASSERT_FAILS(rescan(vm, &range), EPERM);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_RESCAN);
	ASSERT_FAILS(rescan(vm, &range), ENOENT);
	kvm_vm_free(vm);

	vm = create(&vcpu, &s, USERFAULT_ANON);
	good = pages(s, 0, NPAGES);
	ASSERT_FAILS(ioctl(vm->fd, KVM_USERFAULT_RESCAN, NULL), EFAULT);
#define BAD_RANGE(change, error)						\
	do {								\
		struct kvm_userfault_range before;			\
									\
		range = good;						\
		range.change;						\
		before = range;						\
		ASSERT_FAILS(rescan(vm, &range), error);		\
		TEST_ASSERT(!memcmp(&before, &range, sizeof(range)),	\
			    "The range was changed");			\
	} while (0)
	BAD_RANGE(gpa = GPA + 1, EINVAL);
	BAD_RANGE(size = PAGE_SIZE + 1, EINVAL);
	BAD_RANGE(size = 0, EINVAL);
	BAD_RANGE(size = -PAGE_SIZE, EINVAL);
	BAD_RANGE(flags = 1, EINVAL);
	BAD_RANGE(flags = 1ull << 63, EINVAL);
	BAD_RANGE(pad = 1, EINVAL);
	BAD_RANGE(as_id = 7, EINVAL);
	BAD_RANGE(as_id = 0x10000, EINVAL);
	BAD_RANGE(reserved[0] = 1, EINVAL);
	BAD_RANGE(reserved[3] = 1, EINVAL);
	BAD_RANGE(gpa = 2 * GPA, ENOENT);
	/* The address space of SMM has no memslot here. */
	if (vm_check_cap(vm, KVM_CAP_MULTI_ADDRESS_SPACE) > 1)
		BAD_RANGE(as_id = 1, ENOENT);
	userfault_disarm(s);
	BAD_RANGE(as_id = 0, ENOENT);

	/* All address spaces, and far more than there is. */
	userfault_arm(s);
	range = (struct kvm_userfault_range) {
		.size = 1ull << 51,
		.as_id = KVM_USERFAULT_AS_ALL,
	};
	userfault_set_bit(s, 1);
	TEST_ASSERT(!rescan(vm, &range), "RESCAN: %s", strerror(errno));
	TEST_ASSERT_EQ(range.size, 0);
	userfault_run_expect(vcpu, userfault_gpa(s, 1), 0);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* Set, RESCAN, discard: the next access exits, and finds the new content. */
static void test_page_out(enum userfault_backing backing)
{
	const u64 out[] = { 0, 3, 7, 8, 63, 64, 100, 511, 512, 600, NPAGES - 1 };
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i, round;

	pr_info("page out: %s\n", userfault_backing_name(backing));

	vm = create(&vcpu, &s, backing);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < ARRAY_SIZE(out); i++)
			userfault_set_bit(s, out[i]);
		/* The bits alone do nothing. */
		userfault_run_sync(vcpu);
		rescan_pages(s, 0, NPAGES);
		for (i = 0; i < ARRAY_SIZE(out); i++)
			memset(userfault_alias(s, out[i]), 0xee, PAGE_SIZE);
		for (i = 0; i < ARRAY_SIZE(out); i++) {
			userfault_run_expect(vcpu, userfault_gpa(s, out[i]), 0);
			userfault_resolve(s, out[i], GENERATION + !round);
		}
		userfault_run_sync(vcpu);
	}

	/*
	 * Exactly the range, wherever it begins and ends in a byte of bits; only a
	 * huge mapping goes as a whole.
	 */
	for (i = 1; i < 20 && backing != USERFAULT_ANON_THP; i++) {
		userfault_set_all(s);
		rescan_pages(s, i, 11);
		set_guest(vm, 0, i);
		userfault_run_sync(vcpu);
		set_guest(vm, i + 11, 20);
		userfault_run_sync(vcpu);
		set_guest(vm, i, 11);
		userfault_run_expect(vcpu, userfault_gpa(s, i), 0);
		userfault_clear_bits(s, i, 10);
		userfault_run_expect(vcpu, userfault_gpa(s, i + 10), 0);
		userfault_clear_all(s);
		set_guest(vm, 0, NPAGES);
		userfault_run_sync(vcpu);
	}

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* A huge mapping without an absent page stays, and so do other slots. */
static void test_levels(void)
{
	struct userfault_slot *s, *other;
	struct kvm_userfault_range range;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 huge;

	if (!kvm_is_tdp_enabled())
		return;
	pr_info("levels, and several slots\n");

	vm = create(&vcpu, &s, USERFAULT_ANON_THP);
	/* Behind a hole. */
	other = userfault_slot_create(vm, SLOT + 1, GPA + 4 * SZ_2M, NPAGES,
				      USERFAULT_ANON, KVM_MEM_USERFAULT);
	huge = vm_get_stat(vm, pages_2m);

	userfault_set_bit(s, 100);
	rescan_pages(s, 0, NPAGES);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge - 1);
	set_guest(vm, SPAN, SPAN);
	userfault_run_sync(vcpu);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge - 1);

	/* One page of the second span, but outside of the range. */
	userfault_set_bit(s, SPAN + 9);
	rescan_pages(s, 0, SPAN + 9);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge - 1);

	/* Both slots in one call. */
	range = (struct kvm_userfault_range) { .gpa = GPA, .size = 8 * SZ_2M };
	TEST_ASSERT(!rescan(vm, &range) && !range.size, "RESCAN of both slots");
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge - 2);
	set_guest(vm, 0, NPAGES);
	userfault_run_expect(vcpu, userfault_gpa(s, 100), 0);
	userfault_resolve(s, 100, GENERATION);
	userfault_run_expect(vcpu, userfault_gpa(s, SPAN + 9), 0);
	userfault_resolve(s, SPAN + 9, GENERATION);
	userfault_run_sync(vcpu);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge);

	userfault_slot_free(other);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* A bitmap that ends early: what lies behind is dropped, and named. */
static void test_unreadable(void)
{
	const u64 nr = PAGE_SIZE * 8 + 1000, known = PAGE_SIZE * 8;
	struct kvm_userfault_range range;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 i;
	int r;

	pr_info("unreadable bitmap\n");

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES,
		      KVM_USERFAULT_FEATURE_RESCAN | KVM_USERFAULT_FEATURE_ACCESS);
	s = userfault_slot_create(vm, SLOT, GPA, nr, USERFAULT_ANON, KVM_MEM_USERFAULT);
	virt_map(vm, GVA, GPA, nr);
	for (i = known - 20; i < known + 20; i++)
		userfault_fill(s, i, GENERATION);
	userfault_clear_all(s);
	set_guest(vm, known - 20, 40);
	userfault_run_sync(vcpu);

	TEST_ASSERT(!mprotect((u8 *)s->bitmap + PAGE_SIZE, PAGE_SIZE, PROT_NONE),
		    "mprotect");
	range = pages(s, 0, nr);
	r = rescan(vm, &range);
	TEST_ASSERT(r == -1 && errno == EFAULT, "RESCAN: %d (%s)", r, strerror(errno));
	TEST_ASSERT_EQ(range.gpa, userfault_gpa(s, known));
	TEST_ASSERT_EQ(range.size, (nr - known) * PAGE_SIZE);
	set_guest(vm, known - 20, 20);
	userfault_run_sync(vcpu);
	set_guest(vm, known, 20);
	userfault_run_expect(vcpu, userfault_gpa(s, known),
			     KVM_MEMORY_EXIT_FLAG_READ | KVM_MEMORY_EXIT_FLAG_BITMAP);

	/* And on from there, once it is repaired. */
	TEST_ASSERT(!mprotect((u8 *)s->bitmap + PAGE_SIZE, PAGE_SIZE,
			      PROT_READ | PROT_WRITE), "mprotect");
	TEST_ASSERT(!rescan(vm, &range) && !range.size, "RESCAN after the repair");
	userfault_run_sync(vcpu);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

static void on_alarm(int signal)
{
}

/* A long one is interrupted, and says how far it came. */
static void test_interrupted(void)
{
	const u64 nr = 64ull << (30 - 12);
	struct itimerval timer = { .it_interval.tv_usec = 2000, .it_value.tv_usec = 2000 };
	struct itimerval off = {};
	struct sigaction action = { .sa_handler = on_alarm };
	struct kvm_userfault_range range;
	struct userfault_slot *s;
	u64 parts = 0, left;
	struct kvm_vm *vm;
	int r;

	pr_info("interrupted\n");

	vm = vm_create_barebones();
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_RESCAN);
	s = userfault_slot_create(vm, SLOT, 0, nr, USERFAULT_ANON, KVM_MEM_USERFAULT);

	TEST_ASSERT(!sigaction(SIGALRM, &action, NULL), "sigaction");
	TEST_ASSERT(!setitimer(ITIMER_REAL, &timer, NULL), "setitimer");
	for (range = pages(s, 0, nr); range.size; parts++) {
		left = range.size;
		r = rescan(vm, &range);
		TEST_ASSERT(!r || (errno == EINTR && range.size == left),
			    "RESCAN: %d (%s)", r, strerror(errno));
		TEST_ASSERT(range.gpa + range.size == nr * PAGE_SIZE, "lost a part");
		TEST_ASSERT(r || range.size < left, "0 without progress");
	}
	setitimer(ITIMER_REAL, &off, NULL);
	pr_info("  in %lu parts\n", parts);
	TEST_ASSERT(parts > 1, "It was not interrupted");

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* Whenever RESCAN has returned, nobody sees what is done to the page. */
static void test_running(enum userfault_backing backing)
{
	struct userfault_loop loop;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int round;

	pr_info("with a vCPU running: %s\n", userfault_backing_name(backing));

	vm = create(&vcpu, &s, backing);
	set_guest(vm, 0, 64);
	userfault_loop_start(&loop, vcpu);
	for (round = 0; round < 200; round++) {
		u64 page = (round * 7) % 64;

		userfault_set_bit(s, page);
		rescan_pages(s, page, 1);
		memset(userfault_alias(s, page), 0xee, PAGE_SIZE);
		usleep(200);
		userfault_resolve(s, page, GENERATION + round % 2);
		usleep(200);
	}
	userfault_loop_stop(&loop);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	static const enum userfault_backing backings[] = {
		USERFAULT_ANON, USERFAULT_ANON_THP, USERFAULT_SHMEM, USERFAULT_GMEM,
	};
	int i;

	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_USERFAULT_FEATURES) &
		     KVM_USERFAULT_FEATURE_RESCAN);

	test_arguments();
	for (i = 0; i < ARRAY_SIZE(backings); i++) {
		test_page_out(backings[i]);
		test_running(backings[i]);
	}
	test_levels();
	test_unreadable();
	test_interrupted();
	return 0;
}
