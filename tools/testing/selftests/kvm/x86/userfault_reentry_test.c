// SPDX-License-Identifier: GPL-2.0
/*
 * Mapping a page when the guest is entered again: a fault that userspace has
 * resolved costs one violation, not two.  And where there is nothing to map,
 * nobody notices that it was tried.
 */
#include <sys/mman.h>

#include <linux/sizes.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_util.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		(SZ_2M / PAGE_SIZE)
#define GENERATION	3

enum guest_access { GUEST_READ, GUEST_WRITE, GUEST_EXEC };

static u64 guest_page, guest_access;

static void guest_code(void)
{
	for (;;) {
		u64 *p = (u64 *)(GVA + READ_ONCE(guest_page) * PAGE_SIZE);

		switch (READ_ONCE(guest_access)) {
		case GUEST_READ:
			READ_ONCE(*p);
			break;
		case GUEST_WRITE:
			WRITE_ONCE(*p, GENERATION);
			break;
		case GUEST_EXEC:
			((void (*)(void))p)();
			break;
		}
		GUEST_SYNC(0);
	}
}

static void set_guest(struct kvm_vm *vm, u64 page, enum guest_access access)
{
	guest_page = page;
	guest_access = access;
	sync_global_to_guest(vm, guest_page);
	sync_global_to_guest(vm, guest_access);
}

/* Runs once, to get everything mapped that the guest needs for itself. */
static struct kvm_vm *create(struct kvm_vcpu **vcpu, struct userfault_slot **s,
			     enum userfault_backing backing)
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, guest_code);
	enum guest_access access;

	*s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing,
				   KVM_MEM_USERFAULT);
	virt_map(vm, GVA, GPA, NPAGES);
	memset(userfault_alias(*s, 0), 0xc3, 16);	/* ret */
	userfault_clear_bit(*s, 0);
	for (access = GUEST_READ; access <= GUEST_EXEC; access++) {
		memset(userfault_alias(*s, 0), 0xc3, 16);
		set_guest(vm, 0, access);
		userfault_run_sync(*vcpu);
	}
	return vm;
}

/* One violation a page, for each kind of access, whatever the VMM did there. */
static void test_one_violation(enum userfault_backing backing)
{
	const u64 flags[] = {
		[GUEST_READ] = KVM_MEMORY_EXIT_FLAG_READ,
		[GUEST_WRITE] = KVM_MEMORY_EXIT_FLAG_WRITE,
		[GUEST_EXEC] = KVM_MEMORY_EXIT_FLAG_EXEC,
	};
	struct userfault_slot *s;
	enum guest_access access;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 taken, page;
	int touched;

	pr_info("one violation a page: %s\n", userfault_backing_name(backing));

	vm = create(&vcpu, &s, backing);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_ACCESS);

	for (touched = 0; touched < 2; touched++) {
		for (access = GUEST_READ; access <= GUEST_EXEC; access++) {
			page = 10 + 3 * touched + access;
			/* An untouched page is zeroes; those are no code. */
			if (access == GUEST_EXEC && !touched)
				continue;

			set_guest(vm, page, access);
			taken = vcpu_get_stat(vcpu, pf_taken);
			userfault_run_expect(vcpu, userfault_gpa(s, page),
					     flags[access]);
			if (touched)
				memset(userfault_alias(s, page), 0xc3, PAGE_SIZE);
			userfault_clear_bit(s, page);
			userfault_run_sync(vcpu);
			TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_taken), taken + 1);

			/* And the mapping is good for a second time. */
			userfault_run_sync(vcpu);
			TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_taken), taken + 1);
		}
	}

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* A chunk of 2M filled at once: one exit, and one mapping. */
static void test_chunk(void)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 taken, huge, i;

	pr_info("2M filled at once\n");

	vm = create(&vcpu, &s, USERFAULT_ANON_THP);
	userfault_set_all(s);
	userfault_disarm(s);
	userfault_arm(s);
	huge = vm_get_stat(vm, pages_2m);
	taken = vcpu_get_stat(vcpu, pf_taken);

	set_guest(vm, 17, GUEST_READ);
	userfault_run_expect(vcpu, userfault_gpa(s, 17), 0);
	for (i = 0; i < NPAGES; i++)
		userfault_fill(s, i, GENERATION);
	userfault_clear_all(s);
	for (i = 0; i < NPAGES; i++) {
		set_guest(vm, i, i % 2 ? GUEST_READ : GUEST_WRITE);
		userfault_run_sync(vcpu);
	}
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge + 1);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_taken), taken + 1);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* The page is still absent, gone, or cannot be asked: the guest finds out. */
static void test_nothing_to_map(void)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 exits;
	int r, i;

	pr_info("nothing to map\n");

	vm = create(&vcpu, &s, USERFAULT_ANON);

	/* Not resolved: the same exit again, once per KVM_RUN. */
	exits = vcpu_get_stat(vcpu, userfault_exits);
	set_guest(vm, 20, GUEST_READ);
	for (i = 0; i < 5; i++)
		userfault_run_expect(vcpu, userfault_gpa(s, 20), 0);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_exits), exits + 5);

	/* No bitmap any more: no exit reason, as without the attempt. */
	TEST_ASSERT(!mprotect(s->bitmap, s->bitmap_size, PROT_NONE), "mprotect");
	r = __userfault_run(vcpu);
	TEST_ASSERT(r == -1 && errno == EFAULT &&
		    vcpu->run->exit_reason == KVM_EXIT_UNKNOWN,
		    "Unreadable: %d, exit reason %u", r, vcpu->run->exit_reason);
	TEST_ASSERT(!mprotect(s->bitmap, s->bitmap_size, PROT_READ | PROT_WRITE),
		    "mprotect");
	userfault_run_expect(vcpu, userfault_gpa(s, 20), 0);

	/* No memory behind the page: what KVM_RUN says of that, and no more. */
	TEST_ASSERT(!mprotect(userfault_hva(s, 20), PAGE_SIZE, PROT_NONE), "mprotect");
	userfault_clear_bit(s, 20);
	r = __userfault_run(vcpu);
	TEST_ASSERT(r == -1 && errno == EFAULT &&
		    vcpu->run->exit_reason != KVM_EXIT_MEMORY_FAULT,
		    "No memory: %d, exit reason %u", r, vcpu->run->exit_reason);
	TEST_ASSERT(!mprotect(userfault_hva(s, 20), PAGE_SIZE,
			      PROT_READ | PROT_WRITE), "mprotect");
	userfault_run_sync(vcpu);

	/* No memslot any more: MMIO. */
	set_guest(vm, 21, GUEST_READ);
	userfault_run_expect(vcpu, userfault_gpa(s, 21), 0);
	s->region.memory_size = 0;
	TEST_ASSERT(!__userfault_slot_set(s), "Cannot delete the slot");
	s->live = false;
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(vcpu->run->mmio.phys_addr, GPA + 21 * PAGE_SIZE);

	s->region.memory_size = NPAGES * PAGE_SIZE;
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* immediate_exit does not enter the guest; the attempt is for the next run. */
static void test_immediate_exit(void)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 taken;
	int r;

	pr_info("immediate_exit\n");

	vm = create(&vcpu, &s, USERFAULT_ANON);
	set_guest(vm, 30, GUEST_WRITE);
	taken = vcpu_get_stat(vcpu, pf_taken);
	userfault_run_expect(vcpu, userfault_gpa(s, 30), 0);
	vcpu->run->immediate_exit = 1;
	r = __vcpu_run(vcpu);
	TEST_ASSERT(r == -1 && errno == EINTR, "immediate_exit: %d", r);
	vcpu->run->immediate_exit = 0;
	userfault_clear_bit(s, 30);
	userfault_run_sync(vcpu);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, pf_taken), taken + 1);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	static const enum userfault_backing backings[] = {
		USERFAULT_ANON, USERFAULT_SHMEM, USERFAULT_GMEM,
	};
	int i;

	TEST_REQUIRE_USERFAULT();
	/* With shadow paging the guest's own tables would have to be followed. */
	TEST_REQUIRE(kvm_is_tdp_enabled());

	for (i = 0; i < ARRAY_SIZE(backings); i++)
		test_one_violation(backings[i]);
	test_chunk();
	test_nothing_to_map();
	test_immediate_exit();
	return 0;
}
