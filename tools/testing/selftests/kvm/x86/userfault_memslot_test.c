// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault on memslots that are moved, deleted and created again, with
 * vCPUs running or in the middle of reading a bitmap; and on memslots that
 * userspace asks to be changed in a way that they cannot.
 */
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
#include "userfault_guest.h"
#include "userfault_util.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GPA2		0xd0000000ul
#define NPAGES		96ul

#define UF		KVM_MEM_USERFAULT
#define LOG		KVM_MEM_LOG_DIRTY_PAGES

static struct userfault_slot *create(struct kvm_vcpu **vcpu,
				     enum userfault_backing backing)
{
	struct userfault_slot *s;

	s = userfault_guest_create(vcpu, SLOT, GPA, NPAGES, backing);
	virt_map(s->vm, GPA2, GPA2, NPAGES);
	return s;
}

static u64 *other_bitmap(struct userfault_slot *s)
{
	return kvm_mmap(s->bitmap_size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/*
 * A slot is moved, and in the same call armed, disarmed, or given another map.
 * The map is the slot's: its bit 0 is the first page of the new place.
 */
static void test_move(u32 from, u32 to, bool other_map)
{
	const u64 absent[] = { 1, 8, NPAGES - 1 }, other_absent[] = { 2, 9, NPAGES - 2 };
	u64 *own, *other, log[DIV_ROUND_UP(NPAGES, 64)] = {};
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	int i;

	pr_info("move: from %s%s to %s%s%s\n", from & UF ? "armed" : "not armed",
		from & LOG ? ", dirty log" : "", to & UF ? "armed" : "not armed",
		to & LOG ? ", dirty log" : "", other_map ? ", another map" : "");

	s = create(&vcpu, USERFAULT_ANON);
	own = s->bitmap;
	other = other_bitmap(s);
	userfault_set_bit(s, absent[0]);
	userfault_slot_update(s, from, own);
	if (from & UF)
		userfault_guest_read_absent(vcpu, s, absent[0], 0);
	userfault_guest_read(vcpu, s, 0, 8, 0);
	userfault_guest_read(vcpu, s, 9, NPAGES - 10, 0);

	for (i = 0; i < ARRAY_SIZE(absent); i++) {
		s->bitmap = own;
		userfault_set_bit(s, absent[i]);
		s->bitmap = other;
		userfault_set_bit(s, other_absent[i]);
	}
	s->bitmap = other_map ? other : own;
	s->region.guest_phys_addr = GPA2;
	userfault_slot_update(s, to, s->bitmap);
	userfault_guest_read_missing(vcpu, GPA, 0, 0);
	userfault_guest_read_missing(vcpu, GPA, absent[0], 0);

	for (i = 0; i < ARRAY_SIZE(absent); i++) {
		if (to & UF)
			userfault_guest_read_absent(vcpu, s,
						    other_map ? other_absent[i] : absent[i], 0);
		userfault_guest_read(vcpu, s, other_map ? absent[i] : other_absent[i], 1, 0);
	}
	userfault_guest_read(vcpu, s, 0, NPAGES, 0);

	if (to & LOG) {
		userfault_guest_write(vcpu, s, 3, 1, 0);
		kvm_vm_get_dirty_log(s->vm, SLOT, log);
		TEST_ASSERT(log[0] & BIT(3), "Page 3 was written, the log is 0x%lx", log[0]);
	}

	/* Nothing of the old map is left. */
	if (to & UF) {
		userfault_disarm(s);
		userfault_set_bit(s, 5);
		userfault_arm(s);
		userfault_guest_read_absent(vcpu, s, 5, 0);
	}
	userfault_guest_read(vcpu, s, 0, NPAGES, 0);

	s->bitmap = own;
	kvm_munmap(other, s->bitmap_size);
	userfault_guest_destroy(s);
}

/* Deleted, and created at another place with the bits as they are. */
static void test_delete(enum userfault_backing backing, u32 flags)
{
	struct kvm_userspace_memory_region2 region;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;

	pr_info("delete and create again: %s%s\n", userfault_backing_name(backing),
		flags & LOG ? ", dirty log" : "");

	s = create(&vcpu, backing);
	flags |= s->region.flags | UF;
	userfault_set_bit(s, 6);
	userfault_slot_update(s, flags, s->bitmap);
	userfault_guest_read(vcpu, s, 0, 6, 0);
	userfault_guest_read_absent(vcpu, s, 6, 0);

	region = s->region;
	s->region.memory_size = 0;
	TEST_ASSERT(!__userfault_slot_set(s), "delete");
	userfault_guest_read_missing(vcpu, GPA, 0, 0);
	userfault_guest_read_missing(vcpu, GPA, 6, 0);

	/* Present ones, absent ones, and what was either before. */
	userfault_set_bit(s, 0);
	userfault_set_bit(s, 6);
	s->region = region;
	s->region.guest_phys_addr = GPA2;
	userfault_slot_update(s, flags, s->bitmap);
	userfault_guest_read_absent(vcpu, s, 0, 0);
	userfault_guest_read(vcpu, s, 1, 5, 0);
	userfault_guest_read_absent(vcpu, s, 6, 0);
	userfault_guest_read(vcpu, s, 0, NPAGES, 0);
	userfault_guest_read_missing(vcpu, GPA, 1, 0);
	userfault_guest_destroy(s);
}

/* A write to a read-only slot exits for the page first, then for the write. */
static void test_readonly(void)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	u64 writes;

	pr_info("read-only\n");

	s = create(&vcpu, USERFAULT_ANON);
	userfault_set_bit(s, 3);
	userfault_slot_update(s, UF | KVM_MEM_READONLY, s->bitmap);
	userfault_guest_set(s->vm, GPA, 3, 1, 0, true);
	userfault_run_expect(vcpu, userfault_gpa(s, 3), 0);
	userfault_clear_bit(s, 3);
	for (writes = 0; ; writes++) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason != KVM_EXIT_MMIO)
			break;
		TEST_ASSERT(vcpu->run->mmio.is_write &&
			    vcpu->run->mmio.phys_addr == userfault_gpa(s, 3) + writes * 8,
			    "MMIO at 0x%llx", vcpu->run->mmio.phys_addr);
	}
	userfault_assert_sync(vcpu);
	TEST_ASSERT_EQ(writes, PAGE_SIZE / 8);
	userfault_guest_read(vcpu, s, 0, NPAGES, 0);
	userfault_guest_destroy(s);
}

static bool thread_done;

static void *set_thread(void *arg)
{
	TEST_ASSERT(!__userfault_slot_set(arg), "KVM_SET_USER_MEMORY_REGION2");
	WRITE_ONCE(thread_done, true);
	return NULL;
}

/* With the slot, without it, or first the one and then the other. */
static void *vcpu_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;

	do {
		vcpu_run(vcpu);
	} while (userfault_guest_mmio(vcpu, GPA, 0));
	userfault_assert_sync(vcpu);
	return NULL;
}

/*
 * A vCPU reads the bitmap, which userfaultfd keeps from it, and meanwhile the
 * memslot is deleted or moved.  That waits for the vCPU (for kvm->srcu, in fact),
 * which may still map the page; afterwards it is gone.
 */
static void test_reader_in_flight(bool move)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct pollfd pollfd = { .events = POLLIN };
	struct uffdio_zeropage zero = {};
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	pthread_t vcpu_tid, set_tid;
	struct uffd_msg msg;
	u64 *map, *own;
	int uffd;

	pr_info("%s while the bitmap is being read\n", move ? "move" : "delete");

	uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	pollfd.fd = uffd;
	TEST_ASSERT(uffd >= 0 && !ioctl(uffd, UFFDIO_API, &api), "userfaultfd");

	s = create(&vcpu, USERFAULT_ANON);
	own = s->bitmap;
	map = other_bitmap(s);
	reg.range.start = (uintptr_t)map;
	reg.range.len = s->bitmap_size;
	TEST_ASSERT(!ioctl(uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	s->bitmap = map;
	userfault_slot_update(s, UF, map);
	userfault_guest_set(s->vm, GPA, 0, 1, 0, false);

	kvm_pthread_create(&vcpu_tid, NULL, vcpu_thread, vcpu);
	TEST_ASSERT(poll(&pollfd, 1, 20000) == 1 &&
		    read(uffd, &msg, sizeof(msg)) == sizeof(msg) &&
		    msg.event == UFFD_EVENT_PAGEFAULT, "No read of the bitmap");

	if (move)
		s->region.guest_phys_addr = GPA2;
	else
		s->region.memory_size = 0;
	WRITE_ONCE(thread_done, false);
	kvm_pthread_create(&set_tid, NULL, set_thread, s);
	usleep(200000);
	TEST_ASSERT(!READ_ONCE(thread_done),
		    "The ioctl returned while the bitmap was being read");

	zero.range = reg.range;
	TEST_ASSERT(!ioctl(uffd, UFFDIO_ZEROPAGE, &zero), "UFFDIO_ZEROPAGE");
	kvm_pthread_join(set_tid, NULL);
	kvm_pthread_join(vcpu_tid, NULL);

	userfault_guest_read_missing(vcpu, GPA, 0, 0);
	if (move) {
		userfault_set_bit(s, 1);
		userfault_guest_read_absent(vcpu, s, 1, 0);
		userfault_guest_read(vcpu, s, 0, NPAGES, 0);
	}

	close(uffd);
	s->bitmap = own;
	kvm_munmap(map, s->bitmap_size);
	userfault_guest_destroy(s);
}

/* What the vCPU's thread and the one that changes the slot agree on. */
static struct {
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	pthread_mutex_t lock;	/* a page and its bit, while both change */
	bool stop;
	u64 syncs, absent, missing;
} race = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void *race_vcpu(void *unused)
{
	struct kvm_vcpu *vcpu = race.vcpu;
	struct userfault_slot *s = race.s;
	u64 page;

	while (!READ_ONCE(race.stop)) {
		int r = __userfault_run(vcpu);

		if (__userfault_is_exit(vcpu, r)) {
			page = (vcpu->run->memory_fault.gpa - GPA) / PAGE_SIZE;
			TEST_ASSERT(page < NPAGES, "GPA 0x%llx",
				    vcpu->run->memory_fault.gpa);
			pthread_mutex_lock(&race.lock);
			userfault_guest_resolve(s, page, 0);
			pthread_mutex_unlock(&race.lock);
			WRITE_ONCE(race.absent, race.absent + 1);
			continue;
		}
		TEST_ASSERT(!r, "KVM_RUN: %s, exit reason %u", strerror(errno),
			    vcpu->run->exit_reason);
		if (userfault_guest_mmio(vcpu, GPA, 0)) {
			WRITE_ONCE(race.missing, race.missing + 1);
			sched_yield();
		} else {
			userfault_assert_sync(vcpu);
			WRITE_ONCE(race.syncs, race.syncs + 1);
		}
	}
	return NULL;
}

/*
 * Deleted and created, or moved there and back, while a vCPU reads.  While the
 * slot is missing every page can become absent and lose its content.
 */
static void test_race(enum userfault_backing backing, bool move, u32 flags)
{
	struct kvm_userspace_memory_region2 region;
	struct userfault_slot *s;
	pthread_t thread;
	u64 round, page;

	pr_info("%s while a vCPU runs: %s%s\n", move ? "move" : "delete and create",
		userfault_backing_name(backing), flags & LOG ? ", dirty log" : "");

	race.syncs = 0;
	race.absent = 0;
	race.missing = 0;
	WRITE_ONCE(race.stop, false);
	s = create(&race.vcpu, backing);
	race.s = s;
	userfault_slot_update(s, s->region.flags | UF | flags, s->bitmap);
	region = s->region;
	userfault_guest_set_tries(s->vm, 4);
	userfault_guest_set(s->vm, GPA, 0, NPAGES, 0, false);
	kvm_pthread_create(&thread, NULL, race_vcpu, NULL);

	for (round = 0; round < 30 || READ_ONCE(race.syncs) < 5 ||
	     READ_ONCE(race.absent) < 100 || READ_ONCE(race.missing) < 10; round++) {
		if (move)
			s->region.guest_phys_addr = GPA2;
		else
			s->region.memory_size = 0;
		TEST_ASSERT(!__userfault_slot_set(s), "%s", strerror(errno));

		pthread_mutex_lock(&race.lock);
		for (page = round % 7; page < NPAGES; page += 7) {
			userfault_set_bit(s, page);
			memset(userfault_alias(s, page), 0xee, PAGE_SIZE);
		}
		pthread_mutex_unlock(&race.lock);
		usleep(300);

		s->region = region;
		TEST_ASSERT(!__userfault_slot_set(s), "%s", strerror(errno));
		usleep(3000);
	}
	WRITE_ONCE(race.stop, true);
	kvm_pthread_join(thread, NULL);
	pr_debug("%lu rounds, %lu syncs, %lu absent, %lu missing\n", round, race.syncs,
		 race.absent, race.missing);
	userfault_guest_destroy(s);
}

/*
 * The flag and the dirty log change in the same call, there and back, while a
 * vCPU reads.  What is absent once that call returned can be rewritten.
 */
static void test_race_dirty_log(void)
{
	static const struct { u32 armed, not_armed; } steps[] = {
		{ UF | LOG, 0 }, { UF, LOG }, { UF | LOG, LOG }, { UF, 0 },
	};
	struct userfault_slot *s;
	pthread_t thread;
	u64 round, page;
	u64 log[DIV_ROUND_UP(NPAGES, 64)];

	pr_info("flag and dirty log change together while a vCPU runs\n");

	race.syncs = 0;
	race.absent = 0;
	WRITE_ONCE(race.stop, false);
	s = create(&race.vcpu, USERFAULT_ANON_THP);
	race.s = s;
	userfault_slot_update(s, 0, NULL);
	userfault_guest_set(s->vm, GPA, 0, NPAGES, 0, false);
	kvm_pthread_create(&thread, NULL, race_vcpu, NULL);

	for (round = 0; round < 100 || READ_ONCE(race.syncs) < 20 ||
	     READ_ONCE(race.absent) < 20; round++) {
		u32 armed = steps[round % ARRAY_SIZE(steps)].armed;

		page = round % NPAGES;
		pthread_mutex_lock(&race.lock);
		userfault_set_bit(s, page);
		userfault_slot_update(s, armed, s->bitmap);
		memset(userfault_alias(s, page), 0xee, PAGE_SIZE);
		pthread_mutex_unlock(&race.lock);
		if (armed & LOG)
			kvm_vm_get_dirty_log(s->vm, SLOT, log);
		usleep(500);

		pthread_mutex_lock(&race.lock);
		userfault_guest_resolve(s, page, 0);
		userfault_slot_update(s, steps[round % ARRAY_SIZE(steps)].not_armed, NULL);
		pthread_mutex_unlock(&race.lock);
	}
	WRITE_ONCE(race.stop, true);
	kvm_pthread_join(thread, NULL);
	userfault_guest_destroy(s);
}

static void expect_refused(struct userfault_slot *s, const char *what, int error,
			   struct kvm_userspace_memory_region2 region)
{
	int r = __vm_ioctl(s->vm, KVM_SET_USER_MEMORY_REGION2, &region);

	TEST_ASSERT(r == -1 && errno == error, "%s: %d, %s", what, r, strerror(errno));
}

/*
 * Changes that are refused leave an armed slot as it is, also where the flag or
 * the pointer would have changed by the same call: the guest sees the old map.
 */
static void test_refused(enum userfault_backing backing)
{
	struct userfault_slot *s, *behind;
	struct kvm_vcpu *vcpu;
	u64 *other;
	int variant, fd;

	pr_info("refused changes: %s\n", userfault_backing_name(backing));

	s = create(&vcpu, backing);
	other = other_bitmap(s);
	behind = userfault_slot_create(s->vm, SLOT + 1, GPA2 + PAGE_SIZE, 8,
				       USERFAULT_ANON, 0);
	fd = vm_create_guest_memfd(s->vm, NPAGES * PAGE_SIZE,
				   GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);
	userfault_set_bit(s, 2);
	userfault_set_bit(s, 3);
	userfault_slot_update(s, s->region.flags | UF, s->bitmap);
	userfault_guest_read(vcpu, s, 0, 2, 0);
	memset(other, 0, s->bitmap_size);

	/* The same pointer, another one that says that all is there, and disarmed. */
	for (variant = 0; variant <= 2; variant++) {
		struct kvm_userspace_memory_region2 region = s->region, r;

		if (variant)
			region.userfault_bitmap = (uintptr_t)other;
		if (variant == 2)
			region.flags &= ~UF;

#define REFUSED(error, field, value)						\
do {										\
	r = region;								\
	r.field = (value);							\
	expect_refused(s, #field " = " #value, error, r);			\
} while (0)

		REFUSED(EINVAL, flags, region.flags ^ KVM_MEM_READONLY);
		REFUSED(EINVAL, flags, region.flags ^ KVM_MEM_GUEST_MEMFD);
		REFUSED(EINVAL, flags, region.flags | KVM_MEM_USERFAULT_WP);
		REFUSED(EINVAL, flags, region.flags | BIT(4));
		REFUSED(EINVAL, flags, region.flags | BIT(17));
		REFUSED(EINVAL, userspace_addr, region.userspace_addr + PAGE_SIZE);
		REFUSED(EINVAL, userspace_addr, region.userspace_addr + 1);
		REFUSED(EINVAL, memory_size, region.memory_size - PAGE_SIZE);
		REFUSED(EINVAL, memory_size, region.memory_size - 1);
		REFUSED(EINVAL, guest_phys_addr, GPA + 1);
		if (region.flags & UF) {
			/* Canonical for no one, the kernel's, the last byte. */
			REFUSED(EINVAL, userfault_bitmap, region.userfault_bitmap | BIT(62));
			REFUSED(EINVAL, userfault_bitmap, 0xffff888000000000ul);
			REFUSED(EINVAL, userfault_bitmap, -1ul);
		}
		if (backing == USERFAULT_GMEM) {
			REFUSED(EINVAL, guest_memfd, fd);
			REFUSED(EINVAL, guest_memfd, -1);
			REFUSED(EINVAL, guest_memfd_offset, PAGE_SIZE);
			REFUSED(EINVAL, flags, region.flags | KVM_MEM_LOG_DIRTY_PAGES);
			REFUSED(EINVAL, guest_phys_addr, GPA2);
		} else {
			REFUSED(EEXIST, guest_phys_addr, GPA2);
		}
	}

	userfault_guest_read(vcpu, s, 4, NPAGES - 4, 0);
	userfault_guest_read_absent(vcpu, s, 2, 0);
	userfault_guest_read_absent(vcpu, s, 3, 0);
	userfault_guest_read(vcpu, s, 0, NPAGES, 0);

	/* And it was still armed: it does not take two bits to know. */
	userfault_disarm(s);
	userfault_set_bit(s, 9);
	userfault_guest_read(vcpu, s, 0, NPAGES, 0);

	close(fd);
	kvm_munmap(other, s->bitmap_size);
	userfault_slot_free(behind);
	userfault_guest_destroy(s);
}

/* The v1 ioctl: refused once the VM opted in, and until then it disarms. */
static void test_v1_ioctl(bool opted_in)
{
	struct kvm_userspace_memory_region v1 = {
		.slot = SLOT,
		.guest_phys_addr = GPA,
		.memory_size = NPAGES * PAGE_SIZE,
	};
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	int i;

	pr_info("v1 ioctl%s\n", opted_in ? ", opted in" : "");

	s = create(&vcpu, USERFAULT_ANON);
	v1.userspace_addr = s->region.userspace_addr;
	if (opted_in)
		vm_enable_cap(s->vm, KVM_CAP_USERFAULT_FEATURES,
			      KVM_USERFAULT_FEATURE_EXIT);

	/* The same place, another one, and with the dirty log. */
	for (i = 0; i <= 2; i++) {
		userfault_set_bit(s, 1);
		s->region.guest_phys_addr = GPA;
		userfault_slot_update(s, 0, NULL);
		userfault_slot_update(s, UF, s->bitmap);
		v1.guest_phys_addr = i == 1 ? GPA2 : GPA;
		v1.flags = i == 2 ? LOG : 0;
		if (opted_in) {
			TEST_ASSERT(__vm_ioctl(s->vm, KVM_SET_USER_MEMORY_REGION, &v1) == -1 &&
				    errno == EINVAL, "v1 ioctl: %s", strerror(errno));
			userfault_guest_read_absent(vcpu, s, 1, 0);
		} else {
			vm_ioctl(s->vm, KVM_SET_USER_MEMORY_REGION, &v1);
			s->region.guest_phys_addr = v1.guest_phys_addr;
		}
		userfault_guest_read(vcpu, s, 0, NPAGES, 0);
	}

	userfault_slot_update(s, UF, s->bitmap);
	v1.memory_size = 0;
	vm_ioctl(s->vm, KVM_SET_USER_MEMORY_REGION, &v1);
	s->live = false;
	userfault_guest_read_missing(vcpu, GPA, 1, 0);
	userfault_guest_destroy(s);
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();

	test_move(UF, UF, false);
	test_move(UF, UF, true);
	test_move(UF, 0, false);
	test_move(0, UF, false);
	test_move(UF | LOG, UF | LOG, false);
	test_move(UF | LOG, UF | LOG, true);
	test_move(UF | LOG, LOG, false);
	test_move(LOG, UF | LOG, false);
	test_move(UF, UF | LOG, true);
	test_move(UF | LOG, UF, false);

	test_delete(USERFAULT_ANON, 0);
	test_delete(USERFAULT_ANON, LOG);
	test_delete(USERFAULT_SHMEM, 0);
	test_delete(USERFAULT_GMEM, 0);

	test_readonly();
	test_refused(USERFAULT_ANON);
	test_refused(USERFAULT_GMEM);
	test_v1_ioctl(false);
	test_v1_ioctl(true);

	test_reader_in_flight(false);
	test_reader_in_flight(true);

	test_race(USERFAULT_ANON, false, 0);
	test_race(USERFAULT_ANON, true, 0);
	test_race(USERFAULT_ANON, true, LOG);
	test_race(USERFAULT_GMEM, false, 0);
	test_race_dirty_log();
	return 0;
}
