// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that KVM shares with a guest of Hyper-V's kind, and that are absent when
 * KVM wants to read or write them.  By the guest's MSRs KVM waits for the page, by
 * the VMM's KVM_SET_MSRS it refuses to set the MSR.
 */
#include <unistd.h>

#include "hyperv.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_own_page.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define NPAGES		16ul
#define PAGE		5ul
#define SHARED_GPA	(GPA + PAGE * PAGE_SIZE)
#define ENABLE		1ul

static u64 guest_msr, guest_value;

static void guest_code(void)
{
	wrmsr(HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
	for (;;) {
		if (READ_ONCE(guest_msr))
			wrmsr(guest_msr, guest_value);
		GUEST_SYNC(guest_msr);
	}
}

static void set_guest(struct kvm_vm *vm, u64 msr, u64 value)
{
	guest_msr = msr;
	guest_value = value;
	sync_global_to_guest(vm, guest_msr);
	sync_global_to_guest(vm, guest_value);
}

struct tsc_page {
	u32 sequence;
	u32 reserved;
	u64 scale;
	s64 offset;
};

struct shared {
	const char *name;
	u32 msr;
	/* A request makes KVM write, which can be done again. */
	bool in_place;
	u64 access;
	size_t size;
	const void *content;
	void (*check)(struct userfault_own *o, const void *part);
};

static const struct tsc_page tsc_content = { .sequence = 7 };

static void check_tsc(struct userfault_own *o, const void *part)
{
	const struct tsc_page *tsc = part;
	struct kvm_clock_data clock = {};

	vm_ioctl(o->s->vm, KVM_GET_CLOCK, &clock);
	if (clock.flags & KVM_CLOCK_TSC_STABLE) {
		TEST_ASSERT_EQ(tsc->sequence, 8);
		TEST_ASSERT(tsc->scale, "There is no clock");
	} else {
		/* Not usable, says KVM. */
		TEST_ASSERT_EQ(tsc->sequence, 0);
	}
}

static const u8 hypercall_content[9];

static void check_hypercall(struct userfault_own *o, const void *part)
{
	static const u8 vmmcall[] = { 0x0f, 0x01, 0xd9, 0xc3 };
	static const u8 vmcall[] = { 0x0f, 0x01, 0xc1, 0xc3 };

	TEST_ASSERT(!memcmp(part, vmmcall, sizeof(vmmcall)) ||
		    !memcmp(part, vmcall, sizeof(vmcall)), "There is no hypercall");
}

static const u32 assist_content = 0x12345678;

static void check_assist(struct userfault_own *o, const void *part)
{
	TEST_ASSERT_EQ(*(const u32 *)part, 0);
}

static const struct shared shared[] = {
	{ "reference TSC page", HV_X64_MSR_REFERENCE_TSC, false,
	  KVM_MEMORY_EXIT_FLAG_WRITE, sizeof(tsc_content), &tsc_content, check_tsc },
	{ "hypercall page", HV_X64_MSR_HYPERCALL, true, KVM_MEMORY_EXIT_FLAG_WRITE,
	  sizeof(hypercall_content), hypercall_content, check_hypercall },
	{ "VP assist page", HV_X64_MSR_VP_ASSIST_PAGE, true, KVM_MEMORY_EXIT_FLAG_WRITE,
	  sizeof(assist_content), &assist_content, check_assist },
};

static struct userfault_own create(const struct shared *shared,
				   enum userfault_backing backing)
{
	struct userfault_own o = {
		.page = PAGE,
		.in_place = shared->in_place,
		.access = shared->access,
		.size = shared->size,
		.content = shared->content,
	};
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&o.vcpu, guest_code);
	vcpu_set_hv_cpuid(o.vcpu);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, USERFAULT_OWN_FEATURES);
	o.s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, KVM_MEM_USERFAULT);
	set_guest(vm, 0, 0);
	userfault_run_sync(o.vcpu);
	return o;
}

static void test_guest(const struct shared *shared, enum userfault_backing backing,
		       enum userfault_own_way way)
{
	struct userfault_own o = create(shared, backing);

	pr_info("%s, %s, %s\n", shared->name, userfault_backing_name(backing),
		userfault_own_way_name(way));

	for (int round = 0; round < 2; round++) {
		userfault_own_take(&o);
		set_guest(o.s->vm, shared->msr, SHARED_GPA | ENABLE);
		userfault_own_run(&o, way);
		shared->check(&o, userfault_own_part(&o));

		/* Off, for the next round. */
		set_guest(o.s->vm, shared->msr, 0);
		userfault_run_sync(o.vcpu);
	}
	userfault_own_destroy(&o);
}

/* The VMM sets the MSR, as when it restores a VM. */
static void test_host(const struct shared *shared, bool unreadable)
{
	struct userfault_own o = create(shared, USERFAULT_ANON);
	struct userfault_slot *s = o.s;
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entries[3];
	} msrs = {
		.header.nmsrs = 3,
		.entries = {
			{ .index = HV_X64_MSR_GUEST_OS_ID, .data = HYPERV_LINUX_OS_ID },
			{ .index = shared->msr, .data = SHARED_GPA | ENABLE },
			{ .index = MSR_TSC_AUX, .data = 1 },
		},
	};
	u64 own_waits = vcpu_get_stat(o.vcpu, userfault_own_waits);
	u64 *bitmap = s->bitmap;
	int fd;

	pr_info("%s, by the VMM%s\n", shared->name, unreadable ? ", bitmap unreadable" : "");

	/* With a reader that could fill the page, too: it may be this very thread. */
	fd = userfault_fd_create(s->vm, KVM_USERFAULT_FD_VCPU);
	userfault_own_take(&o);
	if (unreadable) {
		userfault_clear_bit(s, PAGE);
		userfault_slot_update(s, s->region.flags, NULL);
	}

	if (shared->in_place) {
		TEST_ASSERT_EQ(__vcpu_ioctl(o.vcpu, KVM_SET_MSRS, &msrs.header), 1);
		TEST_ASSERT_EQ(vcpu_get_msr(o.vcpu, shared->msr), 0);
	} else {
		/* It is only KVM_RUN that writes. */
		TEST_ASSERT_EQ(__vcpu_ioctl(o.vcpu, KVM_SET_MSRS, &msrs.header), 3);
		set_guest(s->vm, 0, 0);
		userfault_own_assert_untouched(&o);
		close(fd);
		userfault_run_expect(o.vcpu, SHARED_GPA, KVM_MEMORY_EXIT_FLAG_OWN | o.access |
				     (unreadable ? KVM_MEMORY_EXIT_FLAG_BITMAP : 0));
		fd = userfault_fd_create(s->vm, KVM_USERFAULT_FD_VCPU);
	}
	userfault_own_assert_untouched(&o);
	userfault_fd_assert_quiet(fd);

	if (unreadable)
		userfault_slot_update(s, s->region.flags, bitmap);
	userfault_own_give(&o);
	TEST_ASSERT_EQ(__vcpu_ioctl(o.vcpu, KVM_SET_MSRS, &msrs.header), 3);
	TEST_ASSERT_EQ(vcpu_get_msr(o.vcpu, shared->msr), SHARED_GPA | ENABLE);
	TEST_ASSERT_EQ(vcpu_get_stat(o.vcpu, userfault_own_waits), own_waits);
	close(fd);

	set_guest(s->vm, 0, 0);
	userfault_run_sync(o.vcpu);
	userfault_own_assert_rest(&o);
	shared->check(&o, userfault_own_part(&o));
	userfault_own_destroy(&o);
}

int main(void)
{
	enum userfault_backing backings[] = { USERFAULT_ANON, USERFAULT_GMEM };
	enum userfault_own_way way;

	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_HYPERV_TIME));

	for (int i = 0; i < ARRAY_SIZE(shared); i++) {
		for (int b = 0; b < ARRAY_SIZE(backings); b++) {
			for (way = 0; way < NR_USERFAULT_OWN_WAYS; way++)
				test_guest(&shared[i], backings[b], way);
		}
		test_host(&shared[i], false);
		test_host(&shared[i], true);
	}

	return 0;
}
