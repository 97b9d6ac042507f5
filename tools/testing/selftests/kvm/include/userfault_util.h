/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memslots of which userspace decides page by page whether they are there.
 *
 * A userfault_slot is a memslot, its memory and its bitmap.  It stays outside
 * of the memory regions that kvm_util tracks: vm_mem_add() has no place for a
 * bitmap, and a tracked slot would be handed out by vm_alloc().  So there is
 * no addr_gpa2hva() for it; use userfault_hva().  virt_map() works as always.
 *
 * As everywhere in this library, foo() asserts that it worked and __foo()
 * returns what the kernel said.
 */
#ifndef SELFTEST_KVM_USERFAULT_UTIL_H
#define SELFTEST_KVM_USERFAULT_UTIL_H

#include <pthread.h>

#include <linux/kvm_userfault.h>

#include "kvm_util.h"
#include "userfault_pattern.h"

enum userfault_backing {
	USERFAULT_ANON,			/* private anonymous, 4K pages only */
	USERFAULT_ANON_THP,		/* the same, 2M aligned, MADV_HUGEPAGE */
	USERFAULT_ANON_HUGETLB,		/* the same, 2M hugetlb pages */
	USERFAULT_SHMEM,		/* shared memfd */
	USERFAULT_GMEM,			/* guest_memfd, MMAP and INIT_SHARED */
	USERFAULT_GMEM_PRIVATE,		/* guest_memfd beside anonymous memory */
	NR_USERFAULT_BACKINGS,
};

struct userfault_slot {
	struct kvm_vm *vm;
	enum userfault_backing backing;
	/* What the last ioctl was given; tests may bend it at will. */
	struct kvm_userspace_memory_region2 region;
	bool live;			/* the kernel has this memslot */
	u64 npages;
	size_t page_size;

	/* What KVM maps (GMEM_PRIVATE: the shared half). */
	u8 *mem;
	/*
	 * A second mapping of the same memory, so that it can be written
	 * without appearing in the page tables that KVM follows.  It is mem
	 * itself where there is no second one.
	 */
	u8 *alias;
	int fd;				/* memfd or guest_memfd, or -1 */

	/*
	 * Page-aligned and mmap()ed, so that a test can take it away; of a memfd,
	 * so that another process can have it, too.
	 */
	u64 *bitmap;
	int bitmap_fd;
	size_t bitmap_size;
};

#define TEST_REQUIRE_USERFAULT()					\
	__TEST_REQUIRE(kvm_check_cap(KVM_CAP_USERFAULT) == 1,		\
		       "this kernel has no KVM_CAP_USERFAULT")

/* The call returns -1 with that errno. */
#define ASSERT_FAILS(call, error)					\
do {									\
	int __r = (call), __e = errno;					\
									\
	TEST_ASSERT(__r == -1 && __e == (error),			\
		    "%s should fail with " #error ", got %d (%s)",	\
		    #call, __r, strerror(__e));				\
} while (0)

const char *userfault_backing_name(enum userfault_backing backing);
/* True if this kernel and VM can do it; otherwise *why says what is missing. */
bool userfault_backing_usable(struct kvm_vm *vm, enum userfault_backing backing,
			      const char **why);

/*
 * Create a memslot with @flags.  With KVM_MEM_USERFAULT in @flags every page
 * is absent from the start, otherwise the bitmap is all zeroes and the slot
 * can be armed later.  The guest_memfd kinds get KVM_MEM_GUEST_MEMFD by
 * themselves.  With GMEM_PRIVATE the attributes of the pages are left to the
 * caller, and what fill, check and resolve touch is the shared half: the host
 * has no way to write the private one.
 */
struct userfault_slot *userfault_slot_create(struct kvm_vm *vm, u32 slot,
					     gpa_t gpa, u64 npages,
					     enum userfault_backing backing,
					     u32 flags);
/* Memory and bitmap as above, but no memslot yet. */
struct userfault_slot *userfault_slot_alloc(struct kvm_vm *vm, u32 slot,
					    gpa_t gpa, u64 npages,
					    enum userfault_backing backing);
/* Deletes the memslot, if there is one, and frees everything. */
void userfault_slot_free(struct userfault_slot *s);

/* KVM_SET_USER_MEMORY_REGION2 with s->region as it stands. */
int __userfault_slot_set(struct userfault_slot *s);
/* The same after replacing flags and bitmap pointer. */
int __userfault_slot_update(struct userfault_slot *s, u32 flags, u64 *bitmap);
void userfault_slot_update(struct userfault_slot *s, u32 flags, u64 *bitmap);

/* Switch KVM_MEM_USERFAULT on or off; the bits are left as they are. */
void userfault_arm(struct userfault_slot *s);
void userfault_disarm(struct userfault_slot *s);

static inline u64 userfault_gfn(struct userfault_slot *s, u64 page)
{
	return s->region.guest_phys_addr / s->page_size + page;
}

static inline gpa_t userfault_gpa(struct userfault_slot *s, u64 page)
{
	return s->region.guest_phys_addr + page * s->page_size;
}

static inline void *userfault_hva(struct userfault_slot *s, u64 page)
{
	return s->mem + page * s->page_size;
}

static inline void *userfault_alias(struct userfault_slot *s, u64 page)
{
	return s->alias + page * s->page_size;
}

/* The page of the slot that @gpa is in; asserts that it is in the slot. */
u64 userfault_page_of(struct userfault_slot *s, gpa_t gpa);

/*
 * The bitmap.  Clearing has release semantics: whatever was written to the
 * page before is there for every vCPU that finds the bit clear.  Bytes, not
 * words, because that is how the ABI defines the map.
 */
static inline bool userfault_test_bit(struct userfault_slot *s, u64 page)
{
	u8 *map = (u8 *)s->bitmap;

	return __atomic_load_n(&map[page / 8], __ATOMIC_ACQUIRE) &
	       (1u << (page % 8));
}

static inline void userfault_set_bit(struct userfault_slot *s, u64 page)
{
	u8 *map = (u8 *)s->bitmap;

	__atomic_fetch_or(&map[page / 8], 1u << (page % 8), __ATOMIC_SEQ_CST);
}

static inline void userfault_clear_bit(struct userfault_slot *s, u64 page)
{
	u8 *map = (u8 *)s->bitmap;

	__atomic_fetch_and(&map[page / 8], (u8)~(1u << (page % 8)),
			   __ATOMIC_RELEASE);
}

void userfault_set_bits(struct userfault_slot *s, u64 page, u64 nr);
void userfault_clear_bits(struct userfault_slot *s, u64 page, u64 nr);
/* Every bit of the map, those beyond the end of the slot included. */
void userfault_set_all(struct userfault_slot *s);
void userfault_clear_all(struct userfault_slot *s);
u64 userfault_count_bits(struct userfault_slot *s);

/* Write the pattern to a page, through the alias where there is one. */
void userfault_fill(struct userfault_slot *s, u64 page, u64 generation);
/* What a VMM does on a userfault exit: fill the page, then clear its bit. */
void userfault_resolve(struct userfault_slot *s, u64 page, u64 generation);

/*
 * Compare a whole page with the pattern.  __userfault_check() returns the
 * index of the first wrong word, or -1; userfault_check() asserts and says
 * which page it is, what was expected, what was found, and, if the page holds
 * zeroes, another page or another generation, that.
 */
int __userfault_check(struct userfault_slot *s, u64 page, u64 generation);
void userfault_check(struct userfault_slot *s, u64 page, u64 generation);
/* That last part, into @buf: what a page with this first word looks like. */
void userfault_diagnose(struct userfault_slot *s, u64 page, u64 generation,
			char *buf, size_t size);

/* KVM_RUN, repeated when a signal interrupts it; errno is KVM_RUN's. */
int __userfault_run(struct kvm_vcpu *vcpu);
/* Was that a userfault exit?  @ret is what KVM_RUN returned. */
bool __userfault_is_exit(struct kvm_vcpu *vcpu, int ret);
/* Assert that, and that every field has exactly the given value. */
#define userfault_assert_exit(vcpu, ret, gpa, flags)			\
	__userfault_assert_exit(vcpu, ret, gpa, flags, __FILE__, __LINE__)
void __userfault_assert_exit(struct kvm_vcpu *vcpu, int ret, gpa_t gpa,
			     u64 flags, const char *file, unsigned int line);
/* Run up to the exit with KVM_MEMORY_EXIT_FLAG_USERFAULT | @extra at @gpa. */
#define userfault_run_expect(vcpu, gpa, extra)				\
do {									\
	struct kvm_vcpu *__vcpu = (vcpu);				\
	int __run_ret = __userfault_run(__vcpu);			\
									\
	userfault_assert_exit(__vcpu, __run_ret, gpa,			\
			      KVM_MEMORY_EXIT_FLAG_USERFAULT | (extra));\
} while (0)

/* The same, and assert that it worked: no userfault exit, no other error. */
void userfault_run(struct kvm_vcpu *vcpu);
/* Assert that the vCPU has exited because the guest syncs. */
void userfault_assert_sync(struct kvm_vcpu *vcpu);
/* Run until the guest syncs; no exit of any other kind is accepted. */
void userfault_run_sync(struct kvm_vcpu *vcpu);

/*
 * A thread that runs a guest which syncs now and then, and tries again when there
 * is a userfault exit: somebody else fills the page.
 */
struct userfault_loop {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	bool stop;
};

void userfault_loop_start(struct userfault_loop *loop, struct kvm_vcpu *vcpu);
void userfault_loop_stop(struct userfault_loop *loop);

/*
 * Run until the guest makes a ucall, resolving every userfault exit in this
 * slot with the pattern.  Returns the number of such exits.
 */
u64 userfault_run_resolving(struct kvm_vcpu *vcpu, struct userfault_slot *s,
			    u64 generation);

#endif /* SELFTEST_KVM_USERFAULT_UTIL_H */
