// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that KVM shares with a Linux guest, and that are absent when KVM wants to
 * read or write them: steal time, kvmclock, the wall clock, PV EOI, the TPR.
 */
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <asm/kvm_para.h>
#include <asm/pvclock-abi.h>

#include "apic.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_own_page.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		16ul
#define PAGE		5ul
#define OFFSET		0x340ul
#define SHARED_GPA	(GPA + PAGE * PAGE_SIZE + OFFSET)
#define SHARED_GVA	(GVA + PAGE * PAGE_SIZE + OFFSET)
#define VECTOR		0xec

enum guest_op { OP_NOTHING, OP_WRMSR, OP_INTERRUPT, OP_SPIN };

static u64 guest_op, guest_msr, guest_value;
static u64 guest_interrupts, guest_pv_eois;
static u64 guest_spins, guest_go_on;

static bool test_and_clear_offer(u32 *eoi)
{
	bool offered;

	asm volatile("btrl $0, %0" : "+m"(*eoi), "=@ccc"(offered) : : "memory");
	return offered;
}

static void guest_interrupt(struct ex_regs *regs)
{
	guest_interrupts++;
	while (guest_op == OP_SPIN && !READ_ONCE(guest_go_on))
		cpu_relax();
	/*
	 * If KVM has set it, then clearing it is the end of the interrupt.  KVM takes
	 * it back whenever the guest exits, so that has to be one instruction.
	 */
	if (test_and_clear_offer((u32 *)SHARED_GVA))
		guest_pv_eois++;
	else
		x2apic_write_reg(APIC_EOI, 0);
}

static void guest_code(void)
{
	x2apic_enable();
	asm volatile("sti");
	for (;;) {
		switch (READ_ONCE(guest_op)) {
		case OP_WRMSR:
			wrmsr(guest_msr, guest_value);
			break;
		case OP_INTERRUPT:
			x2apic_write_reg(APIC_ICR, APIC_DEST_SELF | APIC_INT_ASSERT |
					 APIC_DM_FIXED | VECTOR);
			break;
		case OP_SPIN:
			while (!READ_ONCE(guest_go_on))
				WRITE_ONCE(guest_spins, guest_spins + 1);
			break;
		}
		GUEST_SYNC(guest_op);
	}
}

static void set_op(struct kvm_vm *vm, enum guest_op op, u64 msr, u64 value)
{
	guest_op = op;
	guest_msr = msr;
	guest_value = value;
	sync_global_to_guest(vm, guest_op);
	sync_global_to_guest(vm, guest_msr);
	sync_global_to_guest(vm, guest_value);
}

struct shared {
	const char *name;
	bool in_place;
	u64 access;
	size_t size;
	const void *content;
	/* The guest writes this MSR, with the page there, before the page is taken. */
	u64 setup_msr, setup_value;
	/* What wants the page then. */
	void (*want)(struct userfault_own *o);
	void (*check)(struct userfault_own *o, const void *part);
};

static const struct kvm_steal_time steal_content = {
	.steal = 5000, .version = 100, .preempted = KVM_VCPU_PREEMPTED,
};

static void want_nothing(struct userfault_own *o)
{
	/* Whenever a vCPU is loaded KVM updates its steal time. */
	set_op(o->s->vm, OP_NOTHING, 0, 0);
}

static void check_steal(struct userfault_own *o, const void *part)
{
	const struct kvm_steal_time *st = part;

	TEST_ASSERT(st->version > 100 && st->version % 2 == 0, "version %u", st->version);
	TEST_ASSERT(st->steal >= 5000, "steal %llu", st->steal);
	TEST_ASSERT_EQ(st->preempted, 0);
}

static const struct pvclock_vcpu_time_info clock_content = { .version = 100 };

static void want_clock(struct userfault_own *o)
{
	set_op(o->s->vm, OP_NOTHING, 0, 0);
	vcpu_ioctl(o->vcpu, KVM_KVMCLOCK_CTRL, NULL);
}

static void check_clock(struct userfault_own *o, const void *part)
{
	const struct pvclock_vcpu_time_info *clock = part;

	TEST_ASSERT(clock->version > 100 && clock->version % 2 == 0, "version %u",
		    clock->version);
	TEST_ASSERT(clock->tsc_to_system_mul, "There is no clock");
	TEST_ASSERT(clock->flags & PVCLOCK_GUEST_STOPPED, "flags 0x%x", clock->flags);
}

static const struct pvclock_wall_clock wall_content = { .version = 100 };

static void want_wall_clock(struct userfault_own *o)
{
	set_op(o->s->vm, OP_WRMSR, MSR_KVM_WALL_CLOCK_NEW, SHARED_GPA);
}

static void check_wall_clock(struct userfault_own *o, const void *part)
{
	const struct pvclock_wall_clock *wall = part;

	TEST_ASSERT_EQ(wall->version, 102);
	TEST_ASSERT(wall->sec || wall->nsec, "There is no time");
}

static const u32 eoi_content;

static void want_interrupt(struct userfault_own *o)
{
	guest_interrupts = 0;
	guest_pv_eois = 0;
	sync_global_to_guest(o->s->vm, guest_interrupts);
	sync_global_to_guest(o->s->vm, guest_pv_eois);
	set_op(o->s->vm, OP_INTERRUPT, 0, 0);
}

static void check_eoi(struct userfault_own *o, const void *part)
{
	struct kvm_lapic_state lapic;

	sync_global_from_guest(o->s->vm, guest_interrupts);
	sync_global_from_guest(o->s->vm, guest_pv_eois);
	/* QEMU's SVM delivers one twice now and then, whatever the page does. */
	TEST_ASSERT(guest_interrupts, "The interrupt is lost");
	/* It is an offer, which KVM takes back if the guest is not entered at once. */
	TEST_ASSERT(guest_pv_eois <= guest_interrupts, "%lu interrupts were over %lu times",
		    guest_interrupts, guest_pv_eois);
	/* And KVM has seen that it is over. */
	vcpu_ioctl(o->vcpu, KVM_GET_LAPIC, &lapic);
	TEST_ASSERT_EQ(*(u32 *)&lapic.regs[APIC_ISR + VECTOR / 32 * 0x10], 0);
	TEST_ASSERT_EQ(*(const u32 *)part, 0);
}

/* The guest's TPR is in the lowest byte. */
static const u32 vapic_content = 0x20;

/* Whenever the guest exits KVM reads the TPR from this page. */
static void want_vapic(struct userfault_own *o)
{
	struct kvm_vapic_addr va = { .vapic_addr = SHARED_GPA };

	set_op(o->s->vm, OP_NOTHING, 0, 0);
	vcpu_ioctl(o->vcpu, KVM_SET_VAPIC_ADDR, &va);
}

static void check_vapic(struct userfault_own *o, const void *part)
{
	struct kvm_lapic_state lapic;

	vcpu_ioctl(o->vcpu, KVM_GET_LAPIC, &lapic);
	TEST_ASSERT_EQ(*(u32 *)&lapic.regs[APIC_TASKPRI], 0x20);
}

static const struct shared shared[] = {
	{ "steal time", false, KVM_MEMORY_EXIT_FLAG_WRITE, sizeof(steal_content),
	  &steal_content, MSR_KVM_STEAL_TIME, SHARED_GPA | KVM_MSR_ENABLED,
	  want_nothing, check_steal },
	{ "kvmclock", false, KVM_MEMORY_EXIT_FLAG_WRITE, sizeof(clock_content),
	  &clock_content, MSR_KVM_SYSTEM_TIME_NEW, SHARED_GPA | KVM_MSR_ENABLED,
	  want_clock, check_clock },
	{ "wall clock", true, KVM_MEMORY_EXIT_FLAG_READ, sizeof(wall_content),
	  &wall_content, MSR_KVM_WALL_CLOCK_NEW, SHARED_GPA,
	  want_wall_clock, check_wall_clock },
	{ "PV EOI", true, KVM_MEMORY_EXIT_FLAG_WRITE, sizeof(eoi_content),
	  &eoi_content, MSR_KVM_PV_EOI_EN, SHARED_GPA | KVM_MSR_ENABLED,
	  want_interrupt, check_eoi },
	{ "virtual APIC", true, KVM_MEMORY_EXIT_FLAG_READ, sizeof(vapic_content),
	  &vapic_content, 0, 0, want_vapic, check_vapic },
};

static struct userfault_own create(const struct shared *shared,
				   enum userfault_backing backing)
{
	struct userfault_own o = {
		.page = PAGE,
		.in_place = shared->in_place,
		.access = shared->access,
		.offset = OFFSET,
		.size = shared->size,
		.content = shared->content,
	};
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&o.vcpu, guest_code);
	vm_install_exception_handler(vm, VECTOR, guest_interrupt);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, USERFAULT_OWN_FEATURES);
	o.s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, KVM_MEM_USERFAULT);
	virt_map(vm, GVA, GPA, NPAGES);

	userfault_own_give(&o);
	set_op(vm, shared->setup_msr ? OP_WRMSR : OP_NOTHING, shared->setup_msr,
	       shared->setup_value);
	userfault_run_sync(o.vcpu);
	return o;
}

static void test_shared(const struct shared *shared, enum userfault_backing backing,
			enum userfault_own_way way)
{
	struct userfault_own o = create(shared, backing);

	pr_info("%s, %s, %s\n", shared->name, userfault_backing_name(backing),
		userfault_own_way_name(way));

	for (int round = 0; round < 2; round++) {
		userfault_own_take(&o);
		shared->want(&o);
		userfault_own_run(&o, way);
		shared->check(&o, userfault_own_part(&o));
	}
	userfault_own_destroy(&o);
}

/* The guest, by its MSR, asks for an update of a page that it has never had. */
static void test_never_there(const struct shared *shared)
{
	struct userfault_own o = create(shared, USERFAULT_GMEM);

	pr_info("%s, never there\n", shared->name);

	set_op(o.s->vm, OP_WRMSR, shared->setup_msr, 0);
	userfault_run_sync(o.vcpu);
	userfault_own_take(&o);
	set_op(o.s->vm, OP_WRMSR, shared->setup_msr, shared->setup_value);
	userfault_own_run(&o, USERFAULT_OWN_FD);
	userfault_own_destroy(&o);
}

/* The guest spins until it is told to go on. */
static void set_spinning(struct kvm_vm *vm)
{
	guest_go_on = 0;
	sync_global_to_guest(vm, guest_go_on);
	guest_spins = 0;
	sync_global_to_guest(vm, guest_spins);
	set_op(vm, OP_SPIN, 0, 0);
}

static void wait_for_spins(struct kvm_vm *vm)
{
	do {
		sched_yield();
		sync_global_from_guest(vm, guest_spins);
	} while (guest_spins < 1000);
}

static void set_go_on(struct kvm_vm *vm)
{
	guest_go_on = 1;
	sync_global_to_guest(vm, guest_go_on);
}

static void pin_to_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
}

static bool hog_stop;

static void *hog(void *arg)
{
	pin_to_cpu(0);
	while (!READ_ONCE(hog_stop))
		cpu_relax();
	return NULL;
}

static void *run_pinned(void *arg)
{
	struct userfault_runner *r = arg;

	pin_to_cpu(0);
	r->ret = __vcpu_run(r->vcpu);
	r->error = errno;
	return NULL;
}

static void start_pinned(struct userfault_runner *r)
{
	set_spinning(r->vcpu->vm);
	kvm_pthread_create(&r->thread, NULL, run_pinned, r);
	wait_for_spins(r->vcpu->vm);
}

static void start_hog(pthread_t *thread)
{
	hog_stop = false;
	kvm_pthread_create(thread, NULL, hog, NULL);
}

static void stop_hog(pthread_t thread)
{
	WRITE_ONCE(hog_stop, true);
	kvm_pthread_join(thread, NULL);
}

/*
 * The page goes away while the guest runs, and then somebody else wants the CPU.
 * Returns false if the vCPU lost it before, for another reason.
 */
static bool try_preempt(struct userfault_own *o, struct userfault_runner *r)
{
	u64 reported, own_waits = vcpu_get_stat(o->vcpu, userfault_own_waits);
	pthread_t thread;

	start_pinned(r);
	/*
	 * KVM asks for the bit each time.  RESCAN would make workers run, on this
	 * CPU or on the vCPU's.
	 */
	userfault_set_bit(o->s, o->page);
	usleep(1000);
	userfault_own_scribble(o);
	reported = vcpu_get_stat(o->vcpu, preemption_reported);

	start_hog(&thread);
	/* When it is back it wants to write, and exits. */
	kvm_pthread_join(r->thread, NULL);
	stop_hog(thread);
	errno = r->error;
	userfault_assert_exit(o->vcpu, r->ret, userfault_own_gpa(o), userfault_own_flags(o));
	userfault_own_assert_untouched(o);
	TEST_ASSERT_EQ(vcpu_get_stat(o->vcpu, userfault_own_waits), own_waits);
	userfault_own_give(o);
	return vcpu_get_stat(o->vcpu, preemption_reported) > reported;
}

/*
 * Being scheduled out, a vCPU says so in its steal time.  That is no place to wait
 * or to fault: the page is left alone, and nobody is told.
 */
static void test_preempted(enum userfault_backing backing)
{
	struct userfault_own o = create(&shared[0], backing);
	struct userfault_runner r = { .vcpu = o.vcpu };
	struct kvm_steal_time *st = userfault_own_part(&o);
	cpu_set_t everywhere;
	pthread_t thread;
	int tries = 50;

	pr_info("preempted, %s\n", userfault_backing_name(backing));

	TEST_ASSERT(!sched_getaffinity(0, sizeof(everywhere), &everywhere), "getaffinity");
	pin_to_cpu(1);
	while (!try_preempt(&o, &r))
		TEST_ASSERT(--tries, "It is not preempted");

	/* With the page there it does say so, or this test would see nothing. */
	start_pinned(&r);
	start_hog(&thread);
	while (READ_ONCE(st->preempted) != KVM_VCPU_PREEMPTED ||
	       READ_ONCE(st->version) == steal_content.version)
		sched_yield();
	set_go_on(o.s->vm);
	kvm_pthread_join(r.thread, NULL);
	TEST_ASSERT(!r.ret, "KVM_RUN: %s", strerror(r.error));
	userfault_assert_sync(o.vcpu);
	stop_hog(thread);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(everywhere), &everywhere), "setaffinity");
	userfault_own_destroy(&o);
}

/*
 * The other half of PV EOI: the first exit while the guest handles the interrupt
 * makes KVM look whether it is over.  Returns false if that was before the page
 * could be taken away.
 */
static bool try_eoi_read(struct userfault_own *o, int fd)
{
	struct kvm_msi msi = { .address_lo = APIC_DEFAULT_GPA, .data = VECTOR };
	const u32 pending = KVM_MSR_ENABLED;
	struct kvm_vm *vm = o->s->vm;
	struct kvm_userfault_event e;
	struct userfault_runner r;
	bool read = false;

	guest_interrupts = 0;
	sync_global_to_guest(vm, guest_interrupts);
	set_spinning(vm);
	userfault_own_give(o);
	userfault_runner_start(&r, o->vcpu);
	wait_for_spins(vm);
	TEST_ASSERT_EQ(__vm_ioctl(vm, KVM_SIGNAL_MSI, &msi), 1);
	do {
		sync_global_from_guest(vm, guest_interrupts);
	} while (!guest_interrupts);
	/* KVM's accesses ask for the bit, so there is no need of RESCAN. */
	userfault_set_bit(o->s, o->page);
	userfault_runner_kick(&r);

	if (userfault_fd_poll(fd, USERFAULT_QUIET_MS)) {
		e = userfault_fd_read(fd);
		TEST_ASSERT_EQ(e.gpa, userfault_own_gpa(o));
		read = e.flags == userfault_own_flags(o);
		userfault_own_scribble(o);
		userfault_runner_assert_waits(&r);
		userfault_own_assert_untouched(o);
		userfault_own_give(o);
		memcpy(userfault_own_part(o), &pending, sizeof(pending));
		userfault_fd_wake(fd, e.gpa, e.size);
	}
	userfault_runner_join(&r);
	TEST_ASSERT(r.ret == -1 && r.error == EINTR, "KVM_RUN: %d (%s)", r.ret,
		    strerror(r.error));
	if (read) {
		/* It was not over, so KVM takes its offer back. */
		TEST_ASSERT_EQ(*(u32 *)userfault_own_part(o), 0);
		userfault_own_assert_rest(o);
	}

	userfault_clear_bit(o->s, o->page);
	set_go_on(vm);
	userfault_run_sync(o->vcpu);
	return read;
}

static void test_eoi_read(enum userfault_backing backing)
{
	struct userfault_own o = create(&shared[3], backing);
	int fd, tries = 50;

	pr_info("PV EOI read, %s\n", userfault_backing_name(backing));

	o.access = KVM_MEMORY_EXIT_FLAG_READ;
	fd = userfault_fd_create(o.s->vm, 0);
	while (!try_eoi_read(&o, fd))
		TEST_ASSERT(--tries, "KVM does not look");
	close(fd);
	userfault_own_destroy(&o);
}

int main(void)
{
	enum userfault_backing backings[] = { USERFAULT_ANON, USERFAULT_GMEM };
	enum userfault_own_way way;

	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_KVM_STEAL_TIME));
	TEST_REQUIRE(sysconf(_SC_NPROCESSORS_ONLN) > 1);

	for (int b = 0; b < ARRAY_SIZE(backings); b++) {
		for (int i = 0; i < ARRAY_SIZE(shared); i++) {
			for (way = 0; way < NR_USERFAULT_OWN_WAYS; way++)
				test_shared(&shared[i], backings[b], way);
		}
		test_preempted(backings[b]);
		test_eoi_read(backings[b]);
	}
	test_never_there(&shared[0]);
	test_never_there(&shared[1]);

	return 0;
}
