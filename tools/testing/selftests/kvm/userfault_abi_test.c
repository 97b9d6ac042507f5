// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault: numbers, sizes and offsets; capabilities; what the ioctls
 * refuse, and that a refusal changes nothing.
 */
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "userfault_util.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define NPAGES		128ul
#define SIZE		(NPAGES * PAGE_SIZE)
#define NON_CANONICAL	BIT_ULL(62)

static_assert(sizeof(struct kvm_userspace_memory_region2) == 160);
static_assert(offsetof(struct kvm_userspace_memory_region2, userfault_bitmap) == 48);
static_assert(offsetof(struct kvm_userspace_memory_region2, pad2) == 56);
static_assert(offsetof(struct kvm_userspace_memory_region2, userfault_wp_bitmap) == 152);
static_assert(KVM_SET_USER_MEMORY_REGION2 == 0x40a0ae49);
static_assert(KVM_MEM_USERFAULT == 1 << 3);
static_assert(KVM_MEM_USERFAULT_WP == 1 << 15);

static_assert(KVM_MEMORY_EXIT_FLAG_READ == 1 << 0);
static_assert(KVM_MEMORY_EXIT_FLAG_WRITE == 1 << 1);
static_assert(KVM_MEMORY_EXIT_FLAG_EXEC == 1 << 2);
static_assert(KVM_MEMORY_EXIT_FLAG_PRIVATE == 1 << 3);
static_assert(KVM_MEMORY_EXIT_FLAG_USERFAULT == 1 << 4);
static_assert(KVM_MEMORY_EXIT_FLAG_USERFAULT_WP == 1ull << 32);
static_assert(KVM_MEMORY_EXIT_FLAG_POISON == 1ull << 33);
static_assert(KVM_MEMORY_EXIT_FLAG_OWN == 1ull << 34);
static_assert(KVM_MEMORY_EXIT_FLAG_PAGE_WALK == 1ull << 35);
static_assert(KVM_MEMORY_EXIT_FLAG_BITMAP == 1ull << 36);

static_assert(KVM_CAP_USERFAULT == 0x4b554600);
static_assert(KVM_CAP_USERFAULT_FEATURES == 0x4b554601);
static_assert(KVM_USERFAULT_FEATURE_EXIT == 1 << 0);
static_assert(KVM_USERFAULT_FEATURE_ACCESS == 1 << 1);
static_assert(KVM_USERFAULT_FEATURE_RESCAN == 1 << 2);
static_assert(KVM_USERFAULT_FEATURE_WP == 1 << 3);
static_assert(KVM_USERFAULT_FEATURE_FD == 1 << 4);
static_assert(KVM_USERFAULT_FEATURE_OWN == 1 << 5);
static_assert(KVM_USERFAULT_FEATURE_POISON == 1 << 6);
static_assert(KVM_USERFAULT_FEATURE_POISON_INJECT == 1 << 7);
static_assert(KVM_USERFAULT_FEATURE_ASYNC == 1 << 8);

#define OFFSET(type, field, off)	static_assert(offsetof(struct type, field) == (off))

static_assert(sizeof(struct kvm_userfault_range) == 64);
OFFSET(kvm_userfault_range, gpa, 0);
OFFSET(kvm_userfault_range, size, 8);
OFFSET(kvm_userfault_range, flags, 16);
OFFSET(kvm_userfault_range, as_id, 24);
OFFSET(kvm_userfault_range, pad, 28);
OFFSET(kvm_userfault_range, reserved, 32);
static_assert(sizeof(struct kvm_userfault_fd) == 32);
OFFSET(kvm_userfault_fd, flags, 0);
OFFSET(kvm_userfault_fd, event_size, 4);
OFFSET(kvm_userfault_fd, reserved, 8);
static_assert(sizeof(struct kvm_userfault_event) == 64);
OFFSET(kvm_userfault_event, gpa, 0);
OFFSET(kvm_userfault_event, size, 8);
OFFSET(kvm_userfault_event, flags, 16);
OFFSET(kvm_userfault_event, vcpu_id, 24);
OFFSET(kvm_userfault_event, as_id, 28);
OFFSET(kvm_userfault_event, type, 30);
OFFSET(kvm_userfault_event, seq, 32);
OFFSET(kvm_userfault_event, time_ns, 40);
OFFSET(kvm_userfault_event, reserved, 48);
static_assert(sizeof(struct kvm_userfault_poison_list) == 64);
OFFSET(kvm_userfault_poison_list, gpa, 0);
OFFSET(kvm_userfault_poison_list, size, 8);
OFFSET(kvm_userfault_poison_list, ranges, 16);
OFFSET(kvm_userfault_poison_list, nr, 24);
OFFSET(kvm_userfault_poison_list, flags, 28);
OFFSET(kvm_userfault_poison_list, generation, 32);
OFFSET(kvm_userfault_poison_list, reserved, 40);
static_assert(sizeof(struct kvm_userfault_poison_range) == 32);
OFFSET(kvm_userfault_poison_range, gpa, 0);
OFFSET(kvm_userfault_poison_range, size, 8);
OFFSET(kvm_userfault_poison_range, flags, 16);
OFFSET(kvm_userfault_poison_range, reserved, 24);
static_assert(sizeof(struct kvm_userfault_inject) == 64);
OFFSET(kvm_userfault_inject, gpa, 0);
OFFSET(kvm_userfault_inject, flags, 8);
OFFSET(kvm_userfault_inject, result, 12);
OFFSET(kvm_userfault_inject, access, 16);
OFFSET(kvm_userfault_inject, reserved, 24);

static_assert(KVM_USERFAULT_CREATE_FD == 0x4020aef0);
static_assert(KVM_USERFAULT_RESCAN == 0xc040aef1);
static_assert(KVM_USERFAULT_POISON == 0xc040aef2);
static_assert(KVM_USERFAULT_GET_POISON == 0xc040aef3);
static_assert(KVM_USERFAULT_INJECT == 0xc040aef4);
static_assert(KVM_USERFAULT_WAKE == 0x4040aef8);
static_assert(KVM_USERFAULT_REPLAY == 0xaef9);

#define FEATURES	(KVM_USERFAULT_FEATURE_EXIT | KVM_USERFAULT_FEATURE_ACCESS | \
			 KVM_USERFAULT_FEATURE_RESCAN | KVM_USERFAULT_FEATURE_FD | \
			 KVM_USERFAULT_FEATURE_OWN | KVM_USERFAULT_FEATURE_POISON | \
			 KVM_USERFAULT_FEATURE_POISON_INJECT)

static int enable_cap(struct kvm_vm *vm, u32 cap, u32 flags, u64 a0, u64 a1,
		      u64 a2, u64 a3)
{
	struct kvm_enable_cap e = {
		.cap = cap,
		.flags = flags,
		.args = { a0, a1, a2, a3 },
	};

	return __vm_ioctl(vm, KVM_ENABLE_CAP, &e);
}

static void test_caps(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	int i;

	pr_info("Capabilities\n");

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_USERFAULT), 1);
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_USERFAULT), 1);
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_USERFAULT_FEATURES), FEATURES);
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_USERFAULT_FEATURES), FEATURES);

	ASSERT_FAILS(enable_cap(vm, KVM_CAP_USERFAULT, 0, 1, 0, 0, 0), EINVAL);

	for (i = 0; i < 64; i++) {
		if (!(FEATURES & BIT_ULL(i)))
			ASSERT_FAILS(enable_cap(vm, KVM_CAP_USERFAULT_FEATURES,
						0, BIT_ULL(i), 0, 0, 0), EINVAL);
	}
	ASSERT_FAILS(enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, 1, 1, 0, 0, 0), EINVAL);
	ASSERT_FAILS(enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, 0, 1, 1, 0, 0), EINVAL);
	ASSERT_FAILS(enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, 0, 1, 0, 1, 0), EINVAL);
	ASSERT_FAILS(enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, 0, 1, 0, 0, 1), EINVAL);

	/* Additive and idempotent. */
	TEST_ASSERT(!enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, 0, 0, 0, 0, 0), "0");
	for (i = 0; i < 2; i++) {
		TEST_ASSERT(!enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, 0,
					KVM_USERFAULT_FEATURE_EXIT, 0, 0, 0), "EXIT");
		TEST_ASSERT(!enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, 0,
					KVM_USERFAULT_FEATURE_ACCESS, 0, 0, 0), "ACCESS");
	}
	kvm_vm_free(vm);
}

/* Not before the VM has the feature, whatever the arguments are. */
static void test_not_enabled(void)
{
	struct kvm_userfault_range range = { .gpa = GPA, .size = SIZE };
	struct kvm_userfault_poison_list list = {};
	struct kvm_vm *vm = vm_create_barebones();

	pr_info("Ioctls of features that are not enabled\n");

	TEST_ASSERT(!enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, 0,
				FEATURES & ~KVM_USERFAULT_FEATURE_POISON, 0, 0, 0),
		    "Enabling all but POISON");
	ASSERT_FAILS(__vm_ioctl(vm, KVM_USERFAULT_POISON, &range), EPERM);
	ASSERT_FAILS(__vm_ioctl(vm, KVM_USERFAULT_GET_POISON, &list), EPERM);
	kvm_vm_free(vm);
}

static int set_region(struct kvm_vm *vm, u32 flags, void *mem, u64 bitmap)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = SLOT,
		.flags = flags,
		.guest_phys_addr = GPA,
		.memory_size = mem ? SIZE : 0,
		.userspace_addr = (uintptr_t)mem,
		.userfault_bitmap = bitmap,
	};

	return __vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region);
}

/* There is no way to ask for a memslot's flags, but deleting it needs it. */
static void assert_no_slot(struct kvm_vm *vm)
{
	ASSERT_FAILS(set_region(vm, 0, NULL, 0), EINVAL);
}

static void test_memslot(void)
{
	const u64 map_size = DIV_ROUND_UP(NPAGES, 64) * sizeof(u64);
	struct kvm_vm *vm = vm_create_barebones();
	const u64 last_word = (1ul << 63) - sizeof(u64);
	u64 map[4] = {};
	void *mem = kvm_mmap(SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);
	/* x86 leaves out the last page; a pointer beyond 2^48 needs 5 levels. */
	bool la57 = !set_region(vm, KVM_MEM_USERFAULT, mem, 1ul << 48);
	const u64 user_end = (1ul << (la57 ? 56 : 47)) - PAGE_SIZE;
	struct kvm_userspace_memory_region2 garbage;
	struct kvm_userspace_memory_region v1 = {
		.slot = SLOT,
		.guest_phys_addr = GPA,
		.memory_size = SIZE,
		.userspace_addr = (uintptr_t)mem,
	};

	pr_info("Memslots\n");
	if (la57)
		TEST_ASSERT(!set_region(vm, 0, NULL, 0), "Deleting the slot");

	/* With and without a live slot. */
	for (int live = 0; live <= 1; live++) {
		if (live)
			TEST_ASSERT(!set_region(vm, 0, mem, 0), "Creating the slot");

		ASSERT_FAILS(set_region(vm, KVM_MEM_USERFAULT, mem, NON_CANONICAL),
			     EINVAL);
		ASSERT_FAILS(set_region(vm, KVM_MEM_USERFAULT, mem, -1ul), EINVAL);
		ASSERT_FAILS(set_region(vm, KVM_MEM_USERFAULT, mem,
					0xffff888000000000ul), EINVAL);
		/* It starts in user space and ends behind it; or wraps around. */
		ASSERT_FAILS(set_region(vm, KVM_MEM_USERFAULT, mem, last_word), EINVAL);
		ASSERT_FAILS(set_region(vm, KVM_MEM_USERFAULT, mem, -map_size + 8),
			     EINVAL);
		/* Not offered. */
		ASSERT_FAILS(set_region(vm, KVM_MEM_USERFAULT_WP, mem,
					(uintptr_t)map), EINVAL);
		if (!live)
			assert_no_slot(vm);
	}
	TEST_ASSERT(!set_region(vm, 0, NULL, 0), "Deleting the slot");

	/* All of it has to be in user space, of whatever size that is. */
	ASSERT_FAILS(set_region(vm, KVM_MEM_USERFAULT, mem, user_end - map_size + 8),
		     EINVAL);
	TEST_ASSERT(!set_region(vm, KVM_MEM_USERFAULT, mem, user_end - map_size),
		    "The end of user space");
	TEST_ASSERT(!set_region(vm, 0, NULL, 0), "Deleting the slot");

	/* The bit is refused in the v1 ioctl, which has no pointer. */
	v1.flags = KVM_MEM_USERFAULT;
	ASSERT_FAILS(__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &v1), EINVAL);
	assert_no_slot(vm);

	/* Without the flag nobody looks at the pads, and all of it is pad. */
	memset(&garbage, 0xff, sizeof(garbage));
	garbage.slot = SLOT;
	garbage.flags = 0;
	garbage.guest_phys_addr = GPA;
	garbage.memory_size = SIZE;
	garbage.userspace_addr = (uintptr_t)mem;
	TEST_ASSERT(!__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &garbage),
		    "Garbage in the pads");
	/* With it only the pointer counts, and it need not point anywhere. */
	garbage.flags = KVM_MEM_USERFAULT;
	garbage.userfault_bitmap = 0;
	TEST_ASSERT(!__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &garbage),
		    "NULL bitmap, garbage in the pads");
	garbage.userfault_bitmap = (uintptr_t)map + 1;
	TEST_ASSERT(!__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &garbage),
		    "An odd address");
	garbage.flags = 0;
	TEST_ASSERT(!__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &garbage),
		    "Disarming with garbage in the pads");
	TEST_ASSERT(!set_region(vm, 0, NULL, 0), "Deleting the slot");

	/* As before: what cannot be changed cannot be changed with the flag. */
	TEST_ASSERT(!set_region(vm, 0, mem, 0), "Creating the slot");
	ASSERT_FAILS(set_region(vm, KVM_MEM_USERFAULT, mem + PAGE_SIZE,
				(uintptr_t)map), EINVAL);
	ASSERT_FAILS(set_region(vm, KVM_MEM_USERFAULT | KVM_MEM_READONLY, mem,
				(uintptr_t)map), EINVAL);
	ASSERT_FAILS(set_region(vm, KVM_MEM_USERFAULT | KVM_MEM_GUEST_MEMFD, mem,
				(uintptr_t)map), EINVAL);
	ASSERT_FAILS(__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2,
				(struct kvm_userspace_memory_region2 *)8), EFAULT);
	kvm_munmap(mem, SIZE);
	kvm_vm_free(vm);
}

/* On a live slot the file and the offset have to be those it was created with. */
static void test_gmem_identity(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_userspace_memory_region2 region;
	struct userfault_slot *s;
	u64 map[2] = {};
	int other;

	pr_info("guest_memfd\n");

	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_GMEM, 0);
	other = vm_create_guest_memfd(vm, SIZE, GUEST_MEMFD_FLAG_MMAP |
						GUEST_MEMFD_FLAG_INIT_SHARED);

	for (int armed = 0; armed <= 1; armed++) {
		region = s->region;
		region.flags |= KVM_MEM_USERFAULT;
		region.userfault_bitmap = (uintptr_t)map;

		region.guest_memfd = other;
		ASSERT_FAILS(__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region), EINVAL);
		region.guest_memfd = -1;
		ASSERT_FAILS(__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region), EINVAL);
		region.guest_memfd = s->fd;
		region.guest_memfd_offset = PAGE_SIZE;
		ASSERT_FAILS(__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region), EINVAL);
		region.guest_memfd_offset = 0;
		region.guest_phys_addr += SIZE;
		ASSERT_FAILS(__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region), EINVAL);
		region.guest_phys_addr = GPA;
		region.flags |= KVM_MEM_LOG_DIRTY_PAGES;
		ASSERT_FAILS(__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region), EINVAL);

		userfault_arm(s);
	}
	close(other);
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

/* U4: the v1 ioctl would disarm a slot by accident. */
static void test_v1_ioctl(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	void *mem = kvm_mmap(SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct kvm_userspace_memory_region v1 = {
		.slot = SLOT,
		.guest_phys_addr = GPA,
		.memory_size = SIZE,
		.userspace_addr = (uintptr_t)mem,
	};
	u64 map[2] = {};

	pr_info("The v1 memslot ioctl\n");

	/* As in the series posted upstream, until the VM opted in. */
	TEST_ASSERT(!set_region(vm, KVM_MEM_USERFAULT, mem, (uintptr_t)map), "create");
	TEST_ASSERT(!__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &v1), "v1 disarms");

	TEST_ASSERT(!set_region(vm, KVM_MEM_USERFAULT, mem, (uintptr_t)map), "arm");
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_EXIT);
	ASSERT_FAILS(__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &v1), EINVAL);
	v1.flags = KVM_MEM_LOG_DIRTY_PAGES;
	ASSERT_FAILS(__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &v1), EINVAL);
	v1.guest_phys_addr += SIZE;
	ASSERT_FAILS(__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &v1), EINVAL);

	/* A slot that is not armed is as ever, and so is deletion. */
	v1.guest_phys_addr = GPA;
	TEST_ASSERT(!set_region(vm, 0, mem, 0), "disarm");
	TEST_ASSERT(!__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &v1), "v1 dirty log");
	TEST_ASSERT(!set_region(vm, KVM_MEM_USERFAULT | KVM_MEM_LOG_DIRTY_PAGES,
				mem, (uintptr_t)map), "arm");
	v1.memory_size = 0;
	TEST_ASSERT(!__vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &v1), "v1 delete");
	assert_no_slot(vm);

	kvm_munmap(mem, SIZE);
	kvm_vm_free(vm);
}

/* Another process gets EIO, whatever it asks for. */
static void test_wrong_process(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	void *mem = kvm_mmap(SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);
	u64 map[2] = {};
	int status;
	pid_t pid;

	pr_info("Another process\n");

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork");
	if (!pid) {
		int r = set_region(vm, KVM_MEM_USERFAULT, mem, (uintptr_t)map);

		if (r != -1 || errno != EIO)
			_exit(1);
		r = enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, 0, 1, 0, 0, 0);
		_exit(r != -1 || errno != EIO ? 2 : 0);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && !status,
		    "In another process: wait status 0x%x", status);
	assert_no_slot(vm);
	kvm_munmap(mem, SIZE);
	kvm_vm_free(vm);
}

static bool racer_stop;

static void *delete_and_create(void *arg)
{
	struct userfault_slot *s = arg;
	struct kvm_userspace_memory_region2 region = s->region;

	while (!READ_ONCE(racer_stop)) {
		region.memory_size = 0;
		__vm_ioctl(s->vm, KVM_SET_USER_MEMORY_REGION2, &region);
		region.memory_size = s->region.memory_size;
		__vm_ioctl(s->vm, KVM_SET_USER_MEMORY_REGION2, &region);
	}
	return NULL;
}

/* Toggling against deletion: either order is fine, nothing in between is. */
static void test_racing_delete(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct userfault_slot *s;
	int i, r, fails = 0;
	pthread_t thread;

	pr_info("Toggling a memslot that another thread deletes\n");

	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_GMEM, 0);
	kvm_pthread_create(&thread, NULL, delete_and_create, s);
	for (i = 0; i < 200; i++) {
		struct kvm_userspace_memory_region2 region = s->region;

		region.flags ^= i & 1 ? KVM_MEM_USERFAULT : 0;
		region.userfault_bitmap = (uintptr_t)s->bitmap;
		r = __vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region);
		/*
		 * A slot with guest_memfd and no userfault flag on either side
		 * refuses an update; and the binding can be taken.
		 */
		TEST_ASSERT(!r || errno == EINVAL || errno == EEXIST,
			    "Unexpected: %s", strerror(errno));
		fails += !!r;
	}
	WRITE_ONCE(racer_stop, true);
	kvm_pthread_join(thread, NULL);
	TEST_ASSERT(fails < 200, "No update ever worked");
	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();

	test_caps();
	test_not_enabled();
	test_memslot();
	test_gmem_identity();
	test_v1_ioctl();
	test_wrong_process();
	test_racing_delete();
	return 0;
}
