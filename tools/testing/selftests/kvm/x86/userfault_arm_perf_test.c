// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs to switch KVM userfault on and off on a live memslot: how much
 * of it comes with the size of the memslot, and how much with the pages that
 * the guest has touched, which are what has to be taken from it.
 *
 * Output for scripts: a line "DATA key=value ..." per size and number of pages.
 * Nothing is asserted on the times.  That the guest loses each page, and gets
 * each back, is: a cost of nothing could be nothing done.
 */
#include <time.h>
#include <linux/sizes.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"
#include "userfault_util.h"

#define ARM_SLOT	1
#define ARM_GPA		SZ_4G
#define GENERATION	3

static struct {
	u64 npages;
	u64 touched;
} guest;

/* Spread over the memslot; touched divides npages. */
static u64 touched_page(u64 i)
{
	return i * (guest.npages / guest.touched);
}

static void guest_code(void)
{
	u64 i;

	for (;;) {
		for (i = 0; i < guest.touched; i++)
			READ_ONCE(*(u64 *)(ARM_GPA + touched_page(i) * PAGE_SIZE));
		GUEST_SYNC(i);
	}
}

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return timespec_to_ns(ts);
}

static void run_pass(struct kvm_vcpu *vcpu, struct userfault_slot *s, u64 exits)
{
	struct ucall uc;
	u64 seen;

	seen = userfault_run_resolving(vcpu, s, GENERATION);
	TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
	TEST_ASSERT(seen == exits, "%lu userfault exits, not %lu", seen, exits);
}

static void measure(u64 mb, u64 touched)
{
	u64 arm, disarm, again, i;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	guest.npages = mb * SZ_1M / PAGE_SIZE;
	guest.touched = touched;
	TEST_ASSERT(touched && guest.npages % touched == 0,
		    "%lu pages cannot be spread over %lu MiB", touched, mb);

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	sync_global_to_guest(vm, guest);
	s = userfault_slot_create(vm, ARM_SLOT, ARM_GPA, guest.npages,
				  USERFAULT_ANON, 0);
	virt_map_level(vm, ARM_GPA, ARM_GPA, mb * SZ_1M, PG_LEVEL_2M);
	for (i = 0; i < touched; i++)
		userfault_fill(s, touched_page(i), GENERATION);
	run_pass(vcpu, s, 0);

	/* Every page absent: each touched one has to be taken from the guest. */
	userfault_set_all(s);
	arm = now_ns();
	userfault_arm(s);
	arm = now_ns() - arm;
	run_pass(vcpu, s, touched);

	/* The touched ones are there again, and stay mapped. */
	disarm = now_ns();
	userfault_disarm(s);
	disarm = now_ns() - disarm;
	run_pass(vcpu, s, 0);

	/* No bit set: nothing has to be taken away. */
	userfault_clear_all(s);
	again = now_ns();
	userfault_arm(s);
	again = now_ns() - again;
	run_pass(vcpu, s, 0);

	pr_info("DATA arm=1 mb=%lu touched=%lu arm_ns=%lu disarm_ns=%lu arm_present_ns=%lu\n",
		mb, touched, arm, disarm, again);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* Taking back the pages of one call, all of them mapped and absent, in 4K. */
static void measure_rescan(u64 nr)
{
	struct kvm_userfault_range range = { .gpa = ARM_GPA, .size = nr * PAGE_SIZE };
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 rescan, i;

	guest.npages = nr < SZ_2M / PAGE_SIZE ? SZ_2M / PAGE_SIZE : nr;
	guest.touched = guest.npages;

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_RESCAN);
	sync_global_to_guest(vm, guest);
	s = userfault_slot_create(vm, ARM_SLOT, ARM_GPA, guest.npages,
				  USERFAULT_ANON, KVM_MEM_USERFAULT);
	userfault_clear_all(s);
	virt_map_level(vm, ARM_GPA, ARM_GPA, guest.npages * PAGE_SIZE, PG_LEVEL_2M);
	for (i = 0; i < guest.npages; i++)
		userfault_fill(s, i, GENERATION);
	run_pass(vcpu, s, 0);

	userfault_set_bits(s, 0, nr);
	rescan = now_ns();
	vm_ioctl(vm, KVM_USERFAULT_RESCAN, &range);
	rescan = now_ns() - rescan;
	TEST_ASSERT_EQ(range.size, 0);
	run_pass(vcpu, s, nr);

	pr_info("DATA rescan=1 pages=%lu rescan_ns=%lu\n", nr, rescan);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	static const u64 touched[] = { 1, 64, 512, 2048 };
	static const u64 mb[] = { 16, 128, 1024 };
	static const u64 pages[] = { 1, 512, 8192, 65536, 262144 };
	int i, j;

	TEST_REQUIRE_USERFAULT();

	for (i = 0; i < ARRAY_SIZE(mb); i++) {
		for (j = 0; j < ARRAY_SIZE(touched); j++)
			measure(mb[i], touched[j]);
	}
	for (i = 0; i < ARRAY_SIZE(pages); i++)
		measure_rescan(pages[i]);
	return 0;
}
