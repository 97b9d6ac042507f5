// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and memory that is converted between private and shared while a
 * vCPU uses it: the exits say what the page is at the time, and no page is ever
 * seen that has not been filled.
 *
 * With software-protected VMs, which need nested paging.  TDX and SEV-SNP
 * convert in the same way, but no test of this runs on them.
 */
#include <pthread.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_order.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		16ul
#define ROUNDS		300

/* What the two halves of a page hold; garbage is neither. */
#define SHARED		70
#define PRIVATE		71

#define MAY_BE_SHARED	BIT(0)
#define MAY_BE_PRIVATE	BIT(1)

static u64 guest_allowed[NPAGES];
static u64 guest_passes[NPAGES];

static void guest_check(u64 page)
{
	u64 gfn = GPA / PAGE_SIZE + page;
	u64 shared = userfault_pattern_first(gfn, SHARED);
	u64 private = userfault_pattern_first(gfn, PRIVATE);
	u64 *p = (u64 *)(GVA + page * PAGE_SIZE);
	u64 allowed = READ_ONCE(guest_allowed[page]);
	u64 i, word;

	for (i = 0; i < PAGE_SIZE / sizeof(*p); i++) {
		word = READ_ONCE(p[i]) - i * USERFAULT_PATTERN_STEP;
		if ((allowed & MAY_BE_SHARED && word == shared) ||
		    (allowed & MAY_BE_PRIVATE && word == private))
			continue;
		GUEST_FAIL("page %lu word %lu: 0x%lx", page, i, READ_ONCE(p[i]));
	}
}

static void guest_code(void)
{
	u64 page;

	for (page = 0; page < NPAGES; page++)
		userfault_pattern_fill((void *)(GVA + page * PAGE_SIZE), PAGE_SIZE,
				       GPA / PAGE_SIZE + page, PRIVATE);
	GUEST_SYNC(0);

	for (;;) {
		for (page = 0; page < NPAGES; page++) {
			guest_check(page);
			WRITE_ONCE(guest_passes[page], guest_passes[page] + 1);
		}
		GUEST_SYNC(1);
	}
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct userfault_slot *slot;
static bool is_private[NPAGES];
/* Odd while a conversion is under way. */
static u64 conversions;
static u64 nr_exits[NPAGES], nr_mismatches;
static bool stop;

/* The guest's own copy. */
static u64 passes(u64 page)
{
	return READ_ONCE(((u64 *)addr_gva2hva(vm, (gva_t)guest_passes))[page]);
}

static void check_exit(u64 before)
{
	u64 flags = vcpu->run->memory_fault.flags, after, page;
	bool private = flags & KVM_MEMORY_EXIT_FLAG_PRIVATE, settled;

	page = userfault_page_of(slot, vcpu->run->memory_fault.gpa);
	TEST_ASSERT_EQ(vcpu->run->memory_fault.size, PAGE_SIZE);

	settled = READ_ONCE(is_private[page]) == private;
	after = __atomic_load_n(&conversions, __ATOMIC_SEQ_CST);
	if (before != after || before & 1)
		settled = true;

	flags &= ~KVM_MEMORY_EXIT_FLAG_PRIVATE;
	if (flags) {
		TEST_ASSERT_EQ(flags, KVM_MEMORY_EXIT_FLAG_USERFAULT |
			       KVM_MEMORY_EXIT_FLAG_READ);
		TEST_ASSERT(settled, "Page %lu: exit says %s, it is not", page,
			    private ? "private" : "shared");
		__atomic_fetch_add(&nr_exits[page], 1, __ATOMIC_SEQ_CST);
	} else {
		/* The CPU and the attributes disagree, for a moment only. */
		TEST_ASSERT(before != after || before & 1,
			    "Page %lu: no userfault, and no conversion either", page);
		nr_mismatches++;
	}
}

static void *vcpu_thread(void *unused)
{
	struct ucall uc;
	u64 before;

	while (!READ_ONCE(stop)) {
		before = __atomic_load_n(&conversions, __ATOMIC_SEQ_CST);
		if (__userfault_run(vcpu)) {
			TEST_ASSERT(errno == EFAULT &&
				    vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT,
				    "KVM_RUN: %s, exit reason %u", strerror(errno),
				    vcpu->run->exit_reason);
			check_exit(before);
			sched_yield();
		} else if (get_ucall(vcpu, &uc) == UCALL_ABORT) {
			REPORT_GUEST_ASSERT(uc);
		}
	}
	return NULL;
}

static void convert(u64 first, u64 nr, bool private)
{
	u64 page;

	__atomic_fetch_add(&conversions, 1, __ATOMIC_SEQ_CST);
	for (page = first; page < first + nr; page++)
		WRITE_ONCE(is_private[page], private);
	if (private)
		vm_mem_set_private(vm, GPA + first * PAGE_SIZE, nr * PAGE_SIZE);
	else
		vm_mem_set_shared(vm, GPA + first * PAGE_SIZE, nr * PAGE_SIZE);
	__atomic_fetch_add(&conversions, 1, __ATOMIC_SEQ_CST);
}

static u64 sum_exits(u64 first, u64 nr)
{
	u64 sum = 0;

	while (nr--)
		sum += __atomic_load_n(&nr_exits[first++], __ATOMIC_SEQ_CST);
	return sum;
}

/* Pages become absent, and something else; the guest has to ask for one. */
static void convert_absent(u64 first, u64 nr, bool private)
{
	u64 before[NPAGES], exits, page;
	int ms;

	userfault_set_bits(slot, first, nr);
	convert(first, nr, private);

	/* Nothing is mapped any more, so nobody can see this. */
	exits = sum_exits(first, nr);
	for (page = first; page < first + nr; page++) {
		userfault_scribble(slot, page);
		before[page] = passes(page);
	}

	for (ms = 0; sum_exits(first, nr) < exits + 2; ms++) {
		TEST_ASSERT(ms < 60000, "No exit within a minute");
		usleep(1000);
		/* The pass through a page may have ended, but not been counted. */
		for (page = first; page < first + nr; page++)
			TEST_ASSERT(passes(page) <= before[page] + 1,
				    "Page %lu was used while absent", page);
	}
	for (page = first; !private && page < first + nr; page++)
		userfault_fill(slot, page, SHARED);
	userfault_clear_bits(slot, first, nr);
}

/* Converted while present: the other half has to be in order beforehand. */
static void convert_present(u64 first, u64 nr, bool private)
{
	u64 page;

	for (page = first; page < first + nr; page++) {
		if (is_private[page])
			userfault_fill(slot, page, SHARED);
	}
	convert(first, nr, private);
	for (page = first; private && page < first + nr; page++)
		userfault_scribble(slot, page);
	usleep(500);
}

int main(void)
{
	const struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = KVM_X86_SW_PROTECTED_VM,
	};
	u64 page, first, nr, exits;
	pthread_t thread;
	int round;

	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));

	vm = vm_create_shape_with_one_vcpu(shape, &vcpu, guest_code);
	userfault_enable_access(vm);
	slot = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_GMEM_PRIVATE,
				     KVM_MEM_USERFAULT);
	virt_map(vm, GVA, GPA, NPAGES);

	/* The guest alone can write the private halves. */
	convert(0, NPAGES, true);
	userfault_clear_all(slot);
	for (page = 0; page < NPAGES; page++) {
		userfault_scribble(slot, page);
		guest_allowed[page] = MAY_BE_SHARED | MAY_BE_PRIVATE;
	}
	sync_global_to_guest(vm, guest_allowed);
	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_SYNC);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_exits), 0);

	kvm_pthread_create(&thread, NULL, vcpu_thread, NULL);
	for (round = 0; round < ROUNDS; round++) {
		first = round * 7 % NPAGES;
		nr = min(1 + (u64)round % 4, NPAGES - first);
		if (round % 3)
			convert_absent(first, nr, !is_private[first]);
		else
			convert_present(first, nr, !is_private[first]);
	}
	WRITE_ONCE(stop, true);
	kvm_pthread_join(thread, NULL);

	/* All there, each with the one content that it should have. */
	TEST_ASSERT_EQ(userfault_count_bits(slot), 0);
	for (page = 0; page < NPAGES; page++)
		guest_allowed[page] = is_private[page] ? MAY_BE_PRIVATE : MAY_BE_SHARED;
	sync_global_to_guest(vm, guest_allowed);
	exits = vcpu_get_stat(vcpu, userfault_exits);
	for (round = 0; round < 2; round++) {
		struct ucall uc;

		vcpu_run(vcpu);
		if (get_ucall(vcpu, &uc) == UCALL_ABORT)
			REPORT_GUEST_ASSERT(uc);
	}
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_exits), exits);
	pr_info("%lu userfault exits, %lu mismatches\n", exits, nr_mismatches);

	userfault_slot_free(slot);
	kvm_vm_free(vm);
	return 0;
}
