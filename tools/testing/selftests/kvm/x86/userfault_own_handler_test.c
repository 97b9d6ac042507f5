// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU waits for a page in the middle of an access of KVM's own, and holds
 * whatever it holds.  Whatever a handler needs to fill the page works meanwhile;
 * what does not, and has to wait for the page, is listed here.  A signal that
 * kills ends the wait.
 */
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <asm/kvm_para.h>
#include <asm/pvclock-abi.h>

#include "apic.h"
#include "hyperv.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_own_page.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define NPAGES		16ul
#define PAGE		5ul
#define OTHER_PAGE	9ul
#define SHARED_GPA	(GPA + PAGE * PAGE_SIZE)
/* A memslot with a dirty log, and one to create. */
#define LOG_SLOT	11
#define LOG_GPA		0xd0000000ul
#define NEW_SLOT	12
#define NEW_GPA		0xe0000000ul

static u64 guest_msr, guest_value;

static void guest_code(u64 id)
{
	if (!id) {
		wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
		GUEST_SYNC(0);
		wrmsr(READ_ONCE(guest_msr), READ_ONCE(guest_value));
	}
	for (;;)
		GUEST_SYNC(1);
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpus[2];
static struct userfault_slot *s, *log_slot, *new_slot;
static struct userfault_own own;
static struct userfault_runner runner;
static int fd;

/* What a vCPU can be in the middle of, and where it waits. */
static const struct kind {
	const char *name;
	u64 msr, value;
	u64 access;
	/* It looks for the memslot once more, and so finds out that it is deleted. */
	bool looks_twice;
} kinds[] = {
	{ "wall clock", MSR_KVM_WALL_CLOCK_NEW, SHARED_GPA, KVM_MEMORY_EXIT_FLAG_READ },
	{ "hypercall page", HV_X64_MSR_HYPERCALL, SHARED_GPA | 1,
	  KVM_MEMORY_EXIT_FLAG_WRITE, .looks_twice = true },
	{ "VP assist page", HV_X64_MSR_VP_ASSIST_PAGE, SHARED_GPA | 1,
	  KVM_MEMORY_EXIT_FLAG_WRITE, .looks_twice = true },
};

static void create(const struct kind *kind)
{
	static const u8 content[64];

	vm = vm_create_with_vcpus(2, guest_code, vcpus);
	for (int i = 0; i < 2; i++) {
		vcpu_set_hv_cpuid(vcpus[i]);
		vcpu_args_set(vcpus[i], 1, (u64)i);
	}
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, USERFAULT_OWN_FEATURES);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON, KVM_MEM_USERFAULT);
	log_slot = userfault_slot_create(vm, LOG_SLOT, LOG_GPA, NPAGES, USERFAULT_ANON,
					 KVM_MEM_LOG_DIRTY_PAGES);
	new_slot = userfault_slot_alloc(vm, NEW_SLOT, NEW_GPA, NPAGES, USERFAULT_ANON);

	own = (struct userfault_own) {
		.vcpu = vcpus[0],
		.s = s,
		.page = PAGE,
		.in_place = true,
		.access = kind->access,
		.size = sizeof(content),
		.content = content,
	};
	guest_msr = kind->msr;
	guest_value = kind->value;
	sync_global_to_guest(vm, guest_msr);
	sync_global_to_guest(vm, guest_value);
	userfault_run_sync(vcpus[0]);
	userfault_own_take(&own);
}

static void destroy(void)
{
	userfault_slot_free(new_slot);
	userfault_slot_free(log_slot);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

static void start(void)
{
	fd = userfault_fd_create(vm, 0);
	userfault_runner_start(&runner, vcpus[0]);
	userfault_own_read_event(&own, fd, 0);
}

static void finish(void)
{
	userfault_own_assert_untouched(&own);
	userfault_own_give(&own);
	userfault_fd_wake(fd, SHARED_GPA, PAGE_SIZE);
	userfault_runner_join_sync(&runner);
	userfault_own_assert_rest(&own);
	close(fd);
}

/*
 * What works.  Each of these returns the result of what it calls.
 */
static int call_replay(void)
{
	userfault_fd_replay(fd);
	userfault_own_read_event(&own, fd, 0);
	return 0;
}

static int call_wake(void)
{
	/* Too early: it is wanted once more. */
	userfault_fd_wake(fd, SHARED_GPA, PAGE_SIZE);
	userfault_own_read_event(&own, fd, 0);
	return 0;
}

static int call_wake_other(void)
{
	userfault_fd_wake(fd, userfault_gpa(s, OTHER_PAGE), PAGE_SIZE);
	userfault_fd_assert_quiet(fd);
	return 0;
}

static int call_clear_other(void)
{
	userfault_resolve(s, OTHER_PAGE, 1);
	return 0;
}

static int call_rescan_other(void)
{
	struct kvm_userfault_range range = {
		.gpa = userfault_gpa(s, OTHER_PAGE),
		.size = PAGE_SIZE,
	};

	userfault_set_bit(s, OTHER_PAGE);
	return __vm_ioctl(vm, KVM_USERFAULT_RESCAN, &range);
}

static int call_rescan_this(void)
{
	userfault_own_rescan(&own);
	return 0;
}

static int call_replace(void)
{
	int old = fd;

	fd = userfault_fd_create(vm, KVM_USERFAULT_FD_REPLACE);
	userfault_own_read_event(&own, fd, 0);
	return close(old);
}

static int call_close(void)
{
	close(fd);
	fd = userfault_fd_create(vm, 0);
	userfault_own_read_event(&own, fd, 0);
	return 0;
}

static int call_check_extension(void)
{
	return vm_check_cap(vm, KVM_CAP_USERFAULT_FEATURES) & KVM_USERFAULT_FEATURE_OWN ? 0 : -1;
}

static int call_enable_cap(void)
{
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, USERFAULT_OWN_FEATURES);
	return 0;
}

static int call_get_dirty_log(void)
{
	u64 bitmap = 0;

	kvm_vm_get_dirty_log(vm, LOG_SLOT, &bitmap);
	return 0;
}

static int call_arm(void)
{
	/* In place, with everything that this drains. */
	userfault_set_all(log_slot);
	userfault_arm(log_slot);
	return 0;
}

static int call_disarm(void)
{
	userfault_disarm(log_slot);
	return 0;
}

static int call_other_map(void)
{
	u64 *old = s->bitmap;

	s->bitmap = kvm_mmap(s->bitmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, s->bitmap_fd);
	userfault_slot_update(s, s->region.flags, s->bitmap);
	kvm_munmap(old, s->bitmap_size);
	return 0;
}

static int call_get_clock(void)
{
	struct kvm_clock_data clock = {};

	return __vm_ioctl(vm, KVM_GET_CLOCK, &clock);
}

static int call_run_other(void)
{
	userfault_run_sync(vcpus[1]);
	return 0;
}

static int call_get_regs_other(void)
{
	struct kvm_regs regs;

	return __vcpu_ioctl(vcpus[1], KVM_GET_REGS, &regs);
}

static int call_stat(void)
{
	return vcpu_get_stat(vcpus[0], userfault_own_waits) >= 1 ? 0 : -1;
}

static int call_signal_msi(void)
{
	struct kvm_msi msi = { .address_lo = APIC_DEFAULT_GPA | 1 << 12, .data = 0xec };

	return __vm_ioctl(vm, KVM_SIGNAL_MSI, &msi) >= 0 ? 0 : -1;
}

static int call_irqfd(void)
{
	int event = kvm_new_eventfd();

	kvm_assign_irqfd(vm, 5, event);
	eventfd_write(event, 1);
	kvm_deassign_irqfd(vm, 5, event);
	return close(event);
}

static int call_discard(void)
{
	/* mmu_notifiers */
	return madvise(userfault_hva(s, OTHER_PAGE), PAGE_SIZE, MADV_DONTNEED);
}

static int call_set_clock(void)
{
	struct kvm_clock_data clock = {};

	return __vm_ioctl(vm, KVM_SET_CLOCK, &clock);
}

struct call {
	const char *name;
	int (*call)(void);
};

static const struct call works[] = {
	{ "REPLAY, read", call_replay },
	{ "WAKE", call_wake },
	{ "WAKE of another page", call_wake_other },
	{ "clearing another bit", call_clear_other },
	{ "RESCAN of another page", call_rescan_other },
	{ "RESCAN of the page", call_rescan_this },
	{ "CREATE_FD with REPLACE", call_replace },
	{ "close, CREATE_FD", call_close },
	{ "KVM_CHECK_EXTENSION", call_check_extension },
	{ "KVM_ENABLE_CAP", call_enable_cap },
	{ "KVM_SET_CLOCK", call_set_clock },
	{ "KVM_RUN of another vCPU", call_run_other },
	{ "KVM_GET_DIRTY_LOG", call_get_dirty_log },
	{ "arming a memslot", call_arm },
	{ "disarming a memslot", call_disarm },
	{ "another bitmap for its memslot", call_other_map },
	{ "KVM_GET_CLOCK", call_get_clock },
	{ "KVM_GET_REGS of another vCPU", call_get_regs_other },
	{ "the vCPU's statistics", call_stat },
	{ "KVM_SIGNAL_MSI", call_signal_msi },
	{ "KVM_IRQFD", call_irqfd },
	{ "MADV_DONTNEED", call_discard },
};

/*
 * What has to wait for the page.
 */
static int call_create_slot(void)
{
	return __userfault_slot_update(new_slot, 0, NULL);
}

static int call_delete_slot(void)
{
	log_slot->region.memory_size = 0;
	return __userfault_slot_set(log_slot);
}

static int call_delete_its_slot(void)
{
	s->region.memory_size = 0;
	return __userfault_slot_set(s);
}

static int call_log_dirty(void)
{
	return __userfault_slot_update(s, s->region.flags | KVM_MEM_LOG_DIRTY_PAGES, s->bitmap);
}

static int call_get_regs(void)
{
	struct kvm_regs regs;

	return __vcpu_ioctl(vcpus[0], KVM_GET_REGS, &regs);
}

static int call_msr_filter(void)
{
	struct kvm_msr_filter filter = {};

	return __vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
}

static int call_ioeventfd(void)
{
	struct kvm_ioeventfd io = {
		.addr = 0x1234, .len = 1, .flags = KVM_IOEVENTFD_FLAG_PIO,
	};
	int r;

	io.fd = kvm_new_eventfd();
	r = __vm_ioctl(vm, KVM_IOEVENTFD, &io);
	if (!r) {
		io.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
		r = __vm_ioctl(vm, KVM_IOEVENTFD, &io);
	}
	close(io.fd);
	return r;
}

static const struct call waits[] = {
	{ "creating a memslot", call_create_slot },
	{ "deleting a memslot", call_delete_slot },
	{ "deleting its memslot", call_delete_its_slot },
	{ "dirty logging", call_log_dirty },
	{ "an ioctl of the vCPU", call_get_regs },
	{ "KVM_X86_SET_MSR_FILTER", call_msr_filter },
	{ "KVM_IOEVENTFD", call_ioeventfd },
};

/* Something that is called in a thread, as it may not return. */
static struct caller {
	pthread_t thread;
	const struct call *call;
	int ret, error;
	bool done;
} caller;

static void *do_call(void *arg)
{
	caller.ret = caller.call->call();
	caller.error = errno;
	__atomic_store_n(&caller.done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void start_call(const struct call *call)
{
	caller = (struct caller) { .call = call };
	kvm_pthread_create(&caller.thread, NULL, do_call, NULL);
}

static bool call_done(void)
{
	return __atomic_load_n(&caller.done, __ATOMIC_ACQUIRE);
}

static void join_call(void)
{
	for (int ms = 0; !call_done(); ms++) {
		TEST_ASSERT(ms < USERFAULT_TIMEOUT_MS, "%s blocks", caller.call->name);
		usleep(1000);
	}
	kvm_pthread_join(caller.thread, NULL);
	TEST_ASSERT(!caller.ret, "%s: %d (%s)", caller.call->name, caller.ret,
		    strerror(caller.error));
}

static void test_works(const struct kind *kind)
{
	pr_info("in the middle of: %s\n", kind->name);

	create(kind);
	start();
	for (int i = 0; i < ARRAY_SIZE(works); i++) {
		start_call(&works[i]);
		join_call();
		TEST_ASSERT(!__atomic_load_n(&runner.done, __ATOMIC_ACQUIRE),
			    "%s has ended the wait", works[i].name);
		userfault_own_assert_untouched(&own);
	}
	userfault_runner_assert_waits(&runner);
	finish();
	destroy();
}

/* The handler is gone, its faults stay; whoever fills the page has no one to tell. */
static void test_stall(const struct kind *kind)
{
	pr_info("in the middle of: %s; the handler is gone\n", kind->name);

	create(kind);
	fd = userfault_fd_create(vm, KVM_USERFAULT_FD_STALL);
	userfault_runner_start(&runner, vcpus[0]);
	userfault_own_read_event(&own, fd, 0);
	close(fd);
	userfault_runner_assert_waits(&runner);
	userfault_own_give(&own);
	userfault_runner_join_sync(&runner);
	userfault_own_assert_rest(&own);
	destroy();
}

static void test_waits(const struct kind *kind, const struct call *call)
{
	pr_info("in the middle of: %s; %s waits\n", kind->name, call->name);

	create(kind);
	start();
	start_call(call);
	usleep(USERFAULT_QUIET_MS * 1000);
	TEST_ASSERT(!call_done(), "%s does not wait", call->name);
	/* The handler does not need that. */
	userfault_fd_replay(fd);
	userfault_own_read_event(&own, fd, 0);
	/* A memslot that is being deleted has no pages any more. */
	if (call->call != call_delete_its_slot)
		userfault_own_rescan(&own);
	TEST_ASSERT(!call_done(), "%s does not wait", call->name);
	finish();
	join_call();
	destroy();
}

/* A process is killed while its vCPU waits, with or without a reader. */
static void test_kill(const struct kind *kind, bool with_fd)
{
	int ready[2], status;
	pid_t pid;

	pr_info("killed in the middle of: %s%s\n", kind->name, with_fd ? ", fd" : "");

	TEST_ASSERT(!pipe(ready), "pipe: %s", strerror(errno));
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		create(kind);
		if (with_fd) {
			start();
		} else {
			userfault_runner_start(&runner, vcpus[0]);
			userfault_runner_assert_waits(&runner);
		}
		TEST_ASSERT_EQ(write(ready[1], "", 1), 1);
		for (;;)
			pause();
	}

	TEST_ASSERT_EQ(read(ready[0], &status, 1), 1);
	TEST_ASSERT(!kill(pid, SIGKILL), "kill: %s", strerror(errno));
	for (int ms = 0; waitpid(pid, &status, WNOHANG) != pid; ms++) {
		TEST_ASSERT(ms < USERFAULT_TIMEOUT_MS, "The process does not die");
		usleep(1000);
	}
	TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status 0x%x", status);
	close(ready[0]);
	close(ready[1]);
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_HYPERV_TIME));

	for (int k = 0; k < ARRAY_SIZE(kinds); k++) {
		test_works(&kinds[k]);
		test_stall(&kinds[k]);
		for (int i = 0; i < ARRAY_SIZE(waits); i++) {
			if (kinds[k].looks_twice && waits[i].call == call_delete_its_slot)
				continue;
			test_waits(&kinds[k], &waits[i]);
		}
		test_kill(&kinds[k], true);
		test_kill(&kinds[k], false);
	}

	return 0;
}
