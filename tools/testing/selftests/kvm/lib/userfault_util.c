// SPDX-License-Identifier: GPL-2.0
/*
 * Memslots of which userspace decides page by page whether they are there.
 */
#include <linux/sizes.h>
#include <sys/mman.h>

#include "test_util.h"
#include "kvm_util.h"
#include "ucall_common.h"
#include "userfault_util.h"

static const struct userfault_backing_desc {
	const char *name;
	int mmap_flags;
	size_t alignment;
} backings[NR_USERFAULT_BACKINGS] = {
	[USERFAULT_ANON] = {
		"anon", MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, SZ_2M,
	},
	[USERFAULT_ANON_THP] = {
		"anon_thp", MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, SZ_2M,
	},
	[USERFAULT_ANON_HUGETLB] = {
		"anon_hugetlb", MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
				MAP_HUGE_2MB, SZ_2M,
	},
	[USERFAULT_SHMEM] = { "shmem", MAP_SHARED, SZ_2M, },
	[USERFAULT_GMEM] = { "gmem", MAP_SHARED, SZ_2M, },
	[USERFAULT_GMEM_PRIVATE] = {
		"gmem_private", MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		SZ_2M,
	},
};

#define GMEM_SHARED_FLAGS (GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)

const char *userfault_backing_name(enum userfault_backing backing)
{
	TEST_ASSERT(backing < NR_USERFAULT_BACKINGS, "No backing %d", backing);
	return backings[backing].name;
}

bool userfault_backing_usable(struct kvm_vm *vm, enum userfault_backing backing,
			      const char **why)
{
	*why = NULL;

	switch (backing) {
	case USERFAULT_ANON_THP:
		if (!thp_configured())
			*why = "no transparent huge pages in this kernel";
		break;
	case USERFAULT_ANON_HUGETLB: {
		void *mem = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE,
				 backings[backing].mmap_flags | MAP_POPULATE,
				 -1, 0);

		if (mem == MAP_FAILED)
			*why = "no free 2M hugetlb pages, see /proc/sys/vm/nr_hugepages";
		else
			kvm_munmap(mem, SZ_2M);
		break;
	}
	case USERFAULT_GMEM:
		if (!vm_check_cap(vm, KVM_CAP_GUEST_MEMFD))
			*why = "no guest_memfd for this VM type";
		else if (~vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS) &
			 GMEM_SHARED_FLAGS)
			*why = "guest_memfd cannot be mapped by this VM type";
		break;
	case USERFAULT_GMEM_PRIVATE:
		if (!vm_check_cap(vm, KVM_CAP_GUEST_MEMFD))
			*why = "no guest_memfd for this VM type";
		else if (!(vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES) &
			   KVM_MEMORY_ATTRIBUTE_PRIVATE))
			*why = "this VM type has no private memory";
		break;
	default:
		break;
	}

	return !*why;
}

/*
 * Map at an address that is aligned as @gpa is, so that huge pages are
 * possible wherever the slot would allow them.
 */
static void *map_aligned(size_t size, size_t alignment, gpa_t gpa, int flags,
			 int fd)
{
	size_t reserved = size + 2 * alignment;
	u8 *area, *start;
	void *mem;

	area = kvm_mmap(reserved, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	start = (u8 *)align_ptr_up(area, alignment) + gpa % alignment;

	mem = mmap(start, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
	TEST_ASSERT(mem == start, "mmap() of 0x%lx bytes failed, errno %d (%s)",
		    size, errno, strerror(errno));

	/* What is left on both sides is given back, so the size is enough. */
	if (start > area)
		kvm_munmap(area, start - area);
	if (area + reserved > start + size)
		kvm_munmap(start + size, area + reserved - start - size);

	return mem;
}

struct userfault_slot *userfault_slot_alloc(struct kvm_vm *vm, u32 slot,
					    gpa_t gpa, u64 npages,
					    enum userfault_backing backing)
{
	const struct userfault_backing_desc *desc = &backings[backing];
	struct userfault_slot *s;
	size_t size;

	s = calloc(1, sizeof(*s));
	TEST_ASSERT(s, "Out of memory");

	s->vm = vm;
	s->backing = backing;
	s->npages = npages;
	s->page_size = getpagesize();
	s->fd = -1;
	size = npages * s->page_size;

	if (backing == USERFAULT_SHMEM)
		s->fd = kvm_memfd_alloc(size, false);
	else if (backing == USERFAULT_GMEM)
		s->fd = vm_create_guest_memfd(vm, size, GMEM_SHARED_FLAGS);
	else if (backing == USERFAULT_GMEM_PRIVATE)
		s->fd = vm_create_guest_memfd(vm, size, 0);

	s->mem = map_aligned(size, desc->alignment, gpa, desc->mmap_flags,
			     desc->mmap_flags & MAP_ANONYMOUS ? -1 : s->fd);
	s->alias = s->mem;
	if (desc->mmap_flags & MAP_SHARED)
		s->alias = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED,
				    s->fd);

	if (backing == USERFAULT_ANON && thp_configured())
		kvm_madvise(s->mem, size, MADV_NOHUGEPAGE);
	else if (backing == USERFAULT_ANON_THP)
		kvm_madvise(s->mem, size, MADV_HUGEPAGE);

	/* KVM wants a map of whole 64-bit words; mmap() makes it whole pages. */
	s->bitmap_size = align_up(DIV_ROUND_UP(npages, 8), s->page_size);
	s->bitmap_fd = kvm_memfd_alloc(s->bitmap_size, false);
	s->bitmap = kvm_mmap(s->bitmap_size, PROT_READ | PROT_WRITE,
			     MAP_SHARED, s->bitmap_fd);

	s->region.slot = slot;
	s->region.guest_phys_addr = gpa;
	s->region.memory_size = size;
	s->region.userspace_addr = (uintptr_t)s->mem;
	if (backing == USERFAULT_GMEM || backing == USERFAULT_GMEM_PRIVATE) {
		s->region.guest_memfd = s->fd;
		s->region.flags = KVM_MEM_GUEST_MEMFD;
	}

	return s;
}

struct userfault_slot *userfault_slot_create(struct kvm_vm *vm, u32 slot,
					     gpa_t gpa, u64 npages,
					     enum userfault_backing backing,
					     u32 flags)
{
	struct userfault_slot *s;

	s = userfault_slot_alloc(vm, slot, gpa, npages, backing);
	if (flags & KVM_MEM_USERFAULT)
		userfault_set_all(s);
	userfault_slot_update(s, s->region.flags | flags,
			      flags & KVM_MEM_USERFAULT ? s->bitmap : NULL);
	return s;
}

void userfault_slot_free(struct userfault_slot *s)
{
	size_t size = s->npages * s->page_size;
	int ret;

	if (s->live) {
		s->region.flags = 0;
		s->region.memory_size = 0;
		ret = __userfault_slot_set(s);
		TEST_ASSERT_VM_VCPU_IOCTL(!ret, KVM_SET_USER_MEMORY_REGION2, ret,
					  s->vm);
	}

	if (s->alias != s->mem)
		kvm_munmap(s->alias, size);
	kvm_munmap(s->mem, size);
	kvm_munmap(s->bitmap, s->bitmap_size);
	close(s->bitmap_fd);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

int __userfault_slot_set(struct userfault_slot *s)
{
	int ret = __vm_ioctl(s->vm, KVM_SET_USER_MEMORY_REGION2, &s->region);

	if (!ret)
		s->live = s->region.memory_size;
	return ret;
}

int __userfault_slot_update(struct userfault_slot *s, u32 flags, u64 *bitmap)
{
	s->region.flags = flags;
	s->region.userfault_bitmap = (uintptr_t)bitmap;
	return __userfault_slot_set(s);
}

void userfault_slot_update(struct userfault_slot *s, u32 flags, u64 *bitmap)
{
	int ret = __userfault_slot_update(s, flags, bitmap);

	TEST_ASSERT_VM_VCPU_IOCTL(!ret, KVM_SET_USER_MEMORY_REGION2, ret, s->vm);
}

void userfault_arm(struct userfault_slot *s)
{
	userfault_slot_update(s, s->region.flags | KVM_MEM_USERFAULT, s->bitmap);
}

void userfault_disarm(struct userfault_slot *s)
{
	userfault_slot_update(s, s->region.flags & ~KVM_MEM_USERFAULT, NULL);
}

u64 userfault_page_of(struct userfault_slot *s, gpa_t gpa)
{
	TEST_ASSERT(gpa >= userfault_gpa(s, 0) && gpa < userfault_gpa(s, s->npages),
		    "GPA 0x%lx is not in slot %u, [0x%lx, 0x%lx)", gpa,
		    s->region.slot, userfault_gpa(s, 0),
		    userfault_gpa(s, s->npages));
	return (gpa - userfault_gpa(s, 0)) / s->page_size;
}

void userfault_set_bits(struct userfault_slot *s, u64 page, u64 nr)
{
	while (nr--)
		userfault_set_bit(s, page++);
}

void userfault_clear_bits(struct userfault_slot *s, u64 page, u64 nr)
{
	while (nr--)
		userfault_clear_bit(s, page++);
}

static void store_all(struct userfault_slot *s, u64 word)
{
	size_t i;

	for (i = 0; i < s->bitmap_size / sizeof(*s->bitmap); i++)
		__atomic_store_n(&s->bitmap[i], word, __ATOMIC_SEQ_CST);
}

void userfault_set_all(struct userfault_slot *s)
{
	store_all(s, ~0ull);
}

void userfault_clear_all(struct userfault_slot *s)
{
	store_all(s, 0);
}

u64 userfault_count_bits(struct userfault_slot *s)
{
	u64 page, count = 0;

	for (page = 0; page < s->npages; page++)
		count += userfault_test_bit(s, page);

	return count;
}

void userfault_fill(struct userfault_slot *s, u64 page, u64 generation)
{
	userfault_pattern_fill(userfault_alias(s, page), s->page_size,
			       userfault_gfn(s, page), generation);
}

void userfault_resolve(struct userfault_slot *s, u64 page, u64 generation)
{
	userfault_fill(s, page, generation);
	userfault_clear_bit(s, page);
}

int __userfault_check(struct userfault_slot *s, u64 page, u64 generation)
{
	return userfault_pattern_check(userfault_alias(s, page), s->page_size,
				       userfault_gfn(s, page), generation);
}

void userfault_diagnose(struct userfault_slot *s, u64 page, u64 generation,
			char *buf, size_t size)
{
	const u64 *p = userfault_alias(s, page);
	size_t i, nr_words = s->page_size / sizeof(*p), zeroes = 0, wrong = 0;
	u64 other, gen, bits = 0, diff;

	for (i = 0; i < nr_words; i++) {
		diff = p[i] ^ userfault_pattern_word(userfault_gfn(s, page),
						     generation, i);
		zeroes += !p[i];
		wrong += !!diff;
		bits += __builtin_popcountll(diff);
	}

	if (zeroes == nr_words) {
		snprintf(buf, size, "all zeroes: never filled");
		return;
	}

	for (gen = 0; gen <= generation + 1; gen++) {
		for (other = 0; other < s->npages; other++) {
			if (p[0] != userfault_pattern_first(userfault_gfn(s, other), gen) ||
			    (other == page && gen == generation))
				continue;
			snprintf(buf, size,
				 "the content of page %lu (gfn 0x%lx), generation %lu",
				 other, userfault_gfn(s, other), gen);
			return;
		}
	}

	snprintf(buf, size, "%lu of %lu words, %lu bits differ", wrong, nr_words,
		 bits);
}

void userfault_check(struct userfault_slot *s, u64 page, u64 generation)
{
	int i = __userfault_check(s, page, generation);
	char what[128];

	if (i < 0)
		return;

	userfault_diagnose(s, page, generation, what, sizeof(what));
	TEST_FAIL("Page %lu (gfn 0x%lx), generation %lu, is wrong at word %d:\n"
		  "expected 0x%016lx, found 0x%016lx (%s)", page,
		  userfault_gfn(s, page), generation, i,
		  userfault_pattern_word(userfault_gfn(s, page), generation, i),
		  ((u64 *)userfault_alias(s, page))[i], what);
}

int __userfault_run(struct kvm_vcpu *vcpu)
{
	/* errno is KVM_RUN's own: nothing else is called on failure. */
	return _vcpu_run(vcpu);
}

bool __userfault_is_exit(struct kvm_vcpu *vcpu, int ret)
{
	return ret == -1 && errno == EFAULT &&
	       vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
	       vcpu->run->memory_fault.flags & KVM_MEMORY_EXIT_FLAG_USERFAULT;
}

void __userfault_assert_exit(struct kvm_vcpu *vcpu, int ret, gpa_t gpa,
			     u64 flags, const char *file, unsigned int line)
{
	struct kvm_run *run = vcpu->run;
	u64 size = getpagesize();
	int err = errno;

	gpa &= ~(size - 1);
	test_assert(ret == -1 && err == EFAULT &&
		    run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
		    run->memory_fault.flags == flags &&
		    run->memory_fault.gpa == gpa &&
		    run->memory_fault.size == size,
		    "userfault exit", file, line,
		    "Wanted KVM_RUN -1, errno %d, MEMORY_FAULT flags 0x%lx gpa 0x%lx size 0x%lx,\n"
		    "got %d, errno %d, exit reason %u (%s), flags 0x%llx gpa 0x%llx size 0x%llx",
		    EFAULT, flags, gpa, size, ret, ret ? err : 0,
		    run->exit_reason, exit_reason_str(run->exit_reason),
		    run->memory_fault.flags, run->memory_fault.gpa,
		    run->memory_fault.size);
}

void userfault_run(struct kvm_vcpu *vcpu)
{
	int ret = __userfault_run(vcpu);

	TEST_ASSERT(!ret, "KVM_RUN: errno %d, exit reason %u (%s), flags 0x%llx gpa 0x%llx",
		    errno, vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason),
		    vcpu->run->memory_fault.flags, vcpu->run->memory_fault.gpa);
}

void userfault_assert_sync(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	switch (get_ucall(vcpu, &uc)) {
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		break;
	case UCALL_SYNC:
		break;
	default:
		TEST_FAIL("Exit reason %u (%s)", vcpu->run->exit_reason,
			  exit_reason_str(vcpu->run->exit_reason));
	}
}

void userfault_run_sync(struct kvm_vcpu *vcpu)
{
	userfault_run(vcpu);
	userfault_assert_sync(vcpu);
}

static void *run_loop(void *arg)
{
	struct userfault_loop *loop = arg;
	int ret;

	while (!READ_ONCE(loop->stop)) {
		ret = __userfault_run(loop->vcpu);
		if (__userfault_is_exit(loop->vcpu, ret)) {
			sched_yield();
			continue;
		}
		TEST_ASSERT(!ret, "KVM_RUN: %s", strerror(errno));
		userfault_assert_sync(loop->vcpu);
	}
	return NULL;
}

void userfault_loop_start(struct userfault_loop *loop, struct kvm_vcpu *vcpu)
{
	*loop = (struct userfault_loop) { .vcpu = vcpu };
	kvm_pthread_create(&loop->thread, NULL, run_loop, loop);
}

void userfault_loop_stop(struct userfault_loop *loop)
{
	WRITE_ONCE(loop->stop, true);
	kvm_pthread_join(loop->thread, NULL);
}

u64 userfault_run_resolving(struct kvm_vcpu *vcpu, struct userfault_slot *s,
			    u64 generation)
{
	u64 exits = 0;
	int ret;

	for (;;) {
		ret = __userfault_run(vcpu);
		if (!__userfault_is_exit(vcpu, ret))
			break;
		userfault_resolve(s, userfault_page_of(s, vcpu->run->memory_fault.gpa),
				  generation);
		exits++;
	}

	TEST_ASSERT(!ret, KVM_IOCTL_ERROR(KVM_RUN, ret));
	return exits;
}
