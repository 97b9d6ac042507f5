// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault and asynchronous page faults.  A vCPU runs into a page that is
 * present as far as the bitmap goes, but not in the host: userfaultfd has it.
 * KVM lets a worker wait for the page, and the vCPU sleeps or, if the guest can
 * be told, does something else.  By the time the host has the page its bit is
 * set: completing the page fault, which normally maps the page ahead of the
 * access, must not do so, and must not report anything either, as nothing was
 * accessed.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <asm/kvm_para.h>

#include <linux/sizes.h>
#include <linux/userfaultfd.h>

#include "apic.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_order.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		16ul
#define PAGE		5ul
#define GENERATION	40
#define APF_VECTOR	0xec

/* What the guest's handlers have seen. */
static struct kvm_vcpu_pv_apf_data *guest_apf;
static u64 guest_not_present, guest_ready;

enum stage { STAGE_START, STAGE_NOT_PRESENT, STAGE_READY, STAGE_READ };

static struct userfault_slot *create_slot(struct kvm_vm *vm)
{
	struct userfault_slot *s;

	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	return s;
}

static int register_uffd(struct userfault_slot *s)
{
	struct uffdio_register reg = {
		.range.start = (uintptr_t)s->mem,
		.range.len = s->npages * s->page_size,
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	TEST_ASSERT(uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api) &&
		    !ioctl(uffd, UFFDIO_REGISTER, &reg), "userfaultfd: %s",
		    strerror(errno));
	return uffd;
}

static void wait_for_uffd(int uffd, struct userfault_slot *s)
{
	struct pollfd pollfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;

	TEST_ASSERT(poll(&pollfd, 1, 60000) == 1 &&
		    read(uffd, &msg, sizeof(msg)) == sizeof(msg) &&
		    msg.event == UFFD_EVENT_PAGEFAULT &&
		    msg.arg.pagefault.address / PAGE_SIZE ==
		    (uintptr_t)userfault_hva(s, PAGE) / PAGE_SIZE,
		    "Nobody asked for the page");
}

/* Give the host its page: garbage that the guest must never see, or its content. */
static void resolve_uffd(int uffd, struct userfault_slot *s, bool garbage)
{
	void *src = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct uffdio_copy copy = {
		.dst = (uintptr_t)userfault_hva(s, PAGE),
		.src = (uintptr_t)src,
		.len = PAGE_SIZE,
	};

	if (garbage)
		memset(src, 0xee, PAGE_SIZE);
	else
		userfault_pattern_fill(src, PAGE_SIZE, userfault_gfn(s, PAGE),
				       GENERATION);
	TEST_ASSERT(!ioctl(uffd, UFFDIO_COPY, &copy), "UFFDIO_COPY: %s",
		    strerror(errno));
	kvm_munmap(src, PAGE_SIZE);
}

static void halt_guest_code(void)
{
	/* A guest that takes no interrupts cannot be put to sleep. */
	sti();
	userfault_order_code();
}

struct vcpu_run {
	struct kvm_vcpu *vcpu;
	int ret, err;
};

static void *vcpu_thread(void *arg)
{
	struct vcpu_run *run = arg;

	run->ret = __userfault_run(run->vcpu);
	run->err = errno;
	return NULL;
}

/*
 * The guest knows nothing of it: KVM has the vCPU sleep in KVM_RUN, and when it
 * wakes up the instruction is tried again.  With @absent the bit was set
 * meanwhile and the slot armed, otherwise the completion maps the page.
 */
static void test_halted(bool absent, bool armed_before)
{
	struct vcpu_run run = {};
	struct userfault_slot *s;
	struct kvm_vm *vm;
	pthread_t thread;
	int uffd;

	pr_info("vCPU sleeps, page %s, slot armed %s\n",
		absent ? "absent" : "present", armed_before ? "before" : "late");

	vm = vm_create_with_one_vcpu(&run.vcpu, halt_guest_code);
	userfault_enable_access(vm);
	s = create_slot(vm);
	uffd = register_uffd(s);
	if (armed_before)
		userfault_arm(s);
	userfault_order(vm, USERFAULT_CHECK, GVA + PAGE * PAGE_SIZE,
			userfault_gfn(s, PAGE), 0, GENERATION);
	userfault_order_run(run.vcpu);

	userfault_order(vm, USERFAULT_CHECK, GVA + PAGE * PAGE_SIZE,
			userfault_gfn(s, PAGE), 1, GENERATION);
	kvm_pthread_create(&thread, NULL, vcpu_thread, &run);
	wait_for_uffd(uffd, s);

	if (absent)
		userfault_set_bit(s, PAGE);
	if (!armed_before)
		userfault_arm(s);

	resolve_uffd(uffd, s, absent);
	kvm_pthread_join(thread, NULL);

	if (absent) {
		errno = run.err;
		userfault_assert_exit(run.vcpu, run.ret, userfault_gpa(s, PAGE),
				      KVM_MEMORY_EXIT_FLAG_USERFAULT |
				      KVM_MEMORY_EXIT_FLAG_READ);
		/* The access has exited, the completion before it has not. */
		TEST_ASSERT_EQ(vcpu_get_stat(run.vcpu, userfault_exits), 1);
		userfault_resolve(s, PAGE, GENERATION);
		userfault_order_run(run.vcpu);
	} else {
		TEST_ASSERT(!run.ret, "KVM_RUN: %s", strerror(run.err));
		TEST_ASSERT_EQ(vcpu_get_stat(run.vcpu, userfault_exits), 0);
	}

	close(uffd);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* The guest is told that the page is not there: it need not touch it again. */
static void guest_pf_handler(struct ex_regs *regs)
{
	guest_not_present++;
	WRITE_ONCE(guest_apf->flags, 0);
	/* On with what follows the read. */
	regs->rip = regs->r11;
}

static void guest_ready_handler(struct ex_regs *regs)
{
	guest_ready++;
	WRITE_ONCE(guest_apf->token, 0);
	x2apic_write_reg(APIC_EOI, 0);
	wrmsr(MSR_KVM_ASYNC_PF_ACK, 1);
}

static void guest_check_page(u64 page)
{
	GUEST_ASSERT_EQ(userfault_pattern_check((void *)(GVA + page * PAGE_SIZE),
						PAGE_SIZE, GPA / PAGE_SIZE + page,
						GENERATION), -1);
}

static void apf_guest_code(u64 apf_gva, u64 apf_gpa)
{
	u64 tmp;

	guest_apf = (void *)apf_gva;
	x2apic_enable();
	wrmsr(MSR_KVM_ASYNC_PF_INT, APF_VECTOR);
	wrmsr(MSR_KVM_ASYNC_PF_EN, apf_gpa | KVM_ASYNC_PF_ENABLED |
	      KVM_ASYNC_PF_SEND_ALWAYS | KVM_ASYNC_PF_DELIVERY_AS_INT);
	/* So that the check further down needs no page but the one it checks. */
	guest_check_page(0);
	sti();
	GUEST_SYNC(STAGE_START);

	asm volatile("lea 1f(%%rip), %%r11\n\t"
		     "mov (%1), %0\n\t"
		     "1:" : "=&r"(tmp) : "r"(GVA + PAGE * PAGE_SIZE) : "r11", "memory");
	GUEST_ASSERT_EQ(READ_ONCE(guest_not_present), 1);
	GUEST_SYNC(STAGE_NOT_PRESENT);

	while (!READ_ONCE(guest_ready))
		cpu_relax();
	GUEST_SYNC(STAGE_READY);

	guest_check_page(PAGE);
	GUEST_SYNC(STAGE_READ);
}

static void run_to_stage(struct kvm_vcpu *vcpu, enum stage stage)
{
	struct ucall uc;

	vcpu_run(vcpu);
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT_EQ(uc.cmd, UCALL_SYNC);
	TEST_ASSERT_EQ(uc.args[1], stage);
}

/*
 * The guest is told and leaves the page alone, so all that happens to the page
 * is its completion: nothing gets mapped, no exit is counted, and KVM_RUN ends
 * with what the guest did and not with a userfault.  Returns whether the guest
 * could read the page in the end without a fault.
 */
static bool test_notified(bool absent)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	gva_t apf_gva;
	struct kvm_vm *vm;
	u64 faults;
	int uffd;

	pr_info("guest is told, page %s\n", absent ? "absent" : "present");

	vm = vm_create_with_one_vcpu(&vcpu, apf_guest_code);
	userfault_enable_access(vm);
	vm_install_exception_handler(vm, PF_VECTOR, guest_pf_handler);
	vm_install_exception_handler(vm, APF_VECTOR, guest_ready_handler);
	apf_gva = vm_alloc_page(vm);
	memset(addr_gva2hva(vm, apf_gva), 0, PAGE_SIZE);
	vcpu_args_set(vcpu, 2, apf_gva, addr_gva2gpa(vm, apf_gva));

	s = create_slot(vm);
	userfault_fill(s, 0, GENERATION);
	uffd = register_uffd(s);
	userfault_arm(s);
	run_to_stage(vcpu, STAGE_START);
	run_to_stage(vcpu, STAGE_NOT_PRESENT);
	wait_for_uffd(uffd, s);

	if (absent)
		userfault_set_bit(s, PAGE);
	resolve_uffd(uffd, s, absent);
	run_to_stage(vcpu, STAGE_READY);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_exits), 0);

	faults = vcpu_get_stat(vcpu, pf_taken);
	if (absent) {
		userfault_run_expect(vcpu, userfault_gpa(s, PAGE),
				     KVM_MEMORY_EXIT_FLAG_READ);
		userfault_resolve(s, PAGE, GENERATION);
	}
	run_to_stage(vcpu, STAGE_READ);
	faults = vcpu_get_stat(vcpu, pf_taken) - faults;

	close(uffd);
	userfault_slot_free(s);
	kvm_vm_free(vm);
	return !faults;
}

int main(void)
{
	int tries;

	TEST_REQUIRE_USERFAULT();

	test_halted(true, false);
	test_halted(true, true);
	test_halted(false, true);
	TEST_ASSERT(!test_notified(true), "No fault on an absent page");

	/*
	 * A completion does map the page otherwise, or all of the above would
	 * prove nothing.  KVM tries once, and not at all costs.
	 */
	for (tries = 1; !test_notified(false); tries++)
		TEST_ASSERT(tries < 20, "The page was never mapped ahead");
	return 0;
}
