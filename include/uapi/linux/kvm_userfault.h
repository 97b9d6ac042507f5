/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef _UAPI_LINUX_KVM_USERFAULT_H
#define _UAPI_LINUX_KVM_USERFAULT_H

/*
 * KVM Userfault: userspace decides, page by page, what happens when a guest,
 * or KVM itself, touches guest memory.  The full description is in
 * Documentation/virt/kvm/userfault.rst.
 *
 * This header also works beside a <linux/kvm.h> that knows nothing of it; the
 * two bitmap pointers of struct kvm_userspace_memory_region2 then have to be
 * stored by offset, see KVM_USERFAULT_BITMAP_OFFSET below.
 *
 * The contract of the bitmap.  Bit n is bit n % 8 of byte n / 8 and stands for
 * the nth page of PAGE_SIZE of the memslot; 1 means absent.  KVM only reads
 * the map, in the process that created the VM.  It has to cover the memslot,
 * rounded up to 64 bits, for as long as the memslot is armed.
 *
 *  - Filling: write the page's whole content first, then clear the bit with
 *    an atomic operation of release semantics, then let the vCPU run.  No
 *    ioctl is needed.  KVM reads the bit before it looks up the page.
 *  - Fill by overwriting.  That a page exists in the backing memory (EEXIST
 *    and the like) does not show that it was filled: an access that was under
 *    way when the page was discarded may have allocated it anew.
 *  - Setting a bit takes effect for pages that are not mapped.  A page that
 *    may be mapped is only taken away by KVM_USERFAULT_RESCAN, or by switching
 *    the flag off and on.
 *  - Events of the userfault fd may come again for a page that another thread of
 *    the handler is filling.  One thread has to claim a page: filling it once
 *    more, after its bit was cleared, undoes what the guest wrote.
 *  - Changes of neighbouring bits by several threads need atomic operations.
 */

#include <linux/types.h>
#include <linux/ioctl.h>
#include <linux/kvm.h>

/*
 * Numbers.  The first three are those of the series posted upstream (v3).
 * All the others are private to this extension, and this is their one table:
 *
 *   what                          number            space
 *   ----------------------------  ----------------  ------------------------
 *   KVM_MEM_USERFAULT             1 << 3            memslot flags
 *   userfault_bitmap              byte 48           kvm_userspace_memory_region2
 *   ..._EXIT_FLAG_USERFAULT       1 << 4            memory_fault.flags
 *   KVM_MEM_USERFAULT_WP          1 << 15           memslot flags
 *   userfault_wp_bitmap           byte 152          kvm_userspace_memory_region2
 *   ..._EXIT_FLAG_READ..EXEC      1 << 0 .. 1 << 2  memory_fault.flags
 *   ..._EXIT_FLAG_USERFAULT_WP..  1 << 32 ..        memory_fault.flags
 *   ..._EXIT_FLAG_BITMAP          .. 1 << 36
 *   KVM_CAP_USERFAULT             0x4b554600        capabilities
 *   KVM_CAP_USERFAULT_FEATURES    0x4b554601        capabilities
 *   ioctls                        0xf0 .. 0xff      KVMIO
 */

/* Memslot flags, for KVM_SET_USER_MEMORY_REGION2 only. */
#define KVM_MEM_USERFAULT	(1UL << 3)
#define KVM_MEM_USERFAULT_WP	(1UL << 15)

/* Where the bitmap pointers are in struct kvm_userspace_memory_region2. */
#define KVM_USERFAULT_BITMAP_OFFSET	48
#define KVM_USERFAULT_WP_BITMAP_OFFSET	152

/*
 * KVM_EXIT_MEMORY_FAULT, memory_fault.flags.  Exactly one of USERFAULT,
 * USERFAULT_WP and POISON is set in an exit of this extension.  READ, WRITE,
 * EXEC, OWN, PAGE_WALK and BITMAP are only reported to a VM that enabled
 * KVM_USERFAULT_FEATURE_ACCESS.
 */
#define KVM_MEMORY_EXIT_FLAG_READ		(1ULL << 0)
#define KVM_MEMORY_EXIT_FLAG_WRITE		(1ULL << 1)
#define KVM_MEMORY_EXIT_FLAG_EXEC		(1ULL << 2)
/* The page is absent: its bit is set in userfault_bitmap. */
#define KVM_MEMORY_EXIT_FLAG_USERFAULT		(1ULL << 4)
/* A write, and the page's bit is set in userfault_wp_bitmap. */
#define KVM_MEMORY_EXIT_FLAG_USERFAULT_WP	(1ULL << 32)
/* The page is poisoned. */
#define KVM_MEMORY_EXIT_FLAG_POISON		(1ULL << 33)
/* KVM's own access on behalf of the guest, not the guest's. */
#define KVM_MEMORY_EXIT_FLAG_OWN		(1ULL << 34)
/* The access was part of a walk of the guest's page tables. */
#define KVM_MEMORY_EXIT_FLAG_PAGE_WALK		(1ULL << 35)
/* The bitmap could not be read; the page therefore counts as absent. */
#define KVM_MEMORY_EXIT_FLAG_BITMAP		(1ULL << 36)

/* KVM_CHECK_EXTENSION: 1 if KVM_MEM_USERFAULT works.  Not to be enabled. */
#define KVM_CAP_USERFAULT		0x4b554600
/*
 * KVM_CHECK_EXTENSION: mask of KVM_USERFAULT_FEATURE_*; on /dev/kvm what this
 * build can do, on a VM what that VM can do.  KVM_ENABLE_CAP on the VM with
 * args[0] = mask: additive, never undone.
 */
#define KVM_CAP_USERFAULT_FEATURES	0x4b554601

/* Exits with KVM_MEMORY_EXIT_FLAG_USERFAULT; opting in makes KVM strict. */
#define KVM_USERFAULT_FEATURE_EXIT		(1ULL << 0)
/* Exits say what kind of access it was, and an unreadable map exits too. */
#define KVM_USERFAULT_FEATURE_ACCESS		(1ULL << 1)
/* KVM_USERFAULT_RESCAN */
#define KVM_USERFAULT_FEATURE_RESCAN		(1ULL << 2)
/* KVM_MEM_USERFAULT_WP; implies OWN */
#define KVM_USERFAULT_FEATURE_WP		(1ULL << 3)
/* KVM_USERFAULT_CREATE_FD */
#define KVM_USERFAULT_FEATURE_FD		(1ULL << 4)
/* KVM's own accesses obey the bitmaps. */
#define KVM_USERFAULT_FEATURE_OWN		(1ULL << 5)
/* KVM_USERFAULT_POISON, KVM_USERFAULT_GET_POISON, KVM_USERFAULT_INJECT */
#define KVM_USERFAULT_FEATURE_POISON		(1ULL << 6)
/* KVM itself injects the memory error where it can. */
#define KVM_USERFAULT_FEATURE_POISON_INJECT	(1ULL << 7)
/* Reserved for asynchronous page faults. */
#define KVM_USERFAULT_FEATURE_ASYNC		(1ULL << 8)

/*
 * Structures.  The layout is the same for 32-bit and 64-bit processes, and
 * everything reserved has to be zero.
 */

/*
 * RESCAN, POISON, WAKE.  The first two update gpa and size to what is left to
 * do: if they return 0 and size is not, call again.
 */
struct kvm_userfault_range {
	__u64 gpa;
	__u64 size;
	__u64 flags;
	__u32 as_id;		/* RESCAN, WAKE: or KVM_USERFAULT_AS_ALL */
	__u32 pad;
	__u64 reserved[4];
};

#define KVM_USERFAULT_AS_ALL		(~0U)

#define KVM_USERFAULT_POISON_SET	(1ULL << 0)
#define KVM_USERFAULT_POISON_CLEAR	(1ULL << 1)
#define KVM_USERFAULT_POISON_ALL	(1ULL << 2)	/* with CLEAR: all there is */

#define KVM_USERFAULT_WAKE_POISON	(1ULL << 0)	/* settle as poisoned */

struct kvm_userfault_fd {
	__u32 flags;
	__u32 event_size;	/* sizeof(struct kvm_userfault_event) */
	__u64 reserved[3];
};

#define KVM_USERFAULT_FD_VCPU		(1U << 0)	/* vCPU faults come here */
#define KVM_USERFAULT_FD_STALL		(1U << 1)	/* keep waiting after last close */
#define KVM_USERFAULT_FD_REPLACE	(1U << 2)	/* take over from an older fd */
#define KVM_USERFAULT_FD_NONBLOCK	(1U << 3)
#define KVM_USERFAULT_FD_MAY_POISON	(1U << 4)	/* WAKE may poison */

/* What read() on the userfault fd returns. */
struct kvm_userfault_event {
	__u64 gpa;
	__u64 size;
	__u64 flags;		/* KVM_MEMORY_EXIT_FLAG_* */
	__u32 vcpu_id;		/* ~0: none */
	__u16 as_id;
	__u16 type;		/* KVM_USERFAULT_EVENT_* */
	__u64 seq;		/* grows, per VM */
	__u64 time_ns;		/* when the wait began, CLOCK_MONOTONIC */
	__u64 reserved[2];
};

#define KVM_USERFAULT_EVENT_FAULT	0

struct kvm_userfault_poison_list {
	__u64 gpa;
	__u64 size;
	__u64 ranges;		/* address of struct kvm_userfault_poison_range[nr] */
	__u32 nr;
	__u32 flags;
	__u64 generation;
	__u64 reserved[3];
};

struct kvm_userfault_poison_range {
	__u64 gpa;
	__u64 size;
	__u64 flags;
	__u64 reserved;
};

struct kvm_userfault_inject {
	__u64 gpa;
	__u32 flags;
	__u32 result;
	__u64 access;		/* KVM_MEMORY_EXIT_FLAG_READ, WRITE, EXEC, PAGE_WALK */
	__u64 reserved[5];
};

#define KVM_USERFAULT_INJECT_FORCE		(1U << 0)

#define KVM_USERFAULT_INJECT_QUEUED		0
#define KVM_USERFAULT_INJECT_NESTED_EXIT	1
#define KVM_USERFAULT_INJECT_SHUTDOWN		2

/* On the VM's file descriptor. */
#define KVM_USERFAULT_CREATE_FD	_IOW(KVMIO,  0xf0, struct kvm_userfault_fd)
#define KVM_USERFAULT_RESCAN	_IOWR(KVMIO, 0xf1, struct kvm_userfault_range)
#define KVM_USERFAULT_POISON	_IOWR(KVMIO, 0xf2, struct kvm_userfault_range)
#define KVM_USERFAULT_GET_POISON \
	_IOWR(KVMIO, 0xf3, struct kvm_userfault_poison_list)
/* On a vCPU's. */
#define KVM_USERFAULT_INJECT	_IOWR(KVMIO, 0xf4, struct kvm_userfault_inject)
/* On the userfault file descriptor. */
#define KVM_USERFAULT_WAKE	_IOW(KVMIO,  0xf8, struct kvm_userfault_range)
#define KVM_USERFAULT_REPLAY	_IO(KVMIO,   0xf9)

#endif /* _UAPI_LINUX_KVM_USERFAULT_H */
