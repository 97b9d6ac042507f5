// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that KVM shares with a Xen guest, and that are absent when KVM wants to
 * write them: a vCPU's vcpu_info, time and runstate, and the VM's shared_info.
 *
 * The vCPU's own wait for the page, in KVM_RUN, and so does the event of its timer for
 * shared_info.  Other events are sent by whoever it may be, a worker included, and
 * nobody waits: sending fails, and an event that comes from an irqfd is lost.
 */
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_own_page.h"
#include "userfault_poison.h"
#include "userfault_xen.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		16ul
#define PAGE		5ul
#define OFFSET		0x340ul
#define SHARED_GPA	(GPA + PAGE * PAGE_SIZE)
/* shared_info, if it is not the page in question. */
#define SHINFO_PAGE	8ul
#define VECTOR		0x60
#define GSI		32

struct time_info {
	u32 version;
	u32 pad0;
	u64 tsc_timestamp;
	u64 system_time;
	u32 tsc_to_system_mul;
	s8 tsc_shift;
	u8 flags;
	u8 pad[2];
};

struct vcpu_info {
	u8 upcall_pending;
	u8 upcall_mask;
	u64 pending_sel;
	u64 arch[2];
	struct time_info time;
};

struct runstate {
	u32 state;
	u64 entry_time;
	u64 time[4];
};

struct shared_info {
	struct vcpu_info vcpu_info[32];
	u64 pending[64];
	u64 mask[64];
	u32 wc_version;
	u32 wc_sec;
	u32 wc_nsec;
	u32 wc_sec_hi;
};

static u64 guest_upcalls;

static void guest_upcall(struct ex_regs *regs)
{
	struct vcpu_info *vi = (void *)GVA + PAGE * PAGE_SIZE + OFFSET;

	guest_upcalls++;
	/* Acknowledged by hand, or it comes again. */
	WRITE_ONCE(vi->upcall_pending, 0);
}

static void guest_code(void)
{
	u32 eax, ebx, ecx, edx;

	asm volatile("sti");
	for (;;) {
		/* An exit, after which KVM delivers what it could not deliver before. */
		cpuid(0, &eax, &ebx, &ecx, &edx);
		GUEST_SYNC(0);
	}
}

static int __set_vcpu_attr(struct kvm_vcpu *vcpu, u16 type, u64 gpa)
{
	struct kvm_xen_vcpu_attr attr = { .type = type, .u.gpa = gpa };

	return __vcpu_ioctl(vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);
}

struct shared {
	const char *name;
	u16 attr;
	/* Where it begins, before the page in question. */
	u64 gpa;
	size_t offset, size;
	const void *content;
	void (*want)(struct userfault_own *o);
	void (*check)(struct userfault_own *o, const void *part);
};

static void want_clock(struct userfault_own *o)
{
	struct kvm_clock_data clock = {};

	vm_ioctl(o->s->vm, KVM_SET_CLOCK, &clock);
}

static void assert_time(const struct time_info *time)
{
	TEST_ASSERT(time->version > 100 && time->version % 2 == 0, "version %u",
		    time->version);
	TEST_ASSERT(time->tsc_to_system_mul, "There is no clock");
}

static const struct time_info time_content = { .version = 100 };

static void check_time(struct userfault_own *o, const void *part)
{
	assert_time(part);
}

static const struct vcpu_info vcpu_info_content = { .time.version = 100 };

static void check_vcpu_info(struct userfault_own *o, const void *part)
{
	assert_time(&((const struct vcpu_info *)part)->time);
}

static void want_event(struct userfault_own *o)
{
	struct shared_info *shinfo = userfault_alias(o->s, SHINFO_PAGE);

	memset(shinfo, 0, sizeof(*shinfo));
	guest_upcalls = 0;
	sync_global_to_guest(o->s->vm, guest_upcalls);
	userfault_xen_send(o->vcpu);
	TEST_ASSERT_EQ(shinfo->pending[USERFAULT_XEN_WORD], USERFAULT_XEN_EVENT);
}

/* The event that came while the page was absent is there, and was delivered. */
static void check_event(struct userfault_own *o, const void *part)
{
	const struct vcpu_info *vi = part;

	sync_global_from_guest(o->s->vm, guest_upcalls);
	/* QEMU 7.2 delivers an injected interrupt twice now and then, if it has two CPUs. */
	TEST_ASSERT(guest_upcalls >= 1, "The upcall was not delivered");
	TEST_ASSERT_EQ(vi->pending_sel, BIT_ULL(USERFAULT_XEN_WORD) | 0x8000);
	TEST_ASSERT_EQ(vi->upcall_pending, 0);
}

static const struct vcpu_info event_content = { .pending_sel = 0x8000 };

/* A vCPU that is halted looks for a reason not to be. */
static void want_halted(struct userfault_own *o)
{
	struct kvm_mp_state state = { KVM_MP_STATE_HALTED };

	guest_upcalls = 0;
	sync_global_to_guest(o->s->vm, guest_upcalls);
	vcpu_mp_state_set(o->vcpu, &state);
}

static void check_halted(struct userfault_own *o, const void *part)
{
	const struct vcpu_info *vi = part;

	sync_global_from_guest(o->s->vm, guest_upcalls);
	TEST_ASSERT(guest_upcalls >= 1, "The upcall was not delivered");
	TEST_ASSERT_EQ(vi->upcall_pending, 0);
}

static const struct vcpu_info halted_content = { .upcall_pending = 1 };

static void want_nothing(struct userfault_own *o)
{
	/* Whenever a vCPU is loaded KVM updates its runstate. */
}

static const struct runstate runstate_content = { .state = 0x5a };

static void check_runstate(struct userfault_own *o, const void *part)
{
	const struct runstate *rs = part;

	/* Running, or scheduled out since. */
	TEST_ASSERT(rs->state <= 1, "state %u", rs->state);
	TEST_ASSERT(rs->entry_time, "There is no time");
	TEST_ASSERT_EQ(rs->entry_time, rs->time[0] + rs->time[1] + rs->time[2] + rs->time[3]);
}

#define SPLIT	offsetof(struct runstate, time)

static const u64 split_content[4];

static void check_split(struct userfault_own *o, const void *part)
{
	struct runstate rs;

	memcpy(&rs, userfault_alias(o->s, PAGE) - SPLIT, SPLIT);
	memcpy(rs.time, part, sizeof(rs.time));
	check_runstate(o, &rs);
}

static const struct shared shared[] = {
	{ "vcpu_info", KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, SHARED_GPA + OFFSET, OFFSET,
	  sizeof(vcpu_info_content), &vcpu_info_content, want_clock, check_vcpu_info },
	{ "time", KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO, SHARED_GPA + OFFSET, OFFSET,
	  sizeof(time_content), &time_content, want_clock, check_time },
	{ "event", KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, SHARED_GPA + OFFSET, OFFSET,
	  sizeof(event_content), &event_content, want_event, check_event },
	{ "event of a halted vCPU", KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, SHARED_GPA + OFFSET, OFFSET,
	  sizeof(halted_content), &halted_content, want_halted, check_halted },
	{ "runstate", KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR, SHARED_GPA + OFFSET, OFFSET,
	  sizeof(runstate_content), &runstate_content, want_nothing, check_runstate },
	{ "half of a runstate", KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR, SHARED_GPA - SPLIT, 0,
	  sizeof(split_content), split_content, want_nothing, check_split },
};

static struct userfault_own create_vm(enum userfault_backing backing)
{
	struct userfault_own o = {
		.page = PAGE,
		.access = KVM_MEMORY_EXIT_FLAG_WRITE,
	};
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&o.vcpu, guest_code);
	vm_install_exception_handler(vm, VECTOR, guest_upcall);
	userfault_xen_enable(vm);
	vm_enable_cap(vm, KVM_CAP_USERFAULT_FEATURES, USERFAULT_OWN_FEATURES);
	o.s = userfault_slot_create(vm, SLOT, GPA, NPAGES, backing, KVM_MEM_USERFAULT);
	virt_map(vm, GVA, GPA, NPAGES);
	userfault_clear_bits(o.s, 0, NPAGES);
	return o;
}

static struct userfault_own create(const struct shared *shared,
				   enum userfault_backing backing)
{
	struct userfault_own o = create_vm(backing);
	struct kvm_xen_hvm_attr attr = {
		.type = KVM_XEN_ATTR_TYPE_UPCALL_VECTOR,
		.u.vector = VECTOR,
	};

	o.offset = shared->offset;
	o.size = shared->size;
	o.content = shared->content;
	if (shared->want == want_event || shared->want == want_halted) {
		vm_ioctl(o.s->vm, KVM_XEN_HVM_SET_ATTR, &attr);
		userfault_xen_set_shinfo(o.s->vm, userfault_gfn(o.s, SHINFO_PAGE));
	}
	return o;
}

static void test_shared(const struct shared *shared, enum userfault_backing backing,
			enum userfault_own_way way)
{
	struct userfault_own o = create(shared, backing);

	pr_info("%s, %s, %s\n", shared->name, userfault_backing_name(backing),
		userfault_own_way_name(way));

	/* The VMM cannot give KVM an absent page, and nothing comes of trying. */
	userfault_own_take(&o);
	ASSERT_FAILS(__set_vcpu_attr(o.vcpu, shared->attr, shared->gpa), EFAULT);
	userfault_own_assert_untouched(&o);

	userfault_own_give(&o);
	TEST_ASSERT(!__set_vcpu_attr(o.vcpu, shared->attr, shared->gpa),
		    "KVM_XEN_VCPU_SET_ATTR: %s", strerror(errno));
	userfault_run_sync(o.vcpu);

	for (int round = 0; round < 2; round++) {
		userfault_own_take(&o);
		shared->want(&o);
		userfault_own_assert_untouched(&o);
		userfault_own_run(&o, way);
		shared->check(&o, userfault_own_part(&o));
	}
	userfault_own_destroy(&o);
}

/* Told once, it does not look again and again for what it cannot see. */
static void test_halted_poison(enum userfault_backing backing)
{
	const struct shared *halted = shared;
	struct timespec before, after;
	struct userfault_runner r;
	struct userfault_own o;
	clockid_t clock;
	s64 used_ms;
	gpa_t gpa;

	pr_info("poison and a halted vCPU, %s\n", userfault_backing_name(backing));
	while (halted->want != want_halted)
		halted++;
	o = create(halted, backing);
	gpa = userfault_gpa(o.s, PAGE);
	vm_enable_cap(o.s->vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_POISON);
	TEST_ASSERT(!__set_vcpu_attr(o.vcpu, halted->attr, halted->gpa),
		    "KVM_XEN_VCPU_SET_ATTR: %s", strerror(errno));
	userfault_run_sync(o.vcpu);

	userfault_poison(o.s->vm, gpa, PAGE_SIZE, KVM_USERFAULT_POISON_SET);
	want_halted(&o);
	userfault_assert_poison_exit(o.vcpu, __userfault_run(o.vcpu), gpa,
				     KVM_MEMORY_EXIT_FLAG_WRITE, true);
	userfault_runner_start(&r, o.vcpu);
	TEST_ASSERT(!pthread_getcpuclockid(r.thread, &clock), "pthread_getcpuclockid");
	userfault_runner_assert_waits(&r);
	clock_gettime(clock, &before);
	userfault_runner_assert_waits(&r);
	clock_gettime(clock, &after);
	used_ms = timespec_to_ns(timespec_sub(after, before)) / 1000000;
	TEST_ASSERT(used_ms < USERFAULT_QUIET_MS / 4, "It has used %ld ms", used_ms);

	userfault_runner_kick(&r);
	userfault_runner_join(&r);
	TEST_ASSERT(r.ret == -1 && r.error == EINTR, "KVM_RUN: %d (%s)", r.ret,
		    strerror(r.error));
	userfault_own_destroy(&o);
}

static const struct shared_info shinfo_content = { .wc_version = 100 };

static u64 pending_word(struct userfault_own *o)
{
	const struct shared_info *shinfo = userfault_own_part(o);

	return shinfo->pending[USERFAULT_XEN_WORD];
}

static void test_shinfo(enum userfault_backing backing)
{
	struct userfault_own o = create_vm(backing);
	const struct shared_info *shinfo;
	struct kvm_vm *vm = o.s->vm;
	struct {
		struct kvm_irq_routing header;
		struct kvm_irq_routing_entry entry;
	} routing = {
		.header.nr = 1,
		.entry = {
			.gsi = GSI,
			.type = KVM_IRQ_ROUTING_XEN_EVTCHN,
			.u.xen_evtchn.port = USERFAULT_XEN_PORT,
			.u.xen_evtchn.vcpu = o.vcpu->id,
			.u.xen_evtchn.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL,
		},
	};
	int fd, irqfd;

	pr_info("shared_info, %s\n", userfault_backing_name(backing));

	fd = userfault_fd_create(vm, KVM_USERFAULT_FD_VCPU);
	o.size = sizeof(shinfo_content);
	o.content = &shinfo_content;

	/* The VMM cannot give KVM an absent page. */
	userfault_own_take(&o);
	ASSERT_FAILS(__userfault_xen_set_shinfo(vm, userfault_gfn(o.s, PAGE)), EFAULT);
	userfault_own_assert_untouched(&o);
	userfault_own_give(&o);
	userfault_xen_set_shinfo(vm, userfault_gfn(o.s, PAGE));
	shinfo = userfault_own_part(&o);
	TEST_ASSERT_EQ(shinfo->wc_version, 102);

	/* Nor send an event while it is absent, nor wait; later it can. */
	userfault_xen_send(o.vcpu);
	TEST_ASSERT_EQ(pending_word(&o), USERFAULT_XEN_EVENT);
	userfault_own_take(&o);
	ASSERT_FAILS(__userfault_xen_send(o.vcpu), EFAULT);
	userfault_own_assert_untouched(&o);
	userfault_own_give(&o);
	TEST_ASSERT_EQ(pending_word(&o), 0);
	userfault_xen_send(o.vcpu);
	TEST_ASSERT_EQ(pending_word(&o), USERFAULT_XEN_EVENT);
	userfault_own_assert_rest(&o);

	/* By irqfd it is a worker that cannot deliver it, and the event is lost. */
	vm_ioctl(vm, KVM_SET_GSI_ROUTING, &routing.header);
	irqfd = kvm_new_eventfd();
	kvm_assign_irqfd(vm, GSI, irqfd);
	userfault_own_take(&o);
	TEST_ASSERT(!eventfd_write(irqfd, 1), "eventfd_write");
	usleep(USERFAULT_QUIET_MS * 1000);
	userfault_own_assert_untouched(&o);
	/* The worker does not wait, so neither does who waits for the worker. */
	TEST_ASSERT(!eventfd_write(irqfd, 1), "eventfd_write");
	kvm_deassign_irqfd(vm, GSI, irqfd);
	userfault_own_assert_untouched(&o);
	userfault_own_give(&o);
	usleep(USERFAULT_QUIET_MS * 1000);
	TEST_ASSERT_EQ(pending_word(&o), 0);

	kvm_assign_irqfd(vm, GSI, irqfd);
	TEST_ASSERT(!eventfd_write(irqfd, 1), "eventfd_write");
	while (!READ_ONCE(((struct shared_info *)shinfo)->pending[USERFAULT_XEN_WORD]))
		usleep(1000);
	TEST_ASSERT_EQ(pending_word(&o), USERFAULT_XEN_EVENT);
	userfault_own_assert_rest(&o);

	/* The eventfd is the last that goes, with an event in flight. */
	userfault_own_take(&o);
	TEST_ASSERT(!eventfd_write(irqfd, 1), "eventfd_write");
	close(irqfd);
	userfault_own_assert_untouched(&o);
	userfault_fd_assert_quiet(fd);
	close(fd);
	userfault_own_destroy(&o);
}

/*
 * A timer of the vCPU's, whose event is sent in KVM_RUN and so waits for shared_info.
 * A VMM that asks for the timer, to save it, cannot wait: it has not been sent yet.
 */
static void test_timer(enum userfault_backing backing, enum userfault_own_way way)
{
	struct userfault_own o = create_vm(backing);
	struct kvm_xen_vcpu_attr attr = {
		.type = KVM_XEN_VCPU_ATTR_TYPE_TIMER,
		.u.timer = {
			.port = USERFAULT_XEN_PORT,
			.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL,
			.expires_ns = 1,
		},
	};
	gpa_t vcpu_info;

	pr_info("timer, %s, %s\n", userfault_backing_name(backing),
		userfault_own_way_name(way));

	o.in_place = true;
	o.size = sizeof(shinfo_content);
	o.content = &shinfo_content;
	userfault_own_give(&o);
	userfault_xen_set_shinfo(o.s->vm, userfault_gfn(o.s, PAGE));
	/* KVM warns of an event for a vCPU that has none. */
	vcpu_info = addr_gva2gpa(o.s->vm, vm_alloc_page(o.s->vm));
	TEST_ASSERT(!__set_vcpu_attr(o.vcpu, KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, vcpu_info),
		    "vcpu_info: %s", strerror(errno));
	userfault_run_sync(o.vcpu);

	userfault_own_take(&o);
	vcpu_ioctl(o.vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);
	vcpu_ioctl(o.vcpu, KVM_XEN_VCPU_GET_ATTR, &attr);
	TEST_ASSERT_EQ(attr.u.timer.expires_ns, 1);
	userfault_own_assert_untouched(&o);

	userfault_own_run(&o, way);
	TEST_ASSERT_EQ(pending_word(&o), USERFAULT_XEN_EVENT);
	vcpu_ioctl(o.vcpu, KVM_XEN_VCPU_GET_ATTR, &attr);
	TEST_ASSERT_EQ(attr.u.timer.expires_ns, 0);
	userfault_own_destroy(&o);
}

int main(void)
{
	enum userfault_backing backings[] = { USERFAULT_ANON, USERFAULT_GMEM };
	enum userfault_own_way way;
	int xen = kvm_check_cap(KVM_CAP_XEN_HVM);

	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(xen & KVM_XEN_HVM_CONFIG_EVTCHN_SEND);
	TEST_REQUIRE(xen & KVM_XEN_HVM_CONFIG_RUNSTATE);

	for (int b = 0; b < ARRAY_SIZE(backings); b++) {
		for (int i = 0; i < ARRAY_SIZE(shared); i++) {
			for (way = 0; way < NR_USERFAULT_OWN_WAYS; way++) {
				/* An unreadable bitmap is that of the first half, too. */
				if (shared[i].content == split_content &&
				    way == USERFAULT_OWN_UNREADABLE)
					continue;
				test_shared(&shared[i], backings[b], way);
			}
		}
		test_halted_poison(backings[b]);
		test_shinfo(backings[b]);
		for (way = 0; way < NR_USERFAULT_OWN_WAYS; way++)
			test_timer(backings[b], way);
	}

	return 0;
}
