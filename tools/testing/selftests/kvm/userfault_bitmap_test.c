// SPDX-License-Identifier: GPL-2.0
/*
 * KVM userfault with a bitmap that cannot be read, wholly or from some page on,
 * for whatever reason, and with one that is exactly as large as it has to be.
 * What cannot be read counts as absent, and only that; it is over as soon as it
 * can be read again.
 */
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/sizes.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_map.h"
#include "userfault_util.h"

#define SLOT		10
#define NEIGHBOUR_SLOT	11
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		128ul
#define GENERATION	9

/* Pages whose bits are in front of the page boundary in the map; 3 bytes. */
#define NR_HEAD		24ul

static u64 guest_first, guest_nr;

static void check_pages(u64 first, u64 nr)
{
	u64 i;

	for (i = first; i < first + nr; i++) {
		int bad = userfault_pattern_check((void *)(GVA + i * PAGE_SIZE),
						  PAGE_SIZE,
						  GPA / PAGE_SIZE + i, GENERATION);

		GUEST_ASSERT_EQ(bad, -1);
	}
}

/* Checks the pages that the host asks for. */
static void guest_code(void)
{
	for (;;) {
		check_pages(READ_ONCE(guest_first), READ_ONCE(guest_nr));
		GUEST_SYNC(0);
	}
}

static void set_guest_range(struct kvm_vm *vm, u64 first, u64 nr)
{
	guest_first = first;
	guest_nr = nr;
	sync_global_to_guest(vm, guest_first);
	sync_global_to_guest(vm, guest_nr);
}

/* The guest ends what it has begun, and nothing stops it. */
static void run_on(struct kvm_vcpu *vcpu)
{
	u64 exits = vcpu_get_stat(vcpu, userfault_exits);

	vcpu_run(vcpu);
	userfault_assert_sync(vcpu);
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_exits), exits);
}

/* The guest reads these pages, and nothing stops it. */
static void run_pages(struct kvm_vcpu *vcpu, u64 first, u64 nr)
{
	set_guest_range(vcpu->vm, first, nr);
	run_on(vcpu);
}

/*
 * The guest reads a page whose bit cannot be read.  It stays there; once that
 * is over, run_on() has to follow.
 */
static void run_unreadable(struct kvm_vcpu *vcpu, struct userfault_slot *s,
			   u64 page, bool with_access)
{
	u64 exits = vcpu_get_stat(vcpu, userfault_exits);
	int i, r;

	set_guest_range(vcpu->vm, page, 1);
	for (i = 0; i < 2; i++) {
		vcpu->run->exit_reason = KVM_EXIT_MEMORY_FAULT;
		vcpu->run->memory_fault.flags = ~0ull;
		r = __userfault_run(vcpu);
		if (with_access)
			userfault_assert_exit(vcpu, r, userfault_gpa(s, page),
					      KVM_MEMORY_EXIT_FLAG_USERFAULT |
					      KVM_MEMORY_EXIT_FLAG_READ |
					      KVM_MEMORY_EXIT_FLAG_BITMAP);
		else
			TEST_ASSERT(r == -1 && errno == EFAULT &&
				    vcpu->run->exit_reason == KVM_EXIT_UNKNOWN,
				    "Page %lu: KVM_RUN %d, exit reason %u (%s)",
				    page, r, vcpu->run->exit_reason,
				    exit_reason_str(vcpu->run->exit_reason));
	}
	TEST_ASSERT_EQ(vcpu_get_stat(vcpu, userfault_exits), exits + 2);
}

/* The guest reads an absent page, which then gets filled. */
static void run_absent(struct kvm_vcpu *vcpu, struct userfault_slot *s, u64 page,
		       bool with_access)
{
	/* The guest has pages of the slot SLOT, and what is behind it, by number. */
	set_guest_range(vcpu->vm, userfault_gfn(s, page) - GPA / PAGE_SIZE, 1);
	userfault_run_expect(vcpu, userfault_gpa(s, page),
			     with_access ? KVM_MEMORY_EXIT_FLAG_READ : 0);
	userfault_resolve(s, page, GENERATION);
	run_on(vcpu);
}

static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu, bool with_access)
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, guest_code);

	if (with_access)
		vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES,
			      KVM_USERFAULT_FEATURE_ACCESS);
	return vm;
}

/* A filled slot and what it takes to run on it; the map is m's, all clear. */
static struct userfault_slot *create_slot(struct kvm_vm *vm, u64 npages,
					  enum userfault_backing backing)
{
	struct userfault_slot *s;

	s = userfault_slot_alloc(vm, SLOT, GPA, npages, backing);
	virt_map(vm, GVA, GPA, npages);
	for (u64 i = 0; i < npages; i++)
		userfault_fill(s, i, GENERATION);
	return s;
}

/*
 * The map of an armed slot goes away: whole, or from page NR_HEAD on.  Nothing
 * of the slot is mapped yet.
 */
static void test_armed(const struct userfault_breakage *b, bool whole, bool with_access)
{
	const size_t start = whole ? 0 : PAGE_SIZE;
	const u64 head[] = { 0, NR_HEAD - 1 };
	const u64 tail[] = { NR_HEAD, NR_HEAD + 1, NPAGES - 1 };
	struct userfault_map m;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 *own;
	int i;

	pr_info("armed, then %s: %s%s\n", b->name, whole ? "all of it" : "its tail",
		with_access ? ", ACCESS" : "");
	userfault_map_alloc(&m);

	vm = create_vm(&vcpu, with_access);
	s = create_slot(vm, NPAGES, USERFAULT_ANON);
	own = s->bitmap;
	s->bitmap = userfault_map_split(&m, NR_HEAD / 8);
	userfault_set_bit(s, 5);
	userfault_set_bit(s, NR_HEAD + 5);
	userfault_slot_update(s, KVM_MEM_USERFAULT, s->bitmap);

	for (i = 0; i < ARRAY_SIZE(head); i++) {
		userfault_map_break(&m, b, start);
		if (whole)
			run_unreadable(vcpu, s, head[i], with_access);
		else
			run_pages(vcpu, head[i], 1);
		userfault_map_mend(&m, b, start);
		if (whole)
			run_on(vcpu);
	}
	for (i = 0; i < ARRAY_SIZE(tail); i++) {
		userfault_map_break(&m, b, start);
		run_unreadable(vcpu, s, tail[i], with_access);
		userfault_map_mend(&m, b, start);
		run_on(vcpu);
	}
	if (!whole) {
		userfault_map_break(&m, b, start);
		run_absent(vcpu, s, 5, with_access);
		userfault_map_mend(&m, b, start);
		userfault_clear_bit(s, 5);
	}

	/* Nothing was learnt meanwhile. */
	if (whole)
		run_absent(vcpu, s, 5, with_access);
	run_absent(vcpu, s, NR_HEAD + 5, with_access);
	run_pages(vcpu, 0, NPAGES);

	s->bitmap = own;
	userfault_slot_free(s);
	kvm_vm_free(vm);
	userfault_map_free(&m);
}

/* Armed with such a map while all of the slot is mapped: that goes. */
static void test_late(const struct userfault_breakage *b, bool whole, bool with_access,
		      enum userfault_backing backing)
{
	const size_t start = whole ? 0 : PAGE_SIZE;
	const u64 gone[] = { 0, NR_HEAD - 1, NR_HEAD, NPAGES - 1 };
	struct userfault_map m;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 *own;
	int i;

	pr_info("%s, then armed: %s%s, %s\n", b->name,
		whole ? "all of it" : "its tail", with_access ? ", ACCESS" : "",
		userfault_backing_name(backing));
	userfault_map_alloc(&m);

	vm = create_vm(&vcpu, with_access);
	s = create_slot(vm, NPAGES, backing);
	own = s->bitmap;
	s->bitmap = userfault_map_split(&m, NR_HEAD / 8);
	userfault_slot_update(s, s->region.flags, NULL);
	run_pages(vcpu, 0, NPAGES);

	userfault_set_bit(s, 5);
	userfault_map_break(&m, b, start);
	userfault_arm(s);
	if (!whole) {
		run_pages(vcpu, 0, 5);
		run_pages(vcpu, 6, NR_HEAD - 6);
	}
	for (i = 0; i < ARRAY_SIZE(gone); i++) {
		if (!whole && gone[i] < NR_HEAD)
			continue;
		run_unreadable(vcpu, s, gone[i], with_access);
		userfault_map_mend(&m, b, start);
		run_on(vcpu);
		userfault_map_break(&m, b, start);
	}

	userfault_map_mend(&m, b, start);
	run_absent(vcpu, s, 5, with_access);
	run_pages(vcpu, 0, NPAGES);

	/* Disarmed with it gone: nobody looks. */
	userfault_map_break(&m, b, start);
	userfault_disarm(s);
	run_pages(vcpu, 0, NPAGES);
	userfault_map_mend(&m, b, start);

	s->bitmap = own;
	userfault_slot_free(s);
	kvm_vm_free(vm);
	userfault_map_free(&m);
}

static u64 nr_huge(struct kvm_vm *vm)
{
#ifdef __x86_64__
	return vm_get_stat(vm, pages_2m);
#else
	return 0;
#endif
}

/* Huge pages that the slot can add; with shadow paging the guest has none. */
static u64 huge_expected(u64 nr)
{
#ifdef __x86_64__
	return kvm_is_tdp_enabled() ? nr : 0;
#else
	return 0;
#endif
}

/*
 * The bits of a 2M page of the host are readable up to the middle.  All that is
 * known to be present runs, but as small pages.
 */
static void test_split_span(const struct userfault_breakage *b)
{
	const u64 span = SZ_2M / PAGE_SIZE;
	struct userfault_map m;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 *own, huge;

	pr_info("2M, readable up to the middle, %s\n", b->name);
	userfault_map_alloc(&m);

	vm = create_vm(&vcpu, true);
	s = create_slot(vm, span, USERFAULT_ANON_THP);
	own = s->bitmap;
	s->bitmap = userfault_map_split(&m, span / 2 / 8);
	userfault_slot_update(s, KVM_MEM_USERFAULT, s->bitmap);

	userfault_map_break(&m, b, PAGE_SIZE);
	run_pages(vcpu, 0, 1);
	huge = nr_huge(vm);
	run_pages(vcpu, 0, span / 2);
	TEST_ASSERT_EQ(nr_huge(vm), huge);
	run_unreadable(vcpu, s, span / 2, true);
	TEST_ASSERT_EQ(nr_huge(vm), huge);

	userfault_map_mend(&m, b, PAGE_SIZE);
	run_on(vcpu);
	run_pages(vcpu, 0, span);
	TEST_ASSERT_EQ(nr_huge(vm), huge + huge_expected(1));

	s->bitmap = own;
	userfault_slot_free(s);
	kvm_vm_free(vm);
	userfault_map_free(&m);
}

/*
 * KVM needs the bytes that the slot's pages are in, and none beyond, whatever
 * their number: here the rest of the last 64-bit word is not there.
 */
static void test_exact_bytes(void)
{
	const u64 sizes[] = { 1, 7, 8, 9, 65, 127 };
	struct userfault_map m;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int i, armed_late;
	u64 *own, last;

	pr_info("a map without a byte too many\n");
	userfault_map_alloc(&m);
	userfault_map_break(&m, &userfault_breakages[0], PAGE_SIZE);

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (armed_late = 0; armed_late <= 1; armed_late++) {
			last = sizes[i] - 1;
			vm = create_vm(&vcpu, true);
			s = create_slot(vm, sizes[i], USERFAULT_ANON);
			own = s->bitmap;
			s->bitmap = userfault_map_split(&m, DIV_ROUND_UP(sizes[i], 8));
			if (armed_late) {
				userfault_slot_update(s, 0, NULL);
				run_pages(vcpu, 0, sizes[i]);
			}
			userfault_set_bit(s, last);
			userfault_arm(s);

			run_pages(vcpu, 0, last);
			run_absent(vcpu, s, last, true);
			run_pages(vcpu, 0, sizes[i]);

			s->bitmap = own;
			userfault_slot_free(s);
			kvm_vm_free(vm);
		}
	}
	userfault_map_free(&m);
}

/* The same for a huge page at the end of a slot that begins 9 pages before it. */
static void test_exact_bytes_huge(void)
{
	const u64 before = 9, span = SZ_2M / PAGE_SIZE, nr = before + span;
	const u64 first = span - before;
	struct userfault_map m;
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 *own, huge, i;

	pr_info("a map without a byte too many, 2M\n");
	userfault_map_alloc(&m);
	userfault_map_break(&m, &userfault_breakages[0], PAGE_SIZE);

	vm = create_vm(&vcpu, true);
	s = userfault_slot_alloc(vm, SLOT, GPA + first * PAGE_SIZE, nr,
				 USERFAULT_ANON_THP);
	virt_map(vm, GVA + first * PAGE_SIZE, GPA + first * PAGE_SIZE, nr);
	for (i = 0; i < nr; i++)
		userfault_fill(s, i, GENERATION);
	own = s->bitmap;
	s->bitmap = userfault_map_split(&m, DIV_ROUND_UP(nr, 8));
	userfault_arm(s);

	run_pages(vcpu, first, before);
	huge = nr_huge(vm);
	run_pages(vcpu, first, nr);
	TEST_ASSERT_EQ(nr_huge(vm), huge + huge_expected(1));

	/* The last bit that there is counts. */
	userfault_disarm(s);
	userfault_set_bit(s, nr - 1);
	userfault_arm(s);
	run_pages(vcpu, first, nr - 1);
	TEST_ASSERT_EQ(nr_huge(vm), huge);
	run_absent(vcpu, s, nr - 1, true);

	s->bitmap = own;
	userfault_slot_free(s);
	kvm_vm_free(vm);
	userfault_map_free(&m);
}

/* Bits beyond the last page mean nothing, to the memslot behind it either. */
static void test_bits_beyond(void)
{
	const u64 sizes[] = { 1, 9, 63, 65 };
	struct userfault_slot *s, *neighbour;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 nr;
	int i;

	pr_info("bits beyond the last page\n");

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		nr = sizes[i];
		vm = create_vm(&vcpu, true);
		s = create_slot(vm, nr, USERFAULT_ANON);
		userfault_slot_update(s, 0, NULL);
		neighbour = userfault_slot_create(vm, NEIGHBOUR_SLOT,
						  userfault_gpa(s, nr), NPAGES,
						  USERFAULT_ANON, 0);
		virt_map(vm, GVA + nr * PAGE_SIZE, userfault_gpa(s, nr), NPAGES);
		for (u64 j = 0; j < NPAGES; j++)
			userfault_fill(neighbour, j, GENERATION);
		run_pages(vcpu, 0, nr + NPAGES);

		userfault_set_all(s);
		userfault_clear_bits(s, 0, nr);
		userfault_arm(s);
		run_pages(vcpu, 0, nr + NPAGES);

		userfault_disarm(s);
		userfault_set_bit(s, nr - 1);
		userfault_arm(s);
		run_pages(vcpu, 0, nr - 1);
		run_pages(vcpu, nr, NPAGES);
		run_absent(vcpu, s, nr - 1, true);
		run_pages(vcpu, 0, nr + NPAGES);

		/* Armed as well, it has a map of its own. */
		userfault_set_bit(neighbour, 0);
		userfault_arm(neighbour);
		run_pages(vcpu, 0, nr);
		run_pages(vcpu, nr + 1, NPAGES - 1);
		run_absent(vcpu, neighbour, 0, true);

		userfault_slot_free(neighbour);
		userfault_slot_free(s);
		kvm_vm_free(vm);
	}
}

/* The map's address means something else in another process: KVM does not run. */
static void test_other_process(void)
{
	struct userfault_slot *s;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int status;
	pid_t pid;

	pr_info("KVM_RUN in another process\n");

	vm = create_vm(&vcpu, true);
	s = create_slot(vm, NPAGES, USERFAULT_ANON);
	userfault_set_bit(s, 0);
	userfault_arm(s);
	set_guest_range(vm, 0, 2);

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork");
	if (!pid) {
		int r = ioctl(vcpu->fd, KVM_RUN, NULL);

		_exit(r == -1 && errno == EIO ? 0 : 1);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && !status,
		    "In another process: wait status 0x%x", status);

	run_absent(vcpu, s, 0, true);
	run_pages(vcpu, 0, NPAGES);

	userfault_slot_free(s);
	kvm_vm_free(vm);
}

int main(void)
{
	static const enum userfault_backing others[] = {
		USERFAULT_ANON_THP, USERFAULT_SHMEM, USERFAULT_GMEM,
	};
	int i, whole, with_access;

	TEST_REQUIRE_USERFAULT();

	for (i = 0; i < NR_USERFAULT_BREAKAGES; i++) {
		const struct userfault_breakage *b = &userfault_breakages[i];

		for (whole = 0; whole <= 1; whole++) {
			for (with_access = 0; with_access <= 1; with_access++) {
				test_armed(b, whole, with_access);
				test_late(b, whole, with_access, USERFAULT_ANON);
			}
		}
		test_split_span(b);
	}
	for (i = 0; i < ARRAY_SIZE(others); i++)
		test_late(&userfault_breakages[0], false, true, others[i]);

	test_exact_bytes();
	test_exact_bytes_huge();
	test_bits_beyond();
	test_other_process();
	return 0;
}
