// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and poison that KVM hits on its own in a turn of a vCPU's loop, beside
 * other things: several pages at a time, a memslot that was not there when its page was
 * poisoned, a shutdown that is due, and an instruction half of which was done.
 */
#include <asm/kvm_para.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_guest.h"
#include "userfault_poison.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		4ul
#define CLOCK_PAGE	1ul
#define STEAL_PAGE	2ul
#define STACK_TOP	(GVA + 4 * PAGE_SIZE)
#define STACK_PAGE	3ul
/* No memslot. */
#define MMIO		0xd0000000ul
#define MMIO_VALUE	0x1122334455667788ull
#define PORT		0x40

#define ROUNDS		6

#define SET		KVM_USERFAULT_POISON_SET
#define CLEAR		KVM_USERFAULT_POISON_CLEAR

static void guest_loop(void)
{
	u32 eax, ebx, ecx, edx;

	for (;;) {
		/* Turns of KVM's loop; what was hit in the last one waits for its exit. */
		cpuid(0, &eax, &ebx, &ecx, &edx);
		cpuid(0, &eax, &ebx, &ecx, &edx);
		GUEST_SYNC(0);
	}
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct userfault_slot *s;

static void create(void *code)
{
	vm = vm_create_with_one_vcpu(&vcpu, code);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES,
		      KVM_USERFAULT_FEATURE_POISON | KVM_USERFAULT_FEATURE_ACCESS);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON, 0);
	virt_map(vm, GVA, GPA, NPAGES);
}

static void destroy(void)
{
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

static void set_page(u64 page, u64 flags)
{
	userfault_poison(vm, userfault_gpa(s, page), PAGE_SIZE, flags);
}

/* The guest gets on; how often is userspace told of which page? */
static void run_rounds(unsigned int *told)
{
	memset(told, 0, NPAGES * sizeof(*told));
	for (int i = 0; i < ROUNDS; i++) {
		vcpu_ioctl(vcpu, KVM_KVMCLOCK_CTRL, NULL);
		for (int exits = 0, ret; (ret = __userfault_run(vcpu)); exits++) {
			gpa_t gpa = vcpu->run->memory_fault.gpa;

			TEST_ASSERT(exits < NPAGES, "It is told again and again");
			userfault_assert_poison_exit(vcpu, ret, gpa,
						     KVM_MEMORY_EXIT_FLAG_WRITE, true);
			told[(gpa - GPA) / PAGE_SIZE]++;
		}
		userfault_assert_sync(vcpu);
	}
}

static void share_clock(void)
{
	vcpu_set_msr(vcpu, MSR_KVM_SYSTEM_TIME_NEW,
		     userfault_gpa(s, CLOCK_PAGE) | KVM_MSR_ENABLED);
}

/* Both are updated before the guest is entered. */
static void test_two_pages(void)
{
	unsigned int told[NPAGES];

	pr_info("two pages\n");
	create(guest_loop);
	share_clock();
	vcpu_set_msr(vcpu, MSR_KVM_STEAL_TIME, userfault_gpa(s, STEAL_PAGE) | KVM_MSR_ENABLED);

	for (int i = 0; i < 2; i++) {
		set_page(CLOCK_PAGE, SET);
		set_page(STEAL_PAGE, SET);
		run_rounds(told);
		TEST_ASSERT_EQ(told[CLOCK_PAGE], 1);
		TEST_ASSERT_EQ(told[STEAL_PAGE], 1);

		set_page(STEAL_PAGE, CLEAR);
		run_rounds(told);
		TEST_ASSERT_EQ(told[CLOCK_PAGE], 1);
		TEST_ASSERT_EQ(told[STEAL_PAGE], 0);
	}
	destroy();
}

static void guest_out(void)
{
	for (;;)
		asm volatile("outb %%al, $" __stringify(PORT) : : "a"(0));
}

/*
 * Entered, and left for userspace: in one turn, unless the host has something to do
 * meanwhile.  How often is userspace told of poison on the way?
 */
static unsigned int run_out(void)
{
	unsigned int told = 0;
	int ret;

	for (; (ret = __userfault_run(vcpu)); told++) {
		TEST_ASSERT(!told, "It is told again");
		userfault_assert_poison_exit(vcpu, ret, userfault_gpa(s, STEAL_PAGE),
					     KVM_MEMORY_EXIT_FLAG_WRITE, true);
	}
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	TEST_ASSERT_EQ(vcpu->run->io.port, PORT);
	return told;
}

/* The last turn before an exit hits poison, which is gone before the next KVM_RUN. */
static void test_late(void)
{
	unsigned int told;

	pr_info("cleared in between\n");
	create(guest_out);
	vcpu_set_msr(vcpu, MSR_KVM_STEAL_TIME, userfault_gpa(s, STEAL_PAGE) | KVM_MSR_ENABLED);

	run_out();
	for (int known = 0; known < 2; known++) {
		set_page(STEAL_PAGE, SET);
		told = run_out();
		if (known) {
			told += run_out();
			TEST_ASSERT_EQ(told, 1);
			TEST_ASSERT_EQ(run_out(), 0);
		}
		set_page(STEAL_PAGE, CLEAR);
		for (int i = 0; i < ROUNDS; i++)
			TEST_ASSERT_EQ(run_out(), 0);
	}
	destroy();
}

/* KVM had the page mapped before, at the same address; its memslot came and went. */
static void test_new_slot(void)
{
	u64 size = NPAGES * PAGE_SIZE;
	unsigned int told[NPAGES];
	u8 *page;

	pr_info("a new memslot\n");
	create(guest_loop);
	page = userfault_alias(s, CLOCK_PAGE);
	share_clock();
	run_rounds(told);
	TEST_ASSERT_EQ(told[CLOCK_PAGE], 0);

	s->region.memory_size = 0;
	TEST_ASSERT(!__userfault_slot_set(s), "delete: %s", strerror(errno));
	set_page(CLOCK_PAGE, SET);
	s->region.memory_size = size;
	TEST_ASSERT(!__userfault_slot_set(s), "create: %s", strerror(errno));

	memset(page, 0x5a, PAGE_SIZE);
	run_rounds(told);
	TEST_ASSERT_EQ(told[CLOCK_PAGE], 1);
	TEST_ASSERT(page[0] == 0x5a && !memcmp(page, page + 1, PAGE_SIZE - 1),
		    "KVM uses the page");
	destroy();
}

/* Each KVM_RUN hits poison before it comes to the shutdown. */
static void test_shutdown(void)
{
	struct kvm_vcpu_events events;
	int exits = 0, ret;

	pr_info("shutdown\n");
	create(guest_loop);
	vm_enable_cap(vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1);
	share_clock();
	userfault_run_sync(vcpu);

	set_page(CLOCK_PAGE, SET);
	vcpu_events_get(vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	events.triple_fault.pending = true;
	vcpu_events_set(vcpu, &events);
	for (;; exits++) {
		vcpu_ioctl(vcpu, KVM_KVMCLOCK_CTRL, NULL);
		ret = __userfault_run(vcpu);
		if (!ret)
			break;
		TEST_ASSERT(!exits, "The shutdown is put off again and again");
		userfault_assert_poison_exit(vcpu, ret, userfault_gpa(s, CLOCK_PAGE),
					     KVM_MEMORY_EXIT_FLAG_WRITE, true);
	}
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_SHUTDOWN);
	TEST_ASSERT_EQ(exits, 1);
	destroy();
}

static void guest_push(void)
{
	u64 rsp = STACK_TOP;

	asm volatile("xchg %%rsp, %0\n\t"
		     "push (%1)\n\t"
		     "xchg %%rsp, %0"
		     : "+r"(rsp) : "r"(MMIO) : "memory");
	GUEST_ASSERT_EQ(rsp, STACK_TOP - 8);
	GUEST_ASSERT_EQ(*(u64 *)rsp, MMIO_VALUE);
	GUEST_SYNC(0);
}

static void run_to_mmio(void)
{
	struct kvm_run *run = vcpu->run;

	userfault_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT(run->mmio.phys_addr == MMIO && run->mmio.len == 8 && !run->mmio.is_write,
		    "0x%llx, %u bytes", run->mmio.phys_addr, run->mmio.len);
	*(u64 *)run->mmio.data = MMIO_VALUE;
}

/* It goes on after the MMIO, with a new RSP, and finds that there is no stack. */
static void test_push(bool look_before)
{
	struct kvm_regs before, after;

	pr_info("push from MMIO%s\n", look_before ? ", registers read in between" : "");
	create(guest_push);
	virt_map(vm, MMIO, MMIO, 1);
	set_page(STACK_PAGE, SET);

	run_to_mmio();
	if (look_before) {
		vcpu_regs_get(vcpu, &before);
		TEST_ASSERT_EQ(before.rsp, STACK_TOP);
	}
	for (int i = 0; i < 2; i++) {
		userfault_assert_poison_exit(vcpu, __userfault_run(vcpu),
					     userfault_gpa(s, STACK_PAGE),
					     KVM_MEMORY_EXIT_FLAG_WRITE, true);
		vcpu_regs_get(vcpu, &after);
		TEST_ASSERT_EQ(after.rsp, STACK_TOP);
		TEST_ASSERT(!look_before || after.rip == before.rip, "rip 0x%llx, not 0x%llx",
			    after.rip, before.rip);
		/* From the beginning. */
		run_to_mmio();
	}
	set_page(STACK_PAGE, CLEAR);
	userfault_run_sync(vcpu);
	destroy();
}

int main(void)
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_USERFAULT_FEATURES) & KVM_USERFAULT_FEATURE_POISON);

	test_two_pages();
	test_late();
	test_new_slot();
	if (kvm_has_cap(KVM_CAP_X86_TRIPLE_FAULT_EVENT))
		test_shutdown();
	test_push(false);
	test_push(true);
	return 0;
}
