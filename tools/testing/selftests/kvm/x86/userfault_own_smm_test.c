// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and what KVM saves when a vCPU enters system management mode, and
 * restores when it leaves: its state, in the memslots of that mode, and if L2 was
 * running L1's host save area and VMCB.  Half of a vCPU's state is gone in between, so
 * nothing may fail because a page is absent.
 *
 * RSM into L2 has the VMCB mapped when it looks for the host save area.  As long as it
 * waits for that, the VMCB cannot be taken away, and whoever tries is told.
 */
#include <asm/kvm_para.h>
#include <pthread.h>
#include <unistd.h>

#include "apic.h"
#include "kvm_util.h"
#include "processor.h"
#include "smm.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_l2.h"
#include "userfault_poison.h"

#define SMRAM_SLOT	((1 << 16) | 11)
#define SMRAM_GPA	0x1000000ul
#define SMRAM_ENTRY	8ul		/* in pages */
#define SMRAM_STATE	15ul
#define SMM_PORT	0xe
/* Of the other slot: nobody else uses it. */
#define SHARED		13ul
/* No memslot. */
#define NO_SMRAM	0x40000000ul

/* in $SMM_PORT, %al; rsm */
static const u8 handler[] = { 0xe4, SMM_PORT, 0x0f, 0xaa };

struct world {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct userfault_slot *s, *smram;
	struct userfault_taker *t, *smram_taker;
};

static void create(struct world *w, enum userfault_backing backing)
{
	w->s = userfault_l2_create(&w->vcpu, true, false, backing);
	w->vm = w->s->vm;
	vm_enable_cap(w->vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_POISON);
	w->smram = userfault_slot_create(w->vm, SMRAM_SLOT, SMRAM_GPA, SMRAM_PAGES,
					 backing, 0);
	for (u64 page = 0; page < SMRAM_PAGES; page++)
		memset(userfault_alias(w->smram, page), 0, PAGE_SIZE);
	memcpy(userfault_alias(w->smram, SMRAM_ENTRY), handler, sizeof(handler));
	userfault_arm(w->smram);
	vcpu_set_msr(w->vcpu, MSR_IA32_SMBASE, SMRAM_GPA);

	w->t = userfault_taker_create(w->s, true);
	w->smram_taker = userfault_taker_create(w->smram, false);
	w->t->other = w->smram_taker;
}

static void destroy(struct world *w)
{
	userfault_taker_free(w->t);
	userfault_taker_free(w->smram_taker);
	userfault_slot_free(w->s);
	userfault_slot_free(w->smram);
	kvm_vm_free(w->vm);
}

static void run_to(struct world *w, u16 port)
{
	userfault_take_run_ok(w->t, w->vcpu);
	userfault_assert_port(w->vcpu, port);
}

static void assert_smram_event(struct world *w, unsigned int nr, unsigned int i,
			       u64 flags)
{
	struct kvm_userfault_event *e = &w->t->events[i];

	TEST_ASSERT(w->t->nr_events == nr && e->as_id == 1 && e->flags == flags &&
		    e->gpa == userfault_gpa(w->smram, SMRAM_STATE),
		    "%u events; %u at 0x%llx, flags 0x%llx, address space %u",
		    w->t->nr_events, i, e->gpa, e->flags, e->as_id);
}

/* From L1. */
static void test_l1(struct world *w)
{
	userfault_l2_order(w->vm, USERFAULT_L1_VMSAVE, USERFAULT_L2_NOTHING);

	userfault_take(w->smram_taker, SMRAM_STATE);
	inject_smi(w->vcpu);
	run_to(w, SMM_PORT);
	assert_smram_event(w, 1, 0, USERFAULT_OWN_WRITE);

	userfault_take(w->smram_taker, SMRAM_STATE);
	run_to(w, USERFAULT_L1_PORT);
	assert_smram_event(w, 1, 0, USERFAULT_OWN_READ);
}

static void to_l2(struct world *w)
{
	userfault_l2_order(w->vm, USERFAULT_L1_VMRUN, USERFAULT_L2_NOTHING);
	run_to(w, USERFAULT_L2_PORT);
}

static void test_l2(struct world *w)
{
	to_l2(w);

	userfault_take(w->smram_taker, SMRAM_STATE);
	userfault_take(w->t, USERFAULT_HSAVE);
	inject_smi(w->vcpu);
	run_to(w, SMM_PORT);
	userfault_take_assert_event(w->t, 2, 0, USERFAULT_HSAVE, USERFAULT_OWN_WRITE);
	assert_smram_event(w, 2, 1, USERFAULT_OWN_WRITE);

	userfault_take(w->smram_taker, SMRAM_STATE);
	userfault_take(w->t, USERFAULT_HSAVE);
	userfault_take(w->t, USERFAULT_VMCB);
	/* Into L2, and then out to L1, which checks the exit. */
	run_to(w, USERFAULT_L1_PORT);
	assert_smram_event(w, 3, 0, USERFAULT_OWN_READ);
	userfault_take_assert_event(w->t, 3, 1, USERFAULT_VMCB, USERFAULT_OWN_WRITE);
	userfault_take_assert_event(w->t, 3, 2, USERFAULT_HSAVE, USERFAULT_OWN_WRITE);
}

static void assert_busy(struct world *w, u64 page, u64 nr)
{
	struct kvm_userfault_range range = {
		.gpa = userfault_gpa(w->s, page),
		.size = nr * PAGE_SIZE,
		.as_id = KVM_USERFAULT_AS_ALL,
	};

	ASSERT_FAILS(__vm_ioctl(w->vm, KVM_USERFAULT_RESCAN, &range), EBUSY);
	TEST_ASSERT_EQ(range.gpa, userfault_gpa(w->s, USERFAULT_VMCB));
	TEST_ASSERT_EQ(range.size, (page + nr - USERFAULT_VMCB) * PAGE_SIZE);
}

/* As poison it is in use as well; nobody meets it meanwhile. */
static void assert_poison_busy(struct world *w)
{
	struct kvm_userfault_range range = {
		.gpa = userfault_gpa(w->s, USERFAULT_VMCB),
		.size = PAGE_SIZE,
		.flags = KVM_USERFAULT_POISON_SET,
	};

	ASSERT_FAILS(__vm_ioctl(w->vm, KVM_USERFAULT_POISON, &range), EBUSY);
	TEST_ASSERT_EQ(range.gpa, userfault_gpa(w->s, USERFAULT_VMCB));
	TEST_ASSERT_EQ(range.size, PAGE_SIZE);
	range.flags = KVM_USERFAULT_POISON_CLEAR;
	vm_ioctl(w->vm, KVM_USERFAULT_POISON, &range);
}

static void *start_log(void *arg)
{
	struct userfault_slot *s = arg;

	userfault_slot_update(s, s->region.flags | KVM_MEM_LOG_DIRTY_PAGES, s->bitmap);
	return NULL;
}

static void test_busy(struct world *w)
{
	struct userfault_slot *s = w->s;
	struct userfault_runner r;
	pthread_t log;

	to_l2(w);
	inject_smi(w->vcpu);
	run_to(w, SMM_PORT);

	userfault_take(w->t, USERFAULT_HSAVE);
	userfault_runner_start(&r, w->vcpu);
	userfault_take_event(w->t, USERFAULT_HSAVE, USERFAULT_OWN_WRITE);

	userfault_set_bit(s, USERFAULT_VMCB);
	assert_busy(w, USERFAULT_VMCB, 1);
	assert_busy(w, USERFAULT_VMCB - 1, 4);
	assert_poison_busy(w);
	ASSERT_FAILS(__userfault_slot_update(s, s->region.flags, s->bitmap), EBUSY);
	/* Who changes nothing of ours is not told, and waits as for any vCPU. */
	kvm_pthread_create(&log, NULL, start_log, s);
	usleep(USERFAULT_QUIET_MS * 1000);
	/* Pages on either side of it are nobody's. */
	userfault_rescan(s, USERFAULT_VMCB - 1, 1);
	userfault_rescan(s, USERFAULT_VMCB + 1, 1);
	userfault_clear_bit(s, USERFAULT_VMCB);
	userfault_rescan(s, USERFAULT_VMCB, 1);

	userfault_give(w->t, USERFAULT_HSAVE);
	userfault_fd_wake(w->t->fd, userfault_gpa(s, USERFAULT_HSAVE), PAGE_SIZE);
	userfault_runner_join(&r);
	TEST_ASSERT(!r.ret, "KVM_RUN: %s", strerror(r.error));
	userfault_assert_port(w->vcpu, USERFAULT_L1_PORT);
	kvm_pthread_join(log, NULL);
	userfault_slot_update(s, s->region.flags & ~KVM_MEM_LOG_DIRTY_PAGES, s->bitmap);

	/* Nothing is left of it. */
	userfault_take(w->t, USERFAULT_VMCB);
	userfault_give(w->t, USERFAULT_VMCB);
}

/*
 * State that cannot be saved is the end of the vCPU, as on hardware; not of the VM.  It is
 * undefined then, so each of these has a VM of its own.
 */
static void assert_poison_shutdown(struct world *w, gpa_t gpa)
{
	struct kvm_regs regs;

	inject_smi(w->vcpu);
	userfault_assert_poison_exit(w->vcpu, __userfault_run(w->vcpu), gpa,
				     KVM_MEMORY_EXIT_FLAG_WRITE, true);
	userfault_run(w->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(w->vcpu, KVM_EXIT_SHUTDOWN);
	/* All of this fails with EIO in a VM that is dead. */
	userfault_poison(w->vm, gpa, PAGE_SIZE, KVM_USERFAULT_POISON_CLEAR);
	vcpu_regs_get(w->vcpu, &regs);
}

static void test_poison(enum userfault_backing backing, bool l2, bool hsave)
{
	struct world w;
	gpa_t gpa;

	create(&w, backing);
	userfault_l2_order(w.vm, USERFAULT_L1_VMSAVE, USERFAULT_L2_NOTHING);
	if (l2)
		to_l2(&w);
	gpa = hsave ? userfault_gpa(w.s, USERFAULT_HSAVE) : userfault_gpa(w.smram, SMRAM_STATE);
	userfault_poison(w.vm, gpa, PAGE_SIZE, KVM_USERFAULT_POISON_SET);
	assert_poison_shutdown(&w, gpa);
	destroy(&w);
}

/* What KVM shares with the guest is lost.  Userspace is told of that, once. */
static void lose_shared(struct world *w, u64 access)
{
	gpa_t gpa = userfault_gpa(w->s, SHARED);

	userfault_poison(w->vm, gpa, PAGE_SIZE, KVM_USERFAULT_POISON_SET);
	userfault_l2_order(w->vm, USERFAULT_L1_VMSAVE, USERFAULT_L2_NOTHING);
	userfault_assert_poison_exit(w->vcpu, __userfault_run(w->vcpu), gpa, access, true);
	run_to(w, USERFAULT_L1_PORT);
}

/* The virtual APIC's page is hit after SMRAM in the same turn, and known since before. */
static void test_poison_and_vapic(void)
{
	struct kvm_vapic_addr vapic;
	struct kvm_lapic_state lapic;
	struct world w;
	gpa_t gpa;

	create(&w, USERFAULT_ANON);
	vcpu_ioctl(w.vcpu, KVM_GET_LAPIC, &lapic);
	*(u32 *)(lapic.regs + APIC_SPIV) |= APIC_SPIV_APIC_ENABLED;
	vcpu_ioctl(w.vcpu, KVM_SET_LAPIC, &lapic);
	gpa = userfault_gpa(w.smram, SMRAM_STATE);
	vapic.vapic_addr = userfault_gpa(w.s, SHARED);
	vcpu_ioctl(w.vcpu, KVM_SET_VAPIC_ADDR, &vapic);

	userfault_poison(w.vm, gpa, PAGE_SIZE, KVM_USERFAULT_POISON_SET);
	lose_shared(&w, KVM_MEMORY_EXIT_FLAG_READ);
	assert_poison_shutdown(&w, gpa);
	destroy(&w);
}

/* No memory at all is the end of the VM, as ever, whatever else is poisoned. */
static void test_no_smram(void)
{
	struct world w;
	int ret;

	create(&w, USERFAULT_ANON);
	vcpu_set_msr(w.vcpu, MSR_KVM_STEAL_TIME,
		     userfault_gpa(w.s, SHARED) | KVM_MSR_ENABLED);
	lose_shared(&w, KVM_MEMORY_EXIT_FLAG_WRITE);

	vcpu_set_msr(w.vcpu, MSR_IA32_SMBASE, NO_SMRAM);
	inject_smi(w.vcpu);
	ret = __userfault_run(w.vcpu);
	TEST_ASSERT(ret == -1 && errno == EIO, "KVM_RUN: %d, %s, exit reason %u", ret,
		    strerror(errno), w.vcpu->run->exit_reason);
	/* A VM that is dead does not let go of memslots: the process does. */
	userfault_taker_free(w.t);
	userfault_taker_free(w.smram_taker);
	kvm_vm_free(w.vm);
}

int main(void)
{
	static const enum userfault_backing backings[] = {
		USERFAULT_ANON, USERFAULT_SHMEM
	};
	struct world w;
	int i;

	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_SMM));
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));

	for (i = 0; i < ARRAY_SIZE(backings); i++) {
		pr_info("%s\n", userfault_backing_name(backings[i]));
		create(&w, backings[i]);
		test_l1(&w);
		test_l2(&w);
		test_busy(&w);
		destroy(&w);

		test_poison(backings[i], false, false);
		test_poison(backings[i], true, false);
		test_poison(backings[i], true, true);
	}
	pr_info("other poison\n");
	test_poison_and_vapic();
	test_no_smram();
	return 0;
}
