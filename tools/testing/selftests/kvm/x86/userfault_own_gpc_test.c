// SPDX-License-Identifier: GPL-2.0
/*
 * KVM has pages of the guest's in pfn caches, and writes to them without looking at
 * the memslot: kvmclock's, and Xen's shared_info.  Once an ioctl that makes the page
 * absent has returned, nothing is written to it any more before it was filled,
 * whatever the ioctl was.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <asm/kvm_para.h>
#include <asm/pvclock-abi.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_own_page.h"
#include "userfault_xen.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define NPAGES		16ul
#define PAGE		5ul
#define OFFSET		0x340ul
#define ROUNDS		200

/* Of Xen's shared_info: the events, and the time, which KVM sets once. */
#define SHINFO_PENDING	0x800ul
#define SHINFO_END	0xc10ul

static void guest_code(void)
{
	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, (GPA + PAGE * PAGE_SIZE + OFFSET) | KVM_MSR_ENABLED);
	for (;;)
		GUEST_SYNC(0);
}

/* How a page that KVM has in its cache becomes absent. */
struct method {
	const char *name;
	/* What there is before. */
	u32 flags;
	u64 features;
	void (*take)(struct userfault_own *o);
	/* Over and over. */
	bool again;
};

static void take_late(struct userfault_own *o)
{
	userfault_set_bit(o->s, o->page);
	userfault_arm(o->s);
}

static void take_other_map(struct userfault_own *o)
{
	struct userfault_slot *s = o->s;
	u64 *old = s->bitmap;

	s->bitmap_fd = kvm_memfd_alloc(s->bitmap_size, false);
	s->bitmap = kvm_mmap(s->bitmap_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			     s->bitmap_fd);
	userfault_set_bit(s, o->page);
	userfault_slot_update(s, s->region.flags, s->bitmap);
	kvm_munmap(old, s->bitmap_size);
}

static void take_new_slot(struct userfault_own *o)
{
	struct userfault_slot *s = o->s;
	u64 size = s->region.memory_size;

	userfault_set_bit(s, o->page);
	s->region.memory_size = 0;
	TEST_ASSERT(!__userfault_slot_set(s), "delete: %s", strerror(errno));
	s->region.memory_size = size;
	TEST_ASSERT(!__userfault_slot_set(s), "create: %s", strerror(errno));
}

/* Absent for the guest only, so far. */
static void take_enable(struct userfault_own *o)
{
	userfault_set_bit(o->s, o->page);
	userfault_own_rescan(o);
	vm_enable_cap(o->s->vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_OWN);
}

static void take_rescan(struct userfault_own *o)
{
	userfault_set_bit(o->s, o->page);
	userfault_own_rescan(o);
}

static void take_rescan_all(struct userfault_own *o)
{
	struct kvm_userfault_range range = { .size = 1ull << 40 };

	userfault_set_bit(o->s, o->page);
	while (range.size)
		vm_ioctl(o->s->vm, KVM_USERFAULT_RESCAN, &range);
}

/* With the map unreadable the whole memslot is. */
static void take_no_map(struct userfault_own *o)
{
	struct userfault_slot *s = o->s;

	userfault_slot_update(s, s->region.flags, NULL);
	/* What the rest of the test wants. */
	userfault_set_bit(s, o->page);
	userfault_slot_update(s, s->region.flags, s->bitmap);
}

#define NOT_OWN	(USERFAULT_OWN_FEATURES & ~KVM_USERFAULT_FEATURE_OWN)

static const struct method methods[] = {
	{ "RESCAN", KVM_MEM_USERFAULT, USERFAULT_OWN_FEATURES, take_rescan, true },
	{ "RESCAN of everything", KVM_MEM_USERFAULT, USERFAULT_OWN_FEATURES,
	  take_rescan_all },
	{ "armed late", 0, USERFAULT_OWN_FEATURES, take_late },
	{ "another bitmap", KVM_MEM_USERFAULT, USERFAULT_OWN_FEATURES, take_other_map,
	  true },
	{ "no bitmap for a while", KVM_MEM_USERFAULT, USERFAULT_OWN_FEATURES, take_no_map },
	{ "a new memslot", KVM_MEM_USERFAULT, USERFAULT_OWN_FEATURES, take_new_slot,
	  true },
	{ "OWN enabled", KVM_MEM_USERFAULT, NOT_OWN, take_enable },
};

static const struct pvclock_vcpu_time_info content = { .version = 100 };

/* Since it was filled. */
static bool clock_updated(struct userfault_own *o)
{
	struct pvclock_vcpu_time_info *clock = userfault_own_part(o);

	return READ_ONCE(clock->version) > content.version;
}

/* The next KVM_RUN updates the clock. */
static void set_clock(struct kvm_vm *vm)
{
	struct kvm_clock_data clock = {};

	vm_ioctl(vm, KVM_SET_CLOCK, &clock);
}

static struct userfault_own create(const struct method *method,
				   enum userfault_backing backing)
{
	struct userfault_own o = {
		.page = PAGE,
		.access = KVM_MEMORY_EXIT_FLAG_WRITE,
	};
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&o.vcpu, guest_code);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, method->features);
	o.s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, method->flags);
	userfault_clear_all(o.s);
	return o;
}

static struct userfault_own create_clock(const struct method *method,
					 enum userfault_backing backing)
{
	struct userfault_own o = create(method, backing);

	o.offset = OFFSET;
	o.size = sizeof(content);
	o.content = &content;
	userfault_own_give(&o);
	userfault_run_sync(o.vcpu);
	TEST_ASSERT(clock_updated(&o), "There is no clock");
	return o;
}

static bool event_pending(struct userfault_own *o)
{
	u64 *pending = userfault_own_part(o);

	return READ_ONCE(pending[USERFAULT_XEN_WORD]) == USERFAULT_XEN_EVENT;
}

/* Nobody asks for the bit before KVM writes to shared_info. */
static struct userfault_own create_shinfo(const struct method *method,
					  enum userfault_backing backing)
{
	static const u8 zeroes[SHINFO_END - SHINFO_PENDING];
	struct userfault_own o = create(method, backing);

	userfault_xen_enable(o.s->vm);
	o.offset = SHINFO_PENDING;
	o.size = sizeof(zeroes);
	o.content = zeroes;
	userfault_own_give(&o);
	userfault_xen_set_shinfo(o.s->vm, userfault_gfn(o.s, PAGE));
	userfault_xen_send(o.vcpu);
	TEST_ASSERT(event_pending(&o), "There is no event");
	return o;
}

static void test_shinfo(const struct method *method, enum userfault_backing backing)
{
	struct userfault_own o = create_shinfo(method, backing);

	pr_info("shared_info, %s, %s\n", method->name, userfault_backing_name(backing));

	method->take(&o);
	userfault_own_scribble(&o);
	for (int i = 0; i < 2; i++) {
		ASSERT_FAILS(__userfault_xen_send(o.vcpu), EFAULT);
		userfault_own_assert_untouched(&o);
	}
	userfault_own_give(&o);
	userfault_xen_send(o.vcpu);
	TEST_ASSERT(event_pending(&o), "There is no event");
	userfault_own_assert_rest(&o);
	userfault_own_destroy(&o);
}

/* KVM writes to the page all the time; @written says if it has since it was filled. */
static void take_over_and_over(struct userfault_own *o, const struct method *method,
			       bool (*written)(struct userfault_own *o))
{
	for (int i = 0; i < ROUNDS; i++) {
		method->take(o);
		userfault_own_scribble(o);
		usleep(i * 10);
		userfault_own_assert_untouched(o);

		userfault_own_give(o);
		while (!written(o))
			sched_yield();
		userfault_own_assert_rest(o);
	}
}

static bool stop;

static void *keep_sending(void *arg)
{
	int r;

	while (!READ_ONCE(stop)) {
		r = __userfault_xen_send(arg);
		TEST_ASSERT(!r || errno == EFAULT, "send: %s", strerror(errno));
	}
	return NULL;
}

static void test_shinfo_race(const struct method *method)
{
	struct userfault_own o = create_shinfo(method, USERFAULT_GMEM);
	pthread_t thread;

	pr_info("shared_info, %s, while it is written\n", method->name);

	stop = false;
	kvm_pthread_create(&thread, NULL, keep_sending, o.vcpu);
	take_over_and_over(&o, method, event_pending);
	WRITE_ONCE(stop, true);
	kvm_pthread_join(thread, NULL);
	userfault_own_destroy(&o);
}

static void test_clock(const struct method *method, enum userfault_backing backing)
{
	struct userfault_own o = create_clock(method, backing);

	pr_info("kvmclock, %s, %s\n", method->name, userfault_backing_name(backing));

	method->take(&o);
	userfault_own_scribble(&o);
	set_clock(o.s->vm);
	userfault_own_run(&o, USERFAULT_OWN_EXIT);
	TEST_ASSERT(clock_updated(&o), "There is no clock");
	userfault_own_destroy(&o);
}

static void *keep_setting(void *arg)
{
	while (!READ_ONCE(stop)) {
		set_clock(arg);
		usleep(100);
	}
	return NULL;
}

static void test_clock_race(const struct method *method)
{
	struct userfault_own o = create_clock(method, USERFAULT_GMEM);
	struct userfault_loop loop;
	pthread_t thread;

	pr_info("kvmclock, %s, while it is written\n", method->name);

	stop = false;
	userfault_loop_start(&loop, o.vcpu);
	kvm_pthread_create(&thread, NULL, keep_setting, o.s->vm);
	take_over_and_over(&o, method, clock_updated);
	WRITE_ONCE(stop, true);
	kvm_pthread_join(thread, NULL);
	userfault_loop_stop(&loop);
	userfault_own_destroy(&o);
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_EVTCHN_SEND);

	for (int i = 0; i < ARRAY_SIZE(methods); i++) {
		test_clock(&methods[i], USERFAULT_ANON);
		test_clock(&methods[i], USERFAULT_GMEM);
		test_shinfo(&methods[i], USERFAULT_ANON);
		test_shinfo(&methods[i], USERFAULT_GMEM);
		if (!methods[i].again)
			continue;
		test_clock_race(&methods[i]);
		test_shinfo_race(&methods[i]);
	}

	return 0;
}
