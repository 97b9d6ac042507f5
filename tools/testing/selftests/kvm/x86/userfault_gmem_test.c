// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault on guest_memfd that is really used: a memslot stays bound to
 * its file and the file to it, however often the flag and the pointer change,
 * through holes punched in the file, its last close and the slot's end.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "userfault_guest.h"
#include "userfault_util.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define NPAGES		64ul
#define ROUNDS		20

#define GMEM_FLAGS	(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)

static struct userfault_slot *create(struct kvm_vcpu **vcpu)
{
	struct userfault_slot *s;

	s = userfault_guest_create(vcpu, SLOT, GPA, NPAGES, USERFAULT_GMEM);
	userfault_slot_update(s, s->region.flags, NULL);
	return s;
}

/* The memslot goes, the memory and the bitmap stay. */
static void delete_slot(struct userfault_slot *s)
{
	struct kvm_userspace_memory_region2 region = s->region;

	s->region.memory_size = 0;
	TEST_ASSERT(!__userfault_slot_set(s), "delete: %s", strerror(errno));
	s->region = region;
}

static void assert_page(struct userfault_slot *s, u64 page, u64 generation)
{
	int bad = userfault_pattern_check(userfault_hva(s, page), PAGE_SIZE, page,
					  generation);

	TEST_ASSERT(bad < 0, "Page %lu, generation %lu: wrong at word %d", page,
		    generation, bad);
}

static void punch(struct userfault_slot *s, u64 page, u64 nr)
{
	int r = fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  page * PAGE_SIZE, nr * PAGE_SIZE);

	TEST_ASSERT(!r, "fallocate: %s", strerror(errno));
}

/* A page is discarded while armed, and absent from then on. */
static void discard_and_refill(struct kvm_vcpu *vcpu, struct userfault_slot *s,
			       u64 page, u64 generation)
{
	userfault_set_bit(s, page);
	punch(s, page, 1);
	userfault_guest_read_absent(vcpu, s, page, generation);
	assert_page(s, page, generation);
}

/*
 * On and off, with another pointer, with holes: in every state what the guest
 * writes is what the host sees, and the other way round.
 */
static void test_use(void)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	u64 round, page;
	u64 *own, *other;

	pr_info("toggles and use\n");

	s = create(&vcpu);
	own = s->bitmap;
	other = kvm_mmap(s->bitmap_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1);

	for (round = 1; round <= ROUNDS; round++) {
		page = round * 7 % NPAGES;

		userfault_guest_write(vcpu, s, 0, NPAGES, round);
		assert_page(s, page, round);

		s->bitmap = own;
		userfault_set_bit(s, page);
		userfault_arm(s);
		userfault_guest_read_absent(vcpu, s, page, round);
		userfault_guest_write(vcpu, s, 0, NPAGES, round);
		discard_and_refill(vcpu, s, (page + 1) % NPAGES, round);

		s->bitmap = other;
		userfault_set_bit(s, (page + 2) % NPAGES);
		userfault_arm(s);
		userfault_guest_read_absent(vcpu, s, (page + 2) % NPAGES, round);
		discard_and_refill(vcpu, s, (page + 3) % NPAGES, round);
		userfault_guest_read(vcpu, s, 0, NPAGES, round);

		userfault_disarm(s);
		userfault_guest_read(vcpu, s, 0, NPAGES, round);
		userfault_guest_write(vcpu, s, 0, NPAGES, round + 1);
		for (page = 0; page < NPAGES; page++)
			assert_page(s, page, round + 1);
	}

	/* A hole, not armed: the file's zeroes, and then what the host writes. */
	punch(s, 0, NPAGES);
	for (page = 0; page < NPAGES; page++)
		TEST_ASSERT(!*(u64 *)userfault_alias(s, page), "A hole is not zero");
	for (page = 0; page < NPAGES; page++)
		userfault_guest_fill(s, page, 99);
	userfault_guest_read(vcpu, s, 0, NPAGES, 99);

	s->bitmap = own;
	kvm_munmap(other, s->bitmap_size);
	userfault_guest_destroy(s);
}

static int bind(struct userfault_slot *s, u32 slot, gpa_t gpa, u64 first, u64 nr)
{
	return __vm_set_user_memory_region2(s->vm, slot, KVM_MEM_GUEST_MEMFD, gpa,
					    nr * PAGE_SIZE, userfault_hva(s, first),
					    s->fd, first * PAGE_SIZE);
}

/*
 * The guest gets its memory from the file, not by way of where it is mapped, and
 * that does not change either.
 */
static void test_not_by_mapping(void)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;

	pr_info("not by way of the mapping\n");

	s = create(&vcpu);
	TEST_ASSERT(!mprotect(s->mem, NPAGES * PAGE_SIZE, PROT_NONE), "mprotect");
	userfault_guest_read(vcpu, s, 0, NPAGES, 0);

	userfault_set_all(s);
	userfault_arm(s);
	for (u64 i = 0; i < NPAGES; i++)
		userfault_guest_read_absent(vcpu, s, i, 1);
	userfault_guest_write(vcpu, s, 0, NPAGES, 2);
	userfault_set_all(s);
	userfault_disarm(s);
	punch(s, 0, 8);
	for (u64 i = 0; i < 8; i++)
		userfault_guest_fill(s, i, 2);
	userfault_guest_read(vcpu, s, 0, NPAGES, 2);
	userfault_guest_write(vcpu, s, 0, NPAGES, 3);
	userfault_guest_read(vcpu, s, 0, NPAGES, 3);
	userfault_guest_destroy(s);
}

/*
 * What a toggle leaves behind in the file are the bindings that were there:
 * no one else can have the range, and as soon as the slot is gone all of it.
 */
static void test_bindings(void)
{
	const gpa_t gpa = GPA + 2 * NPAGES * PAGE_SIZE;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	int round;

	pr_info("bindings\n");

	s = create(&vcpu);
	for (round = 0; round < 3; round++) {
		userfault_set_bit(s, round);
		userfault_arm(s);
		TEST_ASSERT(bind(s, SLOT + 1, gpa, 0, NPAGES) == -1 && errno == EEXIST,
			    "Bound twice, armed");
		userfault_guest_read_absent(vcpu, s, round, 0);
		if (round & 1)
			userfault_disarm(s);
		TEST_ASSERT(bind(s, SLOT + 1, gpa, NPAGES - 1, 1) == -1 && errno == EEXIST,
			    "Bound twice");

		/* Gone, taken over by another slot, and back. */
		delete_slot(s);
		TEST_ASSERT(!bind(s, SLOT + 1, gpa, 0, NPAGES), "bind: %s",
			    strerror(errno));
		TEST_ASSERT(__userfault_slot_set(s) == -1 && errno == EEXIST, "Bound twice");
		vm_set_user_memory_region2(s->vm, SLOT + 1, 0, gpa, 0, NULL, 0, 0);
		userfault_slot_update(s, s->region.flags & ~KVM_MEM_USERFAULT, NULL);
		userfault_guest_read(vcpu, s, 0, NPAGES, 0);
	}

	/* Holes find the slot that there is now. */
	punch(s, 0, NPAGES);
	for (u64 i = 0; i < NPAGES; i++)
		userfault_guest_fill(s, i, 1);
	userfault_guest_read(vcpu, s, 0, NPAGES, 1);
	userfault_guest_destroy(s);
}

/*
 * One file, two slots: the second one has its second half.  What happens to the
 * one does not concern the other.
 */
static void test_two_slots(void)
{
	const u64 half = NPAGES / 2;
	struct userfault_slot *s, two;
	struct kvm_vcpu *vcpu;
	u64 round, i;

	pr_info("one file, two slots\n");

	s = userfault_guest_create(&vcpu, SLOT, GPA, NPAGES, USERFAULT_GMEM);
	for (i = 0; i < half; i++)
		userfault_pattern_fill(userfault_alias(s, half + i), PAGE_SIZE, i, 0);

	/* The same memory, seen from its middle. */
	two = *s;
	two.npages = half;
	two.mem += half * PAGE_SIZE;
	two.alias += half * PAGE_SIZE;
	two.bitmap += 1;
	two.region.slot = SLOT + 1;
	two.region.guest_phys_addr = GPA + NPAGES * PAGE_SIZE;
	two.region.memory_size = half * PAGE_SIZE;
	two.region.userspace_addr = (uintptr_t)two.mem;
	two.region.guest_memfd_offset = half * PAGE_SIZE;
	virt_map(s->vm, userfault_gpa(&two, 0), userfault_gpa(&two, 0), half);
	s->region.memory_size = half * PAGE_SIZE;
	userfault_slot_update(s, s->region.flags, NULL);
	userfault_slot_update(&two, two.region.flags, NULL);

	for (round = 0; round < ROUNDS; round++) {
		userfault_guest_read(vcpu, s, 0, half, 0);
		userfault_guest_read(vcpu, &two, 0, half, 0);

		/* Absent in one of them, and that only matters there. */
		userfault_set_bit(s, 3);
		userfault_set_bit(&two, 4);
		userfault_arm(round & 1 ? s : &two);
		userfault_guest_read(vcpu, round & 1 ? &two : s, 0, half, 0);
		userfault_guest_read_absent(vcpu, round & 1 ? s : &two, round & 1 ? 3 : 4, 0);

		/* A hole over the border, in what is armed and what is not. */
		userfault_arm(s);
		userfault_set_bit(s, half - 1);
		userfault_arm(&two);
		userfault_set_bit(&two, 0);
		punch(s, half - 1, 2);
		userfault_guest_read_absent(vcpu, s, half - 1, 0);
		userfault_guest_read_absent(vcpu, &two, 0, 0);

		userfault_clear_bit(s, 3);
		userfault_clear_bit(&two, 4);
		userfault_guest_read(vcpu, &two, 0, half, 0);
		userfault_disarm(&two);
		userfault_disarm(s);
	}

	/* The second one armed again after the first one is gone. */
	userfault_set_bit(&two, 5);
	delete_slot(s);
	userfault_arm(&two);
	userfault_guest_read_absent(vcpu, &two, 5, 0);
	userfault_guest_read_missing(vcpu, GPA, 5, 0);
	delete_slot(&two);
	userfault_guest_destroy(s);
}

/*
 * The file's last reference goes while the slot is armed: the slot is empty, it
 * cannot be changed any more, but deleted.
 */
static void test_close(bool armed)
{
	struct kvm_userspace_memory_region2 region;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	int r;

	pr_info("the file goes%s\n", armed ? ", armed" : "");

	s = create(&vcpu);
	userfault_set_bit(s, 1);
	userfault_arm(s);
	userfault_guest_read_absent(vcpu, s, 1, 0);
	userfault_guest_read(vcpu, s, 0, NPAGES, 0);
	userfault_set_bit(s, 2);
	if (!armed)
		userfault_disarm(s);

	/* Mappings hold the file as well. */
	region = s->region;
	kvm_munmap(s->mem, NPAGES * PAGE_SIZE);
	kvm_munmap(s->alias, NPAGES * PAGE_SIZE);
	close(s->fd);

	region.flags ^= KVM_MEM_USERFAULT;
	region.userfault_bitmap = (uintptr_t)s->bitmap;
	r = __vm_ioctl(s->vm, KVM_SET_USER_MEMORY_REGION2, &region);
	TEST_ASSERT(r == -1 && errno == EINVAL, "Toggled without its file: %d", r);

	userfault_guest_set(s->vm, GPA, 2, 1, 0, false);
	if (armed) {
		userfault_run_expect(vcpu, userfault_gpa(s, 2), 0);
		userfault_clear_bit(s, 2);
	}
	vcpu->run->exit_reason = KVM_EXIT_UNKNOWN;
	r = __userfault_run(vcpu);
	TEST_ASSERT(r == -1 && errno == EFAULT &&
		    vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
		    !vcpu->run->memory_fault.flags &&
		    vcpu->run->memory_fault.gpa == userfault_gpa(s, 2),
		    "Without its file: %d, %s, exit reason %u", r, strerror(errno),
		    vcpu->run->exit_reason);

	/* The range is free; nothing refers to the file that is gone. */
	region.memory_size = 0;
	TEST_ASSERT(!__vm_ioctl(s->vm, KVM_SET_USER_MEMORY_REGION2, &region), "delete");
	s->fd = vm_create_guest_memfd(s->vm, NPAGES * PAGE_SIZE, GMEM_FLAGS);
	s->mem = kvm_mmap(NPAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd);
	s->alias = s->mem;
	s->region.guest_memfd = s->fd;
	s->region.userspace_addr = (uintptr_t)s->mem;
	for (u64 i = 0; i < NPAGES; i++)
		userfault_guest_fill(s, i, 0);
	userfault_clear_all(s);
	userfault_set_bit(s, 3);
	userfault_slot_update(s, s->region.flags | KVM_MEM_USERFAULT, s->bitmap);
	userfault_clear_bit(s, 2);
	userfault_guest_run_on(vcpu);
	userfault_guest_read_absent(vcpu, s, 3, 0);
	userfault_guest_read(vcpu, s, 0, NPAGES, 0);
	userfault_guest_destroy(s);
}

static bool stop;
static u64 nr_done, nr_exits;

static void *run_thread(void *arg)
{
	struct userfault_slot *s = arg;
	struct kvm_vcpu *vcpu = list_first_entry(&s->vm->vcpus, struct kvm_vcpu, list);

	while (!READ_ONCE(stop)) {
		int r = __userfault_run(vcpu);

		if (__userfault_is_exit(vcpu, r)) {
			WRITE_ONCE(nr_exits, nr_exits + 1);
			sched_yield();
			continue;
		}
		TEST_ASSERT(!r, "KVM_RUN: %s, exit reason %u", strerror(errno),
			    vcpu->run->exit_reason);
		userfault_assert_sync(vcpu);
		WRITE_ONCE(nr_done, nr_done + 1);
	}
	return NULL;
}

/*
 * The guest reads all the time; pages are made absent, discarded, filled anew,
 * in a slot that is armed again each time or only gets another pointer.
 */
static void test_running(void)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	u64 *map[2], round, page;

	pr_info("holes while a vCPU runs\n");

	s = create(&vcpu);
	map[0] = s->bitmap;
	map[1] = kvm_mmap(s->bitmap_size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1);
	userfault_guest_set(s->vm, GPA, 0, NPAGES, 0, false);
	kvm_pthread_create(&thread, NULL, run_thread, s);

	for (round = 0; round < 100 || READ_ONCE(nr_done) < 20 ||
	     READ_ONCE(nr_exits) < 20; round++) {
		page = round * 5 % NPAGES;

		if (round % 3 == 2)
			userfault_disarm(s);
		/* Both maps are all clear between the rounds. */
		s->bitmap = map[round & 1];
		userfault_set_bit(s, page);
		userfault_arm(s);
		if (round & 2)
			punch(s, page, 1);
		else
			memset(userfault_alias(s, page), 0xee, PAGE_SIZE);
		usleep(300);
		userfault_guest_resolve(s, page, 0);
		usleep(300);
	}
	WRITE_ONCE(stop, true);
	kvm_pthread_join(thread, NULL);
	pr_debug("%lu rounds, %lu done, %lu exits\n", round, nr_done, nr_exits);

	s->bitmap = map[0];
	kvm_munmap(map[1], s->bitmap_size);
	userfault_guest_destroy(s);
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();

	test_use();
	test_not_by_mapping();
	test_bindings();
	test_two_slots();
	test_close(false);
	test_close(true);
	test_running();
	return 0;
}
