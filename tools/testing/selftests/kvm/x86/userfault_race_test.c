// SPDX-License-Identifier: GPL-2.0
/*
 * A page fault that has read the old bit of a page, and maps after the page was
 * taken away: it has to notice.
 *
 * The window between the two is made as long as it takes, by userfaultfd on the
 * second page of the bitmap.  The slot begins in the middle of 2M, so that one
 * 2M span has its bits on both sides of the border between the two pages: a
 * fault on its first half finds its own bit on the first page, and then gets
 * stuck while it reads those of the neighbours.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/sizes.h>
#include <linux/userfaultfd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_util.h"

#define SLOT		10
#define SPAN		(SZ_2M / PAGE_SIZE)
#define GPA		(0xc0000000ul + SZ_2M / 2)
#define GVA		GPA

/* The first page whose bit is on the bitmap's second page. */
#define BORDER		(PAGE_SIZE * 8)
#define NPAGES		(BORDER + 2 * SPAN)
#define FIRST		(BORDER - SPAN / 2)	/* of the span */
#define GENERATION	7

static u64 guest_page;

static void guest_code(void)
{
	for (;;) {
		u64 page = READ_ONCE(guest_page);
		int bad = userfault_pattern_check((void *)(GVA + page * PAGE_SIZE),
						  PAGE_SIZE,
						  GPA / PAGE_SIZE + page,
						  GENERATION);

		GUEST_ASSERT_EQ(bad, -1);
		GUEST_SYNC(page);
	}
}

static void set_guest_page(struct kvm_vm *vm, u64 page)
{
	guest_page = page;
	sync_global_to_guest(vm, guest_page);
}

/* KVM_RUN, and whether it ended with a userfault exit. */
static bool run_exits(struct kvm_vcpu *vcpu, gpa_t *gpa)
{
	int r = __userfault_run(vcpu);
	struct ucall uc;

	*gpa = 0;
	if (__userfault_is_exit(vcpu, r)) {
		*gpa = vcpu->run->memory_fault.gpa;
		return true;
	}
	TEST_ASSERT(!r, "KVM_RUN: %s", strerror(errno));
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT_EQ(uc.cmd, UCALL_SYNC);
	return false;
}

struct vcpu_thread {
	struct kvm_vcpu *vcpu;
	bool exits;
	gpa_t gpa;
};

static void *run_vcpu(void *arg)
{
	struct vcpu_thread *t = arg;

	t->exits = run_exits(t->vcpu, &t->gpa);
	return NULL;
}

static pid_t updater;

static void *update_slot(void *arg)
{
	struct userfault_slot *s = arg;

	WRITE_ONCE(updater, syscall(__NR_gettid));
	userfault_slot_update(s, KVM_MEM_USERFAULT, s->bitmap);
	return NULL;
}

static bool sleeps_in_ioctl(pid_t tid)
{
	char path[64];
	FILE *f;
	long nr;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	f = fopen(path, "r");
	TEST_ASSERT(f, "%s: %s", path, strerror(errno));
	/* Otherwise it says that the thread is running. */
	if (fscanf(f, "%ld", &nr) != 1)
		nr = -1;
	fclose(f);
	return nr == __NR_ioctl;
}

/*
 * The guest is about to touch @touched, whose fault gets stuck with all bits
 * clear; @taken is taken away; the fault goes on.
 */
static void test_race(u64 touched, u64 taken)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct pollfd pollfd = { .events = POLLIN };
	struct uffdio_zeropage zero = {};
	struct uffdio_register reg = {};
	struct vcpu_thread thread = {};
	pthread_t vcpu_tid, ioctl_tid;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct uffd_msg msg;
	struct kvm_vm *vm;
	u64 *old, huge;
	gpa_t gpa;
	int uffd;
	u64 i;

	pr_info("page %lu of the span touched, page %lu taken away\n",
		(u64)(touched - FIRST), (u64)(taken - FIRST));

	uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	pollfd.fd = uffd;
	TEST_ASSERT(uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api), "userfaultfd");

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	s = userfault_slot_alloc(vm, SLOT, GPA, NPAGES, USERFAULT_ANON_THP);
	virt_map(vm, GVA, GPA, NPAGES);
	for (i = FIRST; i < FIRST + SPAN; i++)
		userfault_fill(s, i, GENERATION);

	/* The map of the beginning: nothing is absent. */
	old = kvm_mmap(s->bitmap_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1);
	TEST_ASSERT(s->bitmap_size > PAGE_SIZE, "The bitmap has one page");
	WRITE_ONCE(old[0], 0);
	reg.range.start = (uintptr_t)old + PAGE_SIZE;
	reg.range.len = s->bitmap_size - PAGE_SIZE;
	reg.mode = UFFDIO_REGISTER_MODE_MISSING;
	TEST_ASSERT(!ioctl(uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	userfault_slot_update(s, KVM_MEM_USERFAULT, old);
	huge = vm_get_stat(vm, pages_2m);

	set_guest_page(vm, touched);
	thread.vcpu = vcpu;
	kvm_pthread_create(&vcpu_tid, NULL, run_vcpu, &thread);
	TEST_ASSERT(poll(&pollfd, 1, 20000) == 1 &&
		    read(uffd, &msg, sizeof(msg)) == sizeof(msg) &&
		    msg.event == UFFD_EVENT_PAGEFAULT, "No read of the bitmap");

	/* Another map, in which the page is absent; the ioctl cannot end yet. */
	userfault_clear_all(s);
	userfault_set_bit(s, taken);
	WRITE_ONCE(updater, 0);
	kvm_pthread_create(&ioctl_tid, NULL, update_slot, s);
	/* It waits in there for the one that is stuck. */
	while (!READ_ONCE(updater) || !sleeps_in_ioctl(updater))
		usleep(1000);
	zero.range = reg.range;
	TEST_ASSERT(!ioctl(uffd, UFFDIO_ZEROPAGE, &zero), "UFFDIO_ZEROPAGE");
	kvm_pthread_join(vcpu_tid, NULL);
	kvm_pthread_join(ioctl_tid, NULL);

	TEST_ASSERT_EQ(thread.exits, touched == taken);
	if (thread.exits)
		TEST_ASSERT_EQ(thread.gpa, userfault_gpa(s, taken));

	set_guest_page(vm, taken);
	TEST_ASSERT(run_exits(vcpu, &gpa), "A page that was taken away is mapped");
	TEST_ASSERT_EQ(gpa, userfault_gpa(s, taken));
	if (kvm_is_tdp_enabled())
		TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), huge);

	userfault_resolve(s, taken, GENERATION);
	TEST_ASSERT(!run_exits(vcpu, &gpa), "An exit for a page that is present");

	close(uffd);
	kvm_munmap(old, s->bitmap_size);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();

	/* The decision itself, on a page that is taken away meanwhile. */
	test_race(BORDER + 5, BORDER + 5);

	/*
	 * The level: the fault is on a neighbour, which stays.  With shadow
	 * paging the guest's own 4K pages decide, and nobody asks.
	 */
	if (kvm_is_tdp_enabled()) {
		test_race(BORDER - 2, BORDER - 1);
		test_race(BORDER - 1, BORDER - 2);
		test_race(BORDER - 2, FIRST + SPAN - 1);
		test_race(BORDER - 2, FIRST);
	}
	return 0;
}
