/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * KVM's numbers and layouts that the distribution's <linux/kvm.h> may be too old to
 * have: memslots with a guest_memfd came with 6.8.
 */
#ifndef KUF_COMPAT_H
#define KUF_COMPAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/kvm.h>
#include <linux/kvm_userfault.h>

#define KUFI_MEM_GUEST_MEMFD		0x4u
#define KUFI_EXIT_MEMORY_FAULT		39
#define KUFI_RUN_X86_SMM		0x1u

/* struct kvm_userspace_memory_region2, with what KVM userfault adds. */
struct kufi_memslot {
	uint32_t slot;
	uint32_t flags;
	uint64_t gpa;
	uint64_t len;
	uint64_t hva;
	uint64_t gmem_offset;
	uint32_t gmem_fd;
	uint32_t pad1;
	uint64_t bitmap;
	uint64_t pad2[13];
};

static_assert(sizeof(struct kufi_memslot) == 160, "KVM's ABI");
static_assert(offsetof(struct kufi_memslot, bitmap) == KVM_USERFAULT_BITMAP_OFFSET,
	      "KVM's ABI");

#define KUFI_SET_MEMSLOT	_IOW(KVMIO, 0x49, struct kufi_memslot)

/* kvm_run.memory_fault; it is where the other exits have theirs. */
struct kufi_memory_fault {
	uint64_t flags;
	uint64_t gpa;
	uint64_t size;
};

#endif /* KUF_COMPAT_H */
