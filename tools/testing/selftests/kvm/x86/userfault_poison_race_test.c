// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and poison while vCPUs run: what a page holds after SET returned is read
 * by nobody, neither by a guest's own accesses nor by those that KVM emulates; and what
 * is poisoned all the time is in every listing, whatever else comes and goes.
 */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_poison.h"
#include "userfault_take.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		64ul
#define PAGE		7ul

#define SET		KVM_USERFAULT_POISON_SET
#define CLEAR		KVM_USERFAULT_POISON_CLEAR

#define PUBLIC		0x1111111111111111ull
#define SECRET		0x5ec2e75ec2e75ec2ull
#define SECONDS		4
/* On a slow machine it may take longer to see what the test is for. */
#define PATIENCE	100
#define NR_VCPUS	2

static u64 guest_stop, guest_reads[NR_VCPUS], guest_last[NR_VCPUS];

static void guest_code(u64 id, bool emulated)
{
	u64 *p = (u64 *)(GVA + PAGE * PAGE_SIZE), value;

	while (!READ_ONCE(guest_stop)) {
		if (emulated)
			asm volatile(KVM_FEP "mov (%1), %0" : "=r"(value) : "r"(p) : "memory");
		else
			asm volatile("mov (%1), %0" : "=r"(value) : "r"(p) : "memory");
		WRITE_ONCE(guest_last[id], value);
		WRITE_ONCE(guest_reads[id], guest_reads[id] + 1);
		GUEST_ASSERT_EQ(value, PUBLIC);
	}
	GUEST_DONE();
}

static bool go_on(time_t started, bool seen)
{
	return time(NULL) - started < (seen ? SECONDS : PATIENCE);
}

static u64 hits[NR_VCPUS];

static bool all_hit(void)
{
	for (int i = 0; i < NR_VCPUS; i++) {
		if (!READ_ONCE(hits[i]))
			return false;
	}
	return true;
}

static void *run_vcpu(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct kvm_regs regs;
	struct ucall uc;

	for (;;) {
		if (__userfault_run(vcpu)) {
			TEST_ASSERT_EQ(errno, EHWPOISON);
			TEST_ASSERT_EQ(vcpu->run->memory_fault.gpa, GPA + PAGE * PAGE_SIZE);
			WRITE_ONCE(hits[vcpu->id], hits[vcpu->id] + 1);
			/* KVM has stepped over the prefix: without it the CPU reads. */
			vcpu_regs_get(vcpu, &regs);
			if (vcpu->run->memory_fault.flags & KVM_MEMORY_EXIT_FLAG_OWN) {
				regs.rip -= 5;
				vcpu_regs_set(vcpu, &regs);
			}
			continue;
		}
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_DONE:
			return NULL;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
		default:
			TEST_FAIL("exit reason %u", vcpu->run->exit_reason);
		}
	}
}

static u64 *shared_u64(struct kvm_vm *vm, u64 *p)
{
	return addr_gva2hva(vm, (gva_t)p);
}

static void wait_for_reads(u64 *reads, int nr)
{
	u64 from[NR_VCPUS];

	for (int i = 0; i < nr; i++)
		from[i] = READ_ONCE(reads[i]);
	for (int i = 0; i < nr; i++) {
		while (READ_ONCE(reads[i]) < from[i] + 3)
			sched_yield();
	}
}

static void test_content(bool fep)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	u64 *page, *reads, *last, rounds = 0;
	pthread_t threads[NR_VCPUS];
	time_t started;
	struct userfault_slot *s;
	struct kvm_vm *vm;
	gpa_t gpa;

	pr_info("content%s\n", fep ? ", emulation too" : "");
	vm = vm_create_with_vcpus(NR_VCPUS, guest_code, vcpus);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES,
		      KVM_USERFAULT_FEATURE_POISON | KVM_USERFAULT_FEATURE_ACCESS);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	page = userfault_alias(s, PAGE);
	*page = PUBLIC;
	gpa = userfault_gpa(s, PAGE);
	reads = shared_u64(vm, guest_reads);
	last = shared_u64(vm, guest_last);

	for (int i = 0; i < NR_VCPUS; i++) {
		vcpu_args_set(vcpus[i], 2, (u64)i, (u64)(fep && i));
		kvm_pthread_create(&threads[i], NULL, run_vcpu, vcpus[i]);
	}

	started = time(NULL);
	while (go_on(started, all_hit())) {
		wait_for_reads(reads, NR_VCPUS);
		userfault_poison(vm, gpa, PAGE_SIZE, SET);
		WRITE_ONCE(*page, SECRET);
		usleep(rand() % 300);
		WRITE_ONCE(*page, PUBLIC);
		userfault_poison(vm, gpa, PAGE_SIZE, CLEAR);
		rounds++;
	}

	*shared_u64(vm, &guest_stop) = 1;
	for (int i = 0; i < NR_VCPUS; i++) {
		pthread_join(threads[i], NULL);
		TEST_ASSERT_EQ(last[i], PUBLIC);
		pr_info("  vCPU %d: %lu reads, %lu hits in %lu rounds\n", i, reads[i],
			hits[i], rounds);
		TEST_ASSERT(hits[i], "It has never met poison");
	}
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* Every eighth page stays; the others grow together with them, and fall apart again. */
#define LISTED		2048ul
#define STAYS(page)	((page) % 8 == 3)

static bool stop_changes;

static void *change(void *arg)
{
	struct kvm_vm *vm = arg;
	u64 first, nr;

	while (!READ_ONCE(stop_changes)) {
		first = rand() % LISTED;
		nr = min(LISTED - first, 1ul + rand() % 40);
		if (rand() % 2) {
			userfault_poison(vm, GPA + first * PAGE_SIZE, nr * PAGE_SIZE, SET);
			continue;
		}
		for (u64 page = first; page < first + nr; page++) {
			if (!STAYS(page))
				userfault_poison(vm, GPA + page * PAGE_SIZE, PAGE_SIZE, CLEAR);
		}
	}
	return NULL;
}

static void test_listing(void)
{
	struct kvm_userfault_poison_range ranges[64];
	struct kvm_vm *vm = vm_create_barebones();
	u64 generation, passes = 0, moved = 0;
	time_t started;
	pthread_t thread;

	pr_info("listing\n");
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_POISON);
	for (u64 page = 3; page < LISTED; page += 8)
		userfault_poison(vm, GPA + page * PAGE_SIZE, PAGE_SIZE, SET);
	kvm_pthread_create(&thread, NULL, change, vm);

	started = time(NULL);
	for (; go_on(started, moved); passes++) {
		struct kvm_userfault_poison_list list = {
			.gpa = GPA, .size = LISTED * PAGE_SIZE,
		};
		u64 next = GPA + 3 * PAGE_SIZE, behind = 0;

		generation = 0;
		while (list.size) {
			list.ranges = (uintptr_t)ranges;
			list.nr = 1 + rand() % ARRAY_SIZE(ranges);
			vm_ioctl(vm, KVM_USERFAULT_GET_POISON, &list);
			TEST_ASSERT(list.generation >= generation, "It goes back");
			moved += generation && list.generation != generation;
			generation = list.generation;
			for (u32 i = 0; i < list.nr; i++) {
				TEST_ASSERT(ranges[i].gpa >= behind && ranges[i].size,
					    "Not in ascending order");
				TEST_ASSERT(ranges[i].gpa <= next, "0x%lx is missing", next);
				behind = ranges[i].gpa + ranges[i].size;
				while (next < behind)
					next += 8 * PAGE_SIZE;
			}
		}
		TEST_ASSERT(next >= GPA + LISTED * PAGE_SIZE, "0x%lx is missing", next);
	}
	WRITE_ONCE(stop_changes, true);
	pthread_join(thread, NULL);
	pr_info("  %lu passes, %lu changes within one\n", passes, moved);
	TEST_ASSERT(moved, "The set has never changed during a pass");
	kvm_vm_free(vm);
}

/*
 * One page comes and goes, with a generation each time.  What a single call lists is the
 * set of the generation that it returns.
 */
#define FIXED		40u

static void *toggle(void *arg)
{
	struct kvm_vm *vm = arg;

	while (!READ_ONCE(stop_changes)) {
		userfault_poison(vm, GPA, PAGE_SIZE, SET);
		usleep(rand() % 2000);
		userfault_poison(vm, GPA, PAGE_SIZE, CLEAR);
		usleep(rand() % 2000);
	}
	return NULL;
}

static void test_generation(void)
{
	struct kvm_userfault_poison_range ranges[FIXED + 1];
	struct kvm_vm *vm = vm_create_barebones();
	u64 size = 2 * (FIXED + 1) * PAGE_SIZE, whole = 0, parts = 0;
	time_t started;
	pthread_t thread;

	pr_info("generations\n");
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_POISON);
	for (u64 i = 1; i <= FIXED; i++)
		userfault_poison(vm, GPA + 2 * i * PAGE_SIZE, PAGE_SIZE, SET);
	stop_changes = false;
	kvm_pthread_create(&thread, NULL, toggle, vm);

	started = time(NULL);
	while (go_on(started, whole && parts)) {
		struct kvm_userfault_poison_list list = {
			.gpa = GPA, .size = size, .nr = ARRAY_SIZE(ranges),
			.ranges = (uintptr_t)ranges,
		};
		bool there;

		vm_ioctl(vm, KVM_USERFAULT_GET_POISON, &list);
		there = (list.generation - FIXED) % 2;
		TEST_ASSERT(list.nr && (ranges[0].gpa == GPA) == there,
			    "Generation %llu and its page do not match", list.generation);
		if (list.size) {
			TEST_ASSERT(list.gpa < GPA + size, "There is no rest");
			parts++;
			continue;
		}
		whole++;
		TEST_ASSERT_EQ(list.nr, FIXED + there);
	}
	WRITE_ONCE(stop_changes, true);
	pthread_join(thread, NULL);
	pr_info("  %lu lists, %lu cut short\n", whole, parts);
	TEST_ASSERT(whole && parts, "All lists were alike");
	kvm_vm_free(vm);
}

int main(void)
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_USERFAULT_FEATURES) & KVM_USERFAULT_FEATURE_POISON);

	test_listing();
	test_generation();
	test_content(userfault_force_emulation());
	return 0;
}
