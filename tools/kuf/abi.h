/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_ABI_H
#define KUF_ABI_H

/*
 * Kernel interfaces that a distribution's <linux/kvm.h> may be too old for.
 * They have names of their own, so that a newer one does not get in the way.
 */
#include <linux/kvm.h>
#include <linux/kvm_userfault.h>

#include "kuf.h"

#define KUF_MEM_GUEST_MEMFD	BIT(2)

struct kuf_memory_region {
	u32 slot;
	u32 flags;
	u64 guest_phys_addr;
	u64 memory_size;
	u64 userspace_addr;
	u64 guest_memfd_offset;
	u32 guest_memfd;
	u32 pad1;
	u64 userfault_bitmap;
	u64 pad2[12];
	u64 userfault_wp_bitmap;
};

#define KUF_SET_USER_MEMORY_REGION2 \
	_IOW(KVMIO, 0x49, struct kuf_memory_region)

/* Does not compile when it is not the kernel's layout. */
extern char kuf_check_memory_region[sizeof(struct kuf_memory_region) == 160 &&
	 offsetof(struct kuf_memory_region, userfault_bitmap) == KVM_USERFAULT_BITMAP_OFFSET &&
	 offsetof(struct kuf_memory_region, userfault_wp_bitmap) ==
	 KVM_USERFAULT_WP_BITMAP_OFFSET ? 1 : -1];

#define KUF_GMEM_MMAP		BIT_ULL(0)
#define KUF_GMEM_INIT_SHARED	BIT_ULL(1)

struct kuf_create_gmem {
	u64 size;
	u64 flags;
	u64 reserved[6];
};

#define KUF_CREATE_GUEST_MEMFD	_IOWR(KVMIO, 0xd4, struct kuf_create_gmem)
#define KUF_CAP_USER_MEMORY2	231
#define KUF_CAP_GUEST_MEMFD_FLAGS	244

#define KUF_EXIT_MEMORY_FAULT	39

/* What struct kvm_run has in its union then. */
struct kuf_memory_fault {
	u64 flags;
	u64 gpa;
	u64 size;
};

static inline const struct kuf_memory_fault *
kuf_memory_fault(const struct kvm_run *run)
{
	return (const struct kuf_memory_fault *)&run->hw;
}

#endif /* KUF_ABI_H */
