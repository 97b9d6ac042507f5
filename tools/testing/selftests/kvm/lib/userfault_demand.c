// SPDX-License-Identifier: GPL-2.0
#include <sched.h>
#include <sys/ioctl.h>

#include <linux/bitmap.h>
#include <linux/kvm_userfault.h>
#include <linux/userfaultfd.h>

#include "memstress.h"
#include "test_util.h"
#include "userfault_demand.h"
#include "userfault_pattern.h"

#define GENERATION	7
#define GUEST_PAGE_SIZE	4096

/* What memstress's guest code writes to the first word of each page. */
#define GUEST_DATA	0x0123456789ABCDEFull

static struct {
	bool active;
	struct userspace_mem_region *region;
	u64 size;
	size_t page_size;
	int uffd_mode;
	u8 *bitmap;
	/* One per page: set by the thread that fills it. */
	u8 *claimed;
	u64 exits;
	int nr_uffds;
	struct {
		void *hva;
		u64 size;
		int uffd;
	} uffds[KVM_MAX_VCPUS];
} demand;

static __thread void *demand_buffer;

void userfault_demand_start(struct kvm_vm *vm, size_t page_size, int uffd_mode)
{
	struct userspace_mem_region *region;
	size_t map_size;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_USERFAULT));

	region = memslot2region(vm, MEMSTRESS_MEM_SLOT_INDEX);
	demand.region = region;
	demand.size = region->region.memory_size;
	demand.page_size = page_size;
	demand.uffd_mode = uffd_mode;
	demand.claimed = calloc(demand.size / page_size, 1);

	map_size = DIV_ROUND_UP(demand.size / GUEST_PAGE_SIZE, 64) * sizeof(u64);
	demand.bitmap = malloc(map_size);
	TEST_ASSERT(demand.bitmap && demand.claimed, "Out of memory");
	memset(demand.bitmap, 0xff, map_size);
	demand.active = true;

	region->region.flags |= KVM_MEM_USERFAULT;
	region->region.userfault_bitmap = (uintptr_t)demand.bitmap;
	vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region->region);
}

void userfault_demand_add_uffd(void *hva, u64 size, int uffd)
{
	if (!demand.active)
		return;

	TEST_ASSERT(demand.nr_uffds < KVM_MAX_VCPUS, "Too many userfaultfds");
	demand.uffds[demand.nr_uffds].hva = hva;
	demand.uffds[demand.nr_uffds].size = size;
	demand.uffds[demand.nr_uffds++].uffd = uffd;
}

static int demand_uffd(void *hva)
{
	for (int i = 0; i < demand.nr_uffds; i++) {
		u64 offset = hva - demand.uffds[i].hva;

		if (offset < demand.uffds[i].size)
			return demand.uffds[i].uffd;
	}
	TEST_FAIL("No userfaultfd is registered at %p", hva);
	return -1;
}

void *userfault_demand_source(void *addr, void *otherwise)
{
	u64 offset, gfn;

	if (!demand.active)
		return otherwise;

	offset = addr - demand.region->host_mem;
	if (offset >= demand.size && demand.region->host_alias)
		offset = addr - demand.region->host_alias;
	TEST_ASSERT(offset < demand.size, "%p is not in the memslot", addr);

	if (!demand_buffer) {
		demand_buffer = malloc(demand.page_size);
		TEST_ASSERT(demand_buffer, "Out of memory");
	}

	gfn = (demand.region->region.guest_phys_addr + offset) / GUEST_PAGE_SIZE;
	for (size_t i = 0; i < demand.page_size / GUEST_PAGE_SIZE; i++)
		userfault_pattern_fill(demand_buffer + i * GUEST_PAGE_SIZE,
				       GUEST_PAGE_SIZE, gfn + i, GENERATION);
	return demand_buffer;
}

/* The userfaultfd's handler may win the race for a page, hence EEXIST. */
static void demand_uffd_fill(void *hva)
{
	int uffd = demand_uffd(hva);
	struct uffdio_range range = {
		.start = (uintptr_t)hva,
		.len = demand.page_size,
	};
	int r;

	if (demand.uffd_mode == UFFDIO_REGISTER_MODE_MISSING) {
		struct uffdio_copy copy = {
			.src = (uintptr_t)userfault_demand_source(hva, NULL),
			.dst = (uintptr_t)hva,
			.len = demand.page_size,
			.mode = UFFDIO_COPY_MODE_DONTWAKE,
		};

		r = ioctl(uffd, UFFDIO_COPY, &copy);
	} else {
		struct uffdio_continue cont = {
			.range = range,
			.mode = UFFDIO_CONTINUE_MODE_DONTWAKE,
		};

		r = ioctl(uffd, UFFDIO_CONTINUE, &cont);
	}
	if (!r)
		return;

	TEST_ASSERT(errno == EEXIST, "Filling %p by userfaultfd failed: %s",
		    hva, strerror(errno));
	TEST_ASSERT(!ioctl(uffd, UFFDIO_WAKE, &range), "UFFDIO_WAKE failed");
}

bool userfault_demand_handle(struct kvm_vcpu *vcpu, int ret)
{
	struct kvm_run *run = vcpu->run;
	u64 offset, bit;
	void *hva;

	if (!demand.active || ret != -1 || errno != EFAULT ||
	    run->exit_reason != KVM_EXIT_MEMORY_FAULT)
		return false;

	offset = run->memory_fault.gpa - demand.region->region.guest_phys_addr;
	TEST_ASSERT(run->memory_fault.flags == KVM_MEMORY_EXIT_FLAG_USERFAULT &&
		    run->memory_fault.size == GUEST_PAGE_SIZE &&
		    offset < demand.size,
		    "Unexpected memory fault: gpa 0x%llx size 0x%llx flags 0x%llx",
		    run->memory_fault.gpa, run->memory_fault.size,
		    run->memory_fault.flags);
	__atomic_fetch_add(&demand.exits, 1, __ATOMIC_RELAXED);

	offset -= offset % demand.page_size;
	hva = demand.region->host_mem + offset;
	bit = offset / GUEST_PAGE_SIZE;

	/*
	 * With -o several vCPUs fault on one page.  Only one of them may fill
	 * it, as the guest's write may follow at once.
	 */
	if (__atomic_exchange_n(&demand.claimed[offset / demand.page_size], 1,
				__ATOMIC_ACQ_REL)) {
		while (__atomic_load_n(&demand.bitmap[bit / 8], __ATOMIC_ACQUIRE) &
		       BIT(bit % 8))
			sched_yield();
		return true;
	}

	if (demand.uffd_mode)
		demand_uffd_fill(hva);
	else
		for (size_t i = 0; i < demand.page_size; i += GUEST_PAGE_SIZE)
			userfault_copy_page(hva + i,
					    userfault_demand_source(hva, NULL) + i,
					    GUEST_PAGE_SIZE);

	for (u64 i = bit; i < bit + demand.page_size / GUEST_PAGE_SIZE; i++)
		__atomic_fetch_and(&demand.bitmap[i / 8], ~BIT(i % 8),
				   __ATOMIC_RELEASE);
	return true;
}

void userfault_demand_verify(void)
{
	u64 pages = demand.size / GUEST_PAGE_SIZE, gfn, i;

	if (!demand.active)
		return;

	gfn = demand.region->region.guest_phys_addr / GUEST_PAGE_SIZE;

	for (i = 0; i < pages; i++) {
		u64 *page = demand.region->host_mem + i * GUEST_PAGE_SIZE;

		TEST_ASSERT(!(demand.bitmap[i / 8] & BIT(i % 8)),
			    "Page %lu was never asked for", i);
		TEST_ASSERT(page[0] == GUEST_DATA,
			    "Page %lu does not have the guest's write: 0x%lx",
			    i, page[0]);

		for (u64 w = 1; w < GUEST_PAGE_SIZE / sizeof(u64); w++) {
			u64 want = userfault_pattern_word(gfn + i, GENERATION, w);

			TEST_ASSERT(page[w] == want,
				    "Page %lu word %lu is 0x%lx, expected 0x%lx",
				    i, w, page[w], want);
		}
	}
	pr_info("Userfault exits:\t%lu, %lu pages verified\n", demand.exits, pages);

	free(demand.bitmap);
	free(demand.claimed);
	memset(&demand, 0, sizeof(demand));
}
