// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault with a bitmap that comes and goes while vCPUs run, and with one
 * that userfaultfd provides, so that whoever reads it has to wait.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_map.h"
#include "userfault_util.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		128ul
#define GENERATION	11

/* Pages whose bits are in front of the page boundary in the map; 3 bytes. */
#define NR_HEAD		24ul

/* The absent page where there is one only. */
#define ABSENT		7ul

/* Checks its pages again and again. */
static void guest_code(u64 first, u64 nr)
{
	u64 i;

	for (;;) {
		for (i = first; i < first + nr; i++) {
			int bad = userfault_pattern_check((void *)(GVA + i * PAGE_SIZE),
							  PAGE_SIZE,
							  GPA / PAGE_SIZE + i,
							  GENERATION);

			GUEST_ASSERT_EQ(bad, -1);
		}
		GUEST_SYNC(0);
	}
}

static struct kvm_vm *create_vm(u32 nr_vcpus, struct kvm_vcpu **vcpus)
{
	struct kvm_vm *vm = vm_create_with_vcpus(nr_vcpus, guest_code, vcpus);

	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_ACCESS);
	return vm;
}

static struct userfault_slot *create_slot(struct kvm_vm *vm,
					  enum userfault_backing backing)
{
	struct userfault_slot *s;

	s = userfault_slot_alloc(vm, SLOT, GPA, NPAGES, backing);
	virt_map(vm, GVA, GPA, NPAGES);
	for (u64 i = 0; i < NPAGES; i++)
		userfault_fill(s, i, GENERATION);
	return s;
}

static bool stop_racing;

struct racer {
	struct userfault_slot *s;
	struct userfault_map *m;
	const struct userfault_breakage *b;
	size_t start;
};

/*
 * Breaks the map and mends it.  Memory of the host is taken out of the page
 * tables in both states, so that there is something to ask the map for; it is
 * shared memory, its content stays.
 */
static void *break_and_mend(void *arg)
{
	struct racer *r = arg;
	size_t size = r->s->npages * PAGE_SIZE;

	while (!READ_ONCE(stop_racing)) {
		r->b->do_break(r->m, r->start);
		kvm_madvise(r->s->mem, size, MADV_DONTNEED);
		usleep(500);
		r->b->mend(r->m, r->start);
		kvm_madvise(r->s->mem, size, MADV_DONTNEED);
		usleep(500);
	}
	return NULL;
}

struct seen {
	struct kvm_vcpu *vcpu;
	u64 syncs, absent, unreadable;
};

static void *race_vcpu(void *arg)
{
	struct seen *seen = arg;
	struct kvm_vcpu *vcpu = seen->vcpu;
	const u64 absent = KVM_MEMORY_EXIT_FLAG_USERFAULT | KVM_MEMORY_EXIT_FLAG_READ;

	while (!READ_ONCE(stop_racing)) {
		int r = __userfault_run(vcpu);

		if (!r) {
			userfault_assert_sync(vcpu);
			WRITE_ONCE(seen->syncs, seen->syncs + 1);
			continue;
		}
		TEST_ASSERT(__userfault_is_exit(vcpu, r), "KVM_RUN: %d, %s, reason %u",
			    r, strerror(errno), vcpu->run->exit_reason);
		if (vcpu->run->memory_fault.flags == absent)
			WRITE_ONCE(seen->absent, seen->absent + 1);
		else if (vcpu->run->memory_fault.flags ==
			 (absent | KVM_MEMORY_EXIT_FLAG_BITMAP))
			WRITE_ONCE(seen->unreadable, seen->unreadable + 1);
		else
			TEST_FAIL("Flags 0x%llx", vcpu->run->memory_fault.flags);
		sched_yield();
	}
	return NULL;
}

/*
 * One vCPU reads pages that are there whenever the map is; another one a page
 * that is always absent, so that it must never get any further.
 */
static void test_race(const struct userfault_breakage *b, bool whole)
{
	const u64 absent = NPAGES - 1;
	struct userfault_map m;
	struct racer racer = {
		.m = &m, .b = b, .start = whole ? 0 : PAGE_SIZE,
	};
	struct seen seen[2] = {};
	struct kvm_vcpu *vcpus[2];
	pthread_t threads[3];
	struct userfault_slot *s;
	struct kvm_vm *vm;
	u64 *own;
	int i;

	pr_info("%s and back while vCPUs run: %s\n", b->name,
		whole ? "all of it" : "its tail");
	userfault_map_alloc(&m);

	vm = create_vm(2, vcpus);
	s = create_slot(vm, USERFAULT_SHMEM);
	racer.s = s;
	own = s->bitmap;
	s->bitmap = userfault_map_split(&m, NR_HEAD / 8);
	userfault_set_bit(s, absent);
	userfault_pattern_fill(userfault_alias(s, absent), PAGE_SIZE, 0, 0);
	userfault_slot_update(s, KVM_MEM_USERFAULT, s->bitmap);
	vcpu_args_set(vcpus[0], 2, 0ul, NR_HEAD + 8);
	vcpu_args_set(vcpus[1], 2, absent, 1ul);

	WRITE_ONCE(stop_racing, false);
	for (i = 0; i < 2; i++) {
		seen[i].vcpu = vcpus[i];
		kvm_pthread_create(&threads[i], NULL, race_vcpu, &seen[i]);
	}
	kvm_pthread_create(&threads[2], NULL, break_and_mend, &racer);

	while (READ_ONCE(seen[0].syncs) < 10 || READ_ONCE(seen[0].unreadable) < 10 ||
	       READ_ONCE(seen[1].absent) < 10 || READ_ONCE(seen[1].unreadable) < 10)
		usleep(1000);
	WRITE_ONCE(stop_racing, true);
	for (i = 0; i < 3; i++)
		kvm_pthread_join(threads[i], NULL);

	pr_debug("%lu syncs, %lu unreadable; absent page: %lu absent, %lu unreadable\n",
		 seen[0].syncs, seen[0].unreadable, seen[1].absent, seen[1].unreadable);
	TEST_ASSERT_EQ(seen[0].absent, 0);
	TEST_ASSERT_EQ(seen[1].syncs, 0);

	s->bitmap = own;
	userfault_slot_free(s);
	kvm_vm_free(vm);
	userfault_map_free(&m);
}

static bool thread_done;

static void *arm_thread(void *arg)
{
	userfault_arm(arg);
	WRITE_ONCE(thread_done, true);
	return NULL;
}

/* Runs up to the absent page. */
static void *run_thread(void *arg)
{
	struct userfault_slot *s = arg;
	struct kvm_vcpu *vcpu = list_first_entry(&s->vm->vcpus, struct kvm_vcpu, list);

	userfault_run_expect(vcpu, userfault_gpa(s, ABSENT), KVM_MEMORY_EXIT_FLAG_READ);
	WRITE_ONCE(thread_done, true);
	return NULL;
}

/* A userfaultfd that has the page at @mem, to be given back with close(). */
static int uffd_open(void *mem)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)mem, .len = PAGE_SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	TEST_ASSERT(uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api), "userfaultfd");
	TEST_ASSERT(!ioctl(uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER: %s",
		    strerror(errno));
	return uffd;
}

/* Run @fn until it waits for the page at @mem. */
static pthread_t uffd_block(int uffd, void *mem, void *(*fn)(void *), void *arg)
{
	struct pollfd pollfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;
	pthread_t thread;

	kvm_madvise(mem, PAGE_SIZE, MADV_DONTNEED);
	WRITE_ONCE(thread_done, false);
	kvm_pthread_create(&thread, NULL, fn, arg);
	TEST_ASSERT(poll(&pollfd, 1, 60000) == 1 &&
		    read(uffd, &msg, sizeof(msg)) == sizeof(msg) &&
		    msg.event == UFFD_EVENT_PAGEFAULT &&
		    msg.arg.pagefault.address == (uintptr_t)mem, "Nobody wants the page");
	usleep(100000);
	TEST_ASSERT(!READ_ONCE(thread_done), "Nobody waits for the page");
	return thread;
}

/* Let it have @content, and end. */
static void uffd_unblock(int uffd, void *mem, void *content, pthread_t thread)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)mem,
		.src = (uintptr_t)content,
		.len = PAGE_SIZE,
	};

	TEST_ASSERT(!ioctl(uffd, UFFDIO_COPY, &copy), "UFFDIO_COPY: %s",
		    strerror(errno));
	kvm_pthread_join(thread, NULL);
}

/* The map is userfaultfd's: who reads it waits, and then sees what it gave. */
static void test_uffd(void)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	u64 *own, *content;
	struct kvm_vm *vm;
	pthread_t thread;
	int uffd;

	pr_info("bitmap behind userfaultfd\n");

	vm = create_vm(1, &vcpu);
	vcpu_args_set(vcpu, 2, 0ul, NPAGES);
	s = create_slot(vm, USERFAULT_ANON);
	own = s->bitmap;
	s->bitmap = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);
	content = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1);
	content[0] = BIT(ABSENT);
	uffd = uffd_open(s->bitmap);

	/* A vCPU waits.  At CREATE nothing is mapped and so nothing is read. */
	userfault_slot_update(s, KVM_MEM_USERFAULT, s->bitmap);
	thread = uffd_block(uffd, s->bitmap, run_thread, s);
	uffd_unblock(uffd, s->bitmap, content, thread);
	userfault_resolve(s, ABSENT, GENERATION);
	vcpu_run(vcpu);
	userfault_assert_sync(vcpu);

	/* The ioctl waits: it has to know what to drop. */
	userfault_disarm(s);
	thread = uffd_block(uffd, s->bitmap, arm_thread, s);
	uffd_unblock(uffd, s->bitmap, content, thread);
	userfault_run_expect(vcpu, userfault_gpa(s, ABSENT), KVM_MEMORY_EXIT_FLAG_READ);
	userfault_resolve(s, ABSENT, GENERATION);
	vcpu_run(vcpu);
	userfault_assert_sync(vcpu);

	close(uffd);
	kvm_munmap(s->bitmap, PAGE_SIZE);
	kvm_munmap(content, PAGE_SIZE);
	s->bitmap = own;
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/*
 * A vCPU has found the page present, or the slot not armed, and waits for the
 * memory.  By the time it gets it, the page has become absent.
 */
static void test_fault_in_flight(bool armed, bool swap)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	u64 *own, *other;
	struct kvm_vm *vm;
	pthread_t thread;
	void *garbage;
	int uffd;

	pr_info("absent while a fault is under way: %s\n",
		swap ? "another map" : armed ? "armed anew" : "armed");

	vm = create_vm(1, &vcpu);
	vcpu_args_set(vcpu, 2, 0ul, NPAGES);
	s = create_slot(vm, USERFAULT_ANON);
	own = s->bitmap;
	other = kvm_mmap(s->bitmap_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1);
	garbage = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memset(garbage, 0xee, PAGE_SIZE);
	userfault_slot_update(s, armed ? KVM_MEM_USERFAULT : 0, s->bitmap);
	uffd = uffd_open(userfault_hva(s, ABSENT));
	thread = uffd_block(uffd, userfault_hva(s, ABSENT), run_thread, s);

	if (swap)
		s->bitmap = other;
	else if (armed)
		userfault_disarm(s);
	userfault_set_bit(s, ABSENT);
	userfault_arm(s);
	uffd_unblock(uffd, userfault_hva(s, ABSENT), garbage, thread);

	userfault_resolve(s, ABSENT, GENERATION);
	vcpu_run(vcpu);
	userfault_assert_sync(vcpu);

	close(uffd);
	kvm_munmap(garbage, PAGE_SIZE);
	s->bitmap = own;
	kvm_munmap(other, s->bitmap_size);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	int i, whole;

	TEST_REQUIRE_USERFAULT();

	for (i = 0; i < NR_USERFAULT_BREAKAGES; i++) {
		/* Without the content nobody could say which page is absent. */
		if (!userfault_breakages[i].keeps)
			continue;
		for (whole = 0; whole <= 1; whole++)
			test_race(&userfault_breakages[i], whole);
	}
	test_uffd();
	test_fault_in_flight(false, false);
	test_fault_in_flight(true, false);
	test_fault_in_flight(true, true);
	return 0;
}
