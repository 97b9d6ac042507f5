// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and poison: the set of poisoned pages, its listing and its limits; and
 * pages of every kind of memory that are put into it under a guest that uses them.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_fd.h"
#include "userfault_poison.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		1024ul

#define SET		KVM_USERFAULT_POISON_SET
#define CLEAR		KVM_USERFAULT_POISON_CLEAR
#define ALL		KVM_USERFAULT_POISON_ALL

/* As many ranges as KVM remembers. */
#define LIMIT		4096u

#define FEATURES							\
	(KVM_USERFAULT_FEATURE_POISON | KVM_USERFAULT_FEATURE_ACCESS |	\
	 KVM_USERFAULT_FEATURE_RESCAN | KVM_USERFAULT_FEATURE_FD)

static struct kvm_userfault_poison_range found[LIMIT + 1];

static gpa_t page(u64 nr)
{
	return GPA + nr * PAGE_SIZE;
}

/* In steps of @step; returns how many ranges there are. */
static unsigned int list_all(struct kvm_vm *vm, unsigned int step)
{
	struct kvm_userfault_poison_list list = { .size = ~0ull & ~(PAGE_SIZE - 1) };
	unsigned int nr = 0;

	do {
		list.ranges = (uintptr_t)(found + nr);
		list.nr = min(step, (unsigned int)ARRAY_SIZE(found) - nr);
		vm_ioctl(vm, KVM_USERFAULT_GET_POISON, &list);
		nr += list.nr;
	} while (list.size);
	return nr;
}

/* What is poisoned, as pairs of first page and number of pages, to 0, 0. */
static void assert_set(struct kvm_vm *vm, const u64 (*wanted)[2])
{
	for (unsigned int step = 1; step <= 3; step++) {
		unsigned int nr = list_all(vm, step), i;

		for (i = 0; wanted[i][1]; i++) {
			TEST_ASSERT(i < nr, "Only %u ranges", nr);
			TEST_ASSERT_EQ(found[i].gpa, page(wanted[i][0]));
			TEST_ASSERT_EQ(found[i].size, wanted[i][1] * PAGE_SIZE);
			TEST_ASSERT_EQ(found[i].flags, 0);
		}
		TEST_ASSERT_EQ(nr, i);
	}
}

static void poison(struct kvm_vm *vm, u64 first, u64 nr, u64 flags)
{
	userfault_poison(vm, page(first), nr * PAGE_SIZE, flags);
}

static void test_set(void)
{
	struct kvm_vm *vm = vm_create_barebones();

	pr_info("The set\n");
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, FEATURES);

	assert_set(vm, (const u64[][2]) { {} });
	poison(vm, 10, 1, SET);
	poison(vm, 10, 1, SET);
	assert_set(vm, (const u64[][2]) { { 10, 1 }, {} });
	poison(vm, 12, 2, SET);
	assert_set(vm, (const u64[][2]) { { 10, 1 }, { 12, 2 }, {} });
	/* What touches is one range. */
	poison(vm, 11, 1, SET);
	assert_set(vm, (const u64[][2]) { { 10, 4 }, {} });
	poison(vm, 8, 4, SET);
	assert_set(vm, (const u64[][2]) { { 8, 6 }, {} });
	poison(vm, 0, 100, SET);
	assert_set(vm, (const u64[][2]) { { 0, 100 }, {} });

	poison(vm, 50, 1, CLEAR);
	assert_set(vm, (const u64[][2]) { { 0, 50 }, { 51, 49 }, {} });
	poison(vm, 0, 1, CLEAR);
	poison(vm, 99, 1, CLEAR);
	assert_set(vm, (const u64[][2]) { { 1, 49 }, { 51, 48 }, {} });
	poison(vm, 40, 20, CLEAR);
	assert_set(vm, (const u64[][2]) { { 1, 39 }, { 60, 39 }, {} });
	poison(vm, 500, 1, CLEAR);
	assert_set(vm, (const u64[][2]) { { 1, 39 }, { 60, 39 }, {} });
	userfault_poison(vm, 0, 0, CLEAR | ALL);
	assert_set(vm, (const u64[][2]) { {} });

	/* Address 0, and the end of what can be said. */
	userfault_poison(vm, 0, PAGE_SIZE, SET);
	userfault_poison(vm, ~0ull - 2 * PAGE_SIZE + 1, PAGE_SIZE, SET);
	TEST_ASSERT_EQ(list_all(vm, 2), 2);
	TEST_ASSERT_EQ(found[0].gpa, 0);
	TEST_ASSERT_EQ(found[1].gpa, ~0ull - 2 * PAGE_SIZE + 1);
	userfault_poison(vm, 0, 0, CLEAR | ALL);
	kvm_vm_free(vm);
}

/* Part of a range, and the generation. */
static void test_list(void)
{
	struct kvm_userfault_poison_list list = { .nr = 4, .ranges = (uintptr_t)found };
	struct kvm_vm *vm = vm_create_barebones();
	u64 generation;

	pr_info("The listing\n");
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, FEATURES);
	poison(vm, 10, 10, SET);

	list.gpa = page(12);
	list.size = 3 * PAGE_SIZE;
	vm_ioctl(vm, KVM_USERFAULT_GET_POISON, &list);
	TEST_ASSERT_EQ(list.nr, 1);
	TEST_ASSERT_EQ(list.size, 0);
	TEST_ASSERT_EQ(list.gpa, page(15));
	TEST_ASSERT_EQ(found[0].gpa, page(12));
	TEST_ASSERT_EQ(found[0].size, 3 * PAGE_SIZE);
	generation = list.generation;

	poison(vm, 100, 1, SET);
	list.size = PAGE_SIZE;
	list.nr = 4;
	vm_ioctl(vm, KVM_USERFAULT_GET_POISON, &list);
	TEST_ASSERT(list.generation > generation, "The set has changed, its generation not");
	kvm_vm_free(vm);
}

/* It ends in an error that changes nothing. */
static void test_limit(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	unsigned int i;

	pr_info("The limit\n");
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, FEATURES);
	for (i = 0; i < LIMIT; i++)
		poison(vm, 2 * i, 1, SET);
	TEST_ASSERT_EQ(list_all(vm, 1000), LIMIT);

	ASSERT_FAILS(__userfault_poison(vm, page(2 * LIMIT + 10), PAGE_SIZE, SET), ENOSPC);
	TEST_ASSERT_EQ(list_all(vm, 1000), LIMIT);
	/* One more range by taking the middle out of one. */
	poison(vm, 0, 3, SET);
	TEST_ASSERT_EQ(list_all(vm, 1000), LIMIT - 1);
	poison(vm, 2 * LIMIT + 10, 1, SET);
	ASSERT_FAILS(__userfault_poison(vm, page(1), PAGE_SIZE, CLEAR), ENOSPC);
	TEST_ASSERT_EQ(list_all(vm, 1000), LIMIT);
	/* Fewer are always possible, and none. */
	userfault_poison(vm, 0, 0, CLEAR | ALL);
	TEST_ASSERT_EQ(list_all(vm, 1), 0);
	for (i = LIMIT; i--; )
		poison(vm, 2 * i, 1, SET);
	TEST_ASSERT_EQ(list_all(vm, 1000), LIMIT);
	poison(vm, 2, 2 * LIMIT, SET);
	TEST_ASSERT_EQ(list_all(vm, 1000), 2);
	kvm_vm_free(vm);

	/* A VM may end with as many. */
	vm = vm_create_barebones();
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, FEATURES);
	for (i = 0; i < LIMIT; i++)
		poison(vm, 2 * i, 1, SET);
	kvm_vm_free(vm);
}

static void test_bad_poison(struct kvm_vm *vm)
{
	struct kvm_userfault_range good = { .gpa = GPA, .size = PAGE_SIZE, .flags = SET }, r;

#define BAD(error, change) do {						\
	r = good;							\
	r.change;							\
	ASSERT_FAILS(__vm_ioctl(vm, KVM_USERFAULT_POISON, &r), error);	\
} while (0)

	BAD(EINVAL, flags = 0);
	BAD(EINVAL, flags = SET | CLEAR);
	BAD(EINVAL, flags = SET | ALL);
	BAD(EINVAL, flags = CLEAR | ALL);	/* with a range */
	BAD(EINVAL, flags = SET | 8);
	BAD(EINVAL, flags = SET | 1ull << 63);
	BAD(EINVAL, gpa = GPA + 1);
	BAD(EINVAL, size = PAGE_SIZE - 1);
	BAD(EINVAL, size = 0);
	BAD(EINVAL, size = -PAGE_SIZE);
	BAD(EINVAL, as_id = 1);
	BAD(EINVAL, as_id = KVM_USERFAULT_AS_ALL);
	BAD(EINVAL, pad = 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(good.reserved); i++)
		BAD(EINVAL, reserved[i] = 1);
#undef BAD
	ASSERT_FAILS(ioctl(vm->fd, KVM_USERFAULT_POISON, 8), EFAULT);
	TEST_ASSERT_EQ(list_all(vm, 1), 0);
}

static void test_bad_list(struct kvm_vm *vm)
{
	struct kvm_userfault_poison_list good = {
		.gpa = GPA, .size = PAGE_SIZE, .nr = 1, .ranges = (uintptr_t)found,
	}, l;

#define BAD(error, change) do {						\
	l = good;							\
	l.change;							\
	ASSERT_FAILS(__vm_ioctl(vm, KVM_USERFAULT_GET_POISON, &l), error);	\
} while (0)

	BAD(EINVAL, nr = 0);
	BAD(EINVAL, flags = 1);
	BAD(EINVAL, gpa = 1);
	BAD(EINVAL, size = 0);
	BAD(EINVAL, size = 1);
	BAD(EINVAL, size = -PAGE_SIZE);
	for (unsigned int i = 0; i < ARRAY_SIZE(good.reserved); i++)
		BAD(EINVAL, reserved[i] = 1);
	poison(vm, 0, 1, SET);
	BAD(EFAULT, ranges = 8);
#undef BAD
	ASSERT_FAILS(ioctl(vm->fd, KVM_USERFAULT_GET_POISON, 8), EFAULT);
	poison(vm, 0, 1, CLEAR);
}

static void test_bad_inject(struct kvm_vcpu *vcpu)
{
	struct kvm_userfault_inject good = { .gpa = GPA, .access = 1 }, i;
	u32 result;

#define BAD(error, change) do {						\
	i = good;							\
	i.change;							\
	ASSERT_FAILS(__vcpu_ioctl(vcpu, KVM_USERFAULT_INJECT, &i), error);	\
} while (0)

	BAD(EINVAL, flags = 2);
	BAD(EINVAL, result = 1);
	BAD(EINVAL, access = 1ull << 3);
	BAD(EINVAL, access = KVM_MEMORY_EXIT_FLAG_POISON);
	for (unsigned int n = 0; n < ARRAY_SIZE(good.reserved); n++)
		BAD(EINVAL, reserved[n] = 1);
#undef BAD
	ASSERT_FAILS(ioctl(vcpu->fd, KVM_USERFAULT_INJECT, 8), EFAULT);
	/* A vCPU that was not given banks has those of a reset, which are off. */
	ASSERT_FAILS(__userfault_inject(vcpu, GPA, 1, 0, &result), ENODEV);
	/* Not with CR4.MCE clear. */
	userfault_setup_mce(vcpu, 10);
	TEST_ASSERT_EQ(userfault_inject(vcpu, GPA, 1, 0), KVM_USERFAULT_INJECT_SHUTDOWN);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_SHUTDOWN);
}

static void guest_nothing(void)
{
	GUEST_DONE();
}

static void test_bad(void)
{
	struct kvm_userfault_range range = { .gpa = GPA, .size = PAGE_SIZE, .flags = SET };
	struct kvm_userfault_poison_list list = { .size = PAGE_SIZE, .nr = 1 };
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u32 result;

	pr_info("Bad input\n");
	vm = vm_create_with_one_vcpu(&vcpu, guest_nothing);
	/* Without the feature, and before the VM has any. */
	ASSERT_FAILS(__vm_ioctl(vm, KVM_USERFAULT_POISON, &range), EPERM);
	ASSERT_FAILS(__vm_ioctl(vm, KVM_USERFAULT_GET_POISON, &list), EPERM);
	ASSERT_FAILS(__userfault_inject(vcpu, GPA, 1, 0, &result), EPERM);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_EXIT);
	ASSERT_FAILS(__vm_ioctl(vm, KVM_USERFAULT_POISON, &range), EPERM);

	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, FEATURES);
	test_bad_poison(vm);
	test_bad_list(vm);
	test_bad_inject(vcpu);
	kvm_vm_free(vm);
}

/* A page, over and over. */
static struct {
	u64 page, write;
} guest;

static void guest_code(void)
{
	u64 *p;

	for (;;) {
		GUEST_SYNC(0);
		p = (u64 *)(GVA + READ_ONCE(guest.page) * PAGE_SIZE);
		if (READ_ONCE(guest.write))
			WRITE_ONCE(*p, 1);
		else
			READ_ONCE(*p);
	}
}

/* Where the guest finds out which page it is, to go back to. */
static struct kvm_regs start;

static void start_guest(struct kvm_vcpu *vcpu)
{
	userfault_run_sync(vcpu);
	vcpu_run_complete_io(vcpu);
	vcpu_regs_get(vcpu, &start);
}

static void touch(struct kvm_vm *vm, u64 page, bool write)
{
	guest.page = page;
	guest.write = write;
	sync_global_to_guest(vm, guest);
}

static void assert_poisoned(struct kvm_vcpu *vcpu, struct userfault_slot *s, u64 page)
{
	for (int write = 0; write <= 1; write++) {
		touch(s->vm, page, write);
		userfault_assert_poison_exit(vcpu, __userfault_run(vcpu), userfault_gpa(s, page),
					     write ? KVM_MEMORY_EXIT_FLAG_WRITE :
						     KVM_MEMORY_EXIT_FLAG_READ, false);
		vcpu_regs_set(vcpu, &start);
	}
}

static void assert_usable(struct kvm_vcpu *vcpu, struct userfault_slot *s, u64 page)
{
	touch(s->vm, page, true);
	userfault_run_sync(vcpu);
}

/* A present page, its neighbours, what comes of filling, discarding, deleting. */
static void test_pages(enum userfault_backing backing, bool armed)
{
	/* The first of eight that shadow paging would map at a time. */
	const u64 victim = 520;
	struct kvm_pre_fault_memory range;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	const char *why;

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	if (!userfault_backing_usable(vm, backing, &why)) {
		pr_info("Not with %s: %s\n", userfault_backing_name(backing), why);
		kvm_vm_free(vm);
		return;
	}
	pr_info("Pages of %s%s\n", userfault_backing_name(backing), armed ? ", armed" : "");
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, FEATURES);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	if (armed) {
		userfault_clear_all(s);
		userfault_arm(s);
	}

	start_guest(vcpu);
	assert_usable(vcpu, s, victim);
	assert_usable(vcpu, s, victim + 1);
	userfault_poison(vm, userfault_gpa(s, victim), PAGE_SIZE, SET);
	assert_poisoned(vcpu, s, victim);
	assert_usable(vcpu, s, victim - 1);
	assert_usable(vcpu, s, victim + 1);
	assert_poisoned(vcpu, s, victim);

	/* The next page is unmapped, and mapped with its neighbours. */
	poison(vm, victim + 1, 1, SET);
	poison(vm, victim + 1, 1, CLEAR);
	assert_usable(vcpu, s, victim + 1);
	assert_poisoned(vcpu, s, victim);

	/* Nobody is told by a prefetch. */
	range = (struct kvm_pre_fault_memory) {
		.gpa = userfault_gpa(s, victim), .size = PAGE_SIZE,
	};
	memset(&vcpu->run->memory_fault, 0, sizeof(vcpu->run->memory_fault));
	if (kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY) && kvm_is_tdp_enabled()) {
		ASSERT_FAILS(__vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range), EHWPOISON);
		TEST_ASSERT_EQ(vcpu->run->memory_fault.gpa, 0);
	}

	/* It is poisoned before it is absent, and filling does not mend it. */
	if (armed) {
		userfault_set_bit(s, victim);
		assert_poisoned(vcpu, s, victim);
		userfault_resolve(s, victim, 1);
		assert_poisoned(vcpu, s, victim);
	}

	/* Nor does another memslot. */
	userfault_slot_free(s);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, 0);
	assert_poisoned(vcpu, s, victim);

	userfault_poison(vm, userfault_gpa(s, victim), PAGE_SIZE, CLEAR);
	assert_usable(vcpu, s, victim);
	assert_usable(vcpu, s, victim + 1);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* WAKE with POISON ends the wait for a page that nobody can fill. */
static void test_wake(void)
{
	struct kvm_userfault_range range = {
		.size = PAGE_SIZE,
		.as_id = KVM_USERFAULT_AS_ALL,
		.flags = KVM_USERFAULT_WAKE_POISON,
	};
	struct kvm_userfault_event event;
	struct userfault_runner r;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpus[2], *vcpu;
	struct kvm_regs starts[2];
	struct kvm_vm *vm;
	int fd, weak;

	pr_info("WAKE\n");
	vm = vm_create_with_vcpus(2, guest_code, vcpus);
	vcpu = vcpus[0];
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, FEATURES);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON, KVM_MEM_USERFAULT);
	virt_map(vm, GVA, GPA, NPAGES);

	weak = userfault_fd_create(vm, KVM_USERFAULT_FD_VCPU);
	range.gpa = userfault_gpa(s, 3);
	ASSERT_FAILS(ioctl(weak, KVM_USERFAULT_WAKE, &range), EPERM);
	close(weak);

	fd = userfault_fd_create(vm, KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_MAY_POISON);
	/* Of pages that nobody waits for it says nothing. */
	TEST_ASSERT(!ioctl(fd, KVM_USERFAULT_WAKE, &range), "WAKE");
	TEST_ASSERT_EQ(list_all(vm, 1), 0);

	for (int i = 1; i >= 0; i--) {
		start_guest(vcpus[i]);
		starts[i] = start;
	}
	touch(vm, 3, false);
	userfault_runner_start(&r, vcpu);
	event = userfault_fd_read(fd);
	TEST_ASSERT_EQ(event.gpa, userfault_gpa(s, 3));
	TEST_ASSERT(!ioctl(fd, KVM_USERFAULT_WAKE, &range), "WAKE");
	userfault_runner_join(&r);
	errno = r.error;
	userfault_assert_poison_exit(vcpu, r.ret, userfault_gpa(s, 3),
				     KVM_MEMORY_EXIT_FLAG_READ, false);
	vcpu_regs_set(vcpu, &start);
	TEST_ASSERT_EQ(list_all(vm, 1), 1);
	TEST_ASSERT_EQ(found[0].gpa, userfault_gpa(s, 3));

	/* Too late. */
	userfault_resolve(s, 3, 1);
	assert_poisoned(vcpu, s, 3);

	/* Somebody else has found it filled, as nobody was woken for that. */
	touch(vm, 7, false);
	userfault_runner_start(&r, vcpu);
	range.gpa = userfault_fd_read(fd).gpa;
	TEST_ASSERT_EQ(range.gpa, userfault_gpa(s, 7));
	userfault_resolve(s, 7, 1);
	start = starts[1];
	assert_usable(vcpus[1], s, 7);
	TEST_ASSERT(!ioctl(fd, KVM_USERFAULT_WAKE, &range), "WAKE");
	userfault_runner_join(&r);
	errno = r.error;
	userfault_assert_poison_exit(vcpu, r.ret, userfault_gpa(s, 7),
				     KVM_MEMORY_EXIT_FLAG_READ, false);
	assert_poisoned(vcpus[1], s, 7);
	start = starts[0];
	vcpu_regs_set(vcpu, &start);

	/* SET ends a wait, too. */
	touch(vm, 5, false);
	userfault_runner_start(&r, vcpu);
	userfault_fd_read(fd);
	userfault_poison(vm, userfault_gpa(s, 5), PAGE_SIZE, SET);
	userfault_runner_join(&r);
	errno = r.error;
	userfault_assert_poison_exit(vcpu, r.ret, userfault_gpa(s, 5),
				     KVM_MEMORY_EXIT_FLAG_READ, false);

	close(fd);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_USERFAULT_FEATURES) & KVM_USERFAULT_FEATURE_POISON);

	test_set();
	test_list();
	test_limit();
	test_bad();
	for (int armed = 0; armed <= 1; armed++) {
		for (int backing = 0; backing < NR_USERFAULT_BACKINGS; backing++) {
			if (backing != USERFAULT_GMEM_PRIVATE)
				test_pages(backing, armed);
		}
	}
	test_wake();
	return 0;
}
