// SPDX-License-Identifier: GPL-2.0
/*
 * What KVM userfault costs where KVM itself accesses guest memory: an emulated store to
 * an absent page up to its completion, beside the same with userfaultfd, the VMM's copy
 * of the page included on both sides; and RESCAN of a page, which waits for such
 * accesses if the VM has asked for that.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_take.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		512ul
#define NR_RESCANS	200
#define GENERATION	80

/* Cycles that each store took. */
static u64 guest_cycles[NPAGES];
static u64 guest_plain;

static void guest_code(void)
{
	u64 i, begin;

	for (;;) {
		GUEST_SYNC(0);
		for (i = 0; i < NPAGES; i++) {
			u64 *p = (u64 *)(GVA + i * PAGE_SIZE) + 1;

			begin = rdtsc();
			if (guest_plain)
				WRITE_ONCE(*p, i);
			else
				asm volatile(KVM_FEP "mov %1, %0" : "=m"(*p) : "r"(i) :
					     "memory");
			guest_cycles[i] = rdtsc() - begin;
		}
	}
}

static int compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static u64 median(u64 *values, unsigned int nr)
{
	qsort(values, nr, sizeof(*values), compare);
	return values[nr / 2];
}

struct handler {
	struct userfault_slot *s;
	int fd;
	bool uffd;
	u64 served;
	u64 content[PAGE_SIZE / sizeof(u64)];
};

static void serve_one(struct handler *h)
{
	struct kvm_userfault_event e;
	struct uffd_msg msg;
	u64 page;

	if (!h->uffd) {
		TEST_ASSERT_EQ(read(h->fd, &e, sizeof(e)), sizeof(e));
		page = userfault_page_of(h->s, e.gpa);
		userfault_copy_page(userfault_alias(h->s, page), h->content, PAGE_SIZE);
		userfault_clear_bit(h->s, page);
		userfault_fd_wake(h->fd, e.gpa, e.size);
	} else {
		struct uffdio_copy copy = {
			.src = (uintptr_t)h->content,
			.len = PAGE_SIZE,
		};

		TEST_ASSERT_EQ(read(h->fd, &msg, sizeof(msg)), sizeof(msg));
		copy.dst = msg.arg.pagefault.address & ~(PAGE_SIZE - 1);
		TEST_ASSERT(!ioctl(h->fd, UFFDIO_COPY, &copy), "UFFDIO_COPY: %s",
			    strerror(errno));
	}
	h->served++;
}

static void *serve(void *arg)
{
	struct handler *h = arg;

	while (h->served < NPAGES)
		serve_one(h);
	return NULL;
}

/* Every page, once; returns the median in cycles. */
static u64 stores(struct kvm_vcpu *vcpu, struct userfault_slot *s, struct handler *h,
		  bool plain)
{
	pthread_t thread;
	u64 i;

	guest_plain = plain;
	sync_global_to_guest(s->vm, guest_plain);
	if (h)
		kvm_pthread_create(&thread, NULL, serve, h);
	userfault_run_sync(vcpu);
	if (h)
		kvm_pthread_join(thread, NULL);

	for (i = 0; i < NPAGES; i++) {
		u64 *p = userfault_alias(s, i);

		TEST_ASSERT_EQ(p[1], i);
		TEST_ASSERT(!h || p[0] == h->content[0], "Page %lu was not filled", i);
	}
	sync_global_from_guest(s->vm, guest_cycles);
	return median(guest_cycles, NPAGES);
}

static void discard(struct userfault_slot *s)
{
	TEST_ASSERT(!madvise(s->mem, NPAGES * PAGE_SIZE, MADV_DONTNEED), "madvise");
}

static u64 with_userfault(struct kvm_vcpu *vcpu, struct userfault_slot *s)
{
	struct handler h = {
		.s = s,
		.fd = userfault_fd_create(s->vm, 0),
		.content = { GENERATION },
	};
	u64 cycles;

	userfault_set_bits(s, 0, NPAGES);
	userfault_rescan(s, 0, NPAGES);
	discard(s);
	cycles = stores(vcpu, s, &h, false);
	close(h.fd);
	return cycles;
}

static u64 with_userfaultfd(struct kvm_vcpu *vcpu, struct userfault_slot *s)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)s->mem, .len = NPAGES * PAGE_SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct handler h = {
		.s = s,
		.fd = syscall(__NR_userfaultfd, O_CLOEXEC),
		.uffd = true,
		.content = { GENERATION + 1 },
	};
	u64 cycles;

	TEST_ASSERT(h.fd >= 0, "userfaultfd: %s", strerror(errno));
	TEST_ASSERT(!ioctl(h.fd, UFFDIO_API, &api), "UFFDIO_API");
	TEST_ASSERT(!ioctl(h.fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	discard(s);
	cycles = stores(vcpu, s, &h, false);
	close(h.fd);
	return cycles;
}

static void rescans(struct userfault_slot *s, const char *name)
{
	u64 ns[NR_RESCANS], middle;
	struct timespec begin, end;
	int i;

	for (i = 0; i < NR_RESCANS; i++) {
		userfault_set_bit(s, i);
		clock_gettime(CLOCK_MONOTONIC, &begin);
		userfault_rescan(s, i, 1);
		clock_gettime(CLOCK_MONOTONIC, &end);
		userfault_clear_bit(s, i);
		ns[i] = (end.tv_sec - begin.tv_sec) * 1000000000ull + end.tv_nsec -
			begin.tv_nsec;
	}
	/* Sorted after that. */
	middle = median(ns, NR_RESCANS);
	pr_info("RESCAN of one page, %s: median %lu us, slowest %lu us\n", name,
		middle / 1000, ns[NR_RESCANS - 1] / 1000);
}

int main(void)
{
	u64 present, present_own, fd, uffd, plain;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(userfault_force_emulation());

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	userfault_enable_take(vm, false);
	s = userfault_slot_create(vm, SLOT, GPA, NPAGES, USERFAULT_ANON, 0);
	virt_map(vm, GVA, GPA, NPAGES);
	userfault_arm(s);
	userfault_run_sync(vcpu);

	plain = stores(vcpu, s, NULL, true);
	plain = stores(vcpu, s, NULL, true);
	present = stores(vcpu, s, NULL, false);
	uffd = with_userfaultfd(vcpu, s);
	stores(vcpu, s, NULL, true);
	rescans(s, "without KVM_USERFAULT_FEATURE_OWN");

	userfault_enable_take(vm, true);
	stores(vcpu, s, NULL, true);
	present_own = stores(vcpu, s, NULL, false);
	fd = with_userfault(vcpu, s);
	stores(vcpu, s, NULL, true);
	rescans(s, "with KVM_USERFAULT_FEATURE_OWN");

	pr_info("a store, median of %lu, in cycles: %lu by the CPU; emulated %lu, with OWN %lu\n",
		NPAGES, plain, present, present_own);
	pr_info("an emulated store to a page that is not there: userfaultfd %lu, KVM userfault %lu (%lu %%)\n",
		uffd, fd, fd * 100 / uffd);

	userfault_slot_free(s);
	kvm_vm_free(vm);
	return 0;
}
