// SPDX-License-Identifier: GPL-2.0
/*
 * vCPUs that check pages, and a pager that takes them away.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_paging.h"

#define SLOT		10
#define GVA		USERFAULT_PAGING_GPA
#define CONTROL_GPA	0xb0000000ul
#define CONTROL		((struct userfault_paging_control *)CONTROL_GPA)

static_assert(sizeof(struct userfault_paging_control) <= 4096);

/* The lowest generation that a word may be of: see the header. */
static u64 guest_lowest(u64 page)
{
	return READ_ONCE(CONTROL->generation[page]) & ~1u;
}

static void guest_report(u64 id, u64 page, u64 index, u64 word, u64 generation)
{
	struct userfault_paging_bad *bad = &CONTROL->bad[id];

	if (!bad->count) {
		bad->page = page;
		bad->index = index;
		bad->word = word;
		bad->generation = generation;
	}
	if (!word)
		WRITE_ONCE(bad->zeroes, bad->zeroes + 1);
	WRITE_ONCE(bad->count, bad->count + 1);
}

static void guest_check(u64 id, u64 page)
{
	u64 *p = (u64 *)(GVA + page * PAGE_SIZE);
	u64 gfn = READ_ONCE(CONTROL->gfn) + page;
	u64 generation = guest_lowest(page);
	u64 first = userfault_pattern_first(gfn, generation);
	u64 i, word, lowest, last;

	for (i = 0; i < PAGE_SIZE / sizeof(*p); i++) {
		lowest = guest_lowest(page);
		word = READ_ONCE(p[i]);
		if (generation < lowest) {
			generation = lowest;
			first = userfault_pattern_first(gfn, generation);
		}
		last = READ_ONCE(CONTROL->generation[page]);
		while (word != first + i * USERFAULT_PATTERN_STEP) {
			if (generation + 2 > last) {
				guest_report(id, page, i, word, generation);
				return;
			}
			generation += 2;
			first = userfault_pattern_first(gfn, generation);
		}
	}
}

static void guest_code(u64 id)
{
	u64 random = 0x9e3779b97f4a7c15ull * (id + 1), page;
	u64 *p;

	while (!READ_ONCE(CONTROL->stop)) {
		userfault_random(&random);
		page = (random >> 20) % READ_ONCE(CONTROL->npages);
		p = (u64 *)(GVA + page * PAGE_SIZE);

		/* A write that changes nothing, whatever the generation is. */
		if (!READ_ONCE(CONTROL->reads_only) && (random & 1))
			__atomic_fetch_add(&p[random >> 55], READ_ONCE(CONTROL->reads_only),
					   __ATOMIC_SEQ_CST);
		guest_check(id, page);
		WRITE_ONCE(CONTROL->checked[id], CONTROL->checked[id] + 1);
	}
	GUEST_DONE();
}

void userfault_paging_create(struct userfault_paging *p, int nr_vcpus, u64 npages,
			     enum userfault_backing backing, u32 flags)
{
	int i;

	TEST_ASSERT(nr_vcpus <= USERFAULT_PAGING_VCPUS &&
		    npages <= USERFAULT_PAGING_PAGES, "too much");
	memset(p, 0, sizeof(*p));
	p->nr_vcpus = nr_vcpus;
	p->vm = vm_create_with_vcpus(nr_vcpus, guest_code, p->vcpus);
	p->s = userfault_slot_create(p->vm, SLOT, USERFAULT_PAGING_GPA, npages,
				     backing, flags);
	p->control_slot = userfault_slot_create(p->vm, SLOT + 1, CONTROL_GPA, 1,
						USERFAULT_SHMEM, 0);
	virt_map(p->vm, GVA, USERFAULT_PAGING_GPA, npages);
	virt_map(p->vm, CONTROL_GPA, CONTROL_GPA, 1);
	vm_enable_cap(p->vm, KVM_CAP_USERFAULT_FEATURES,
		      KVM_USERFAULT_FEATURE_FD | KVM_USERFAULT_FEATURE_RESCAN);
	for (i = 0; i < nr_vcpus; i++)
		vcpu_args_set(p->vcpus[i], 1, (u64)i);

	p->c = userfault_hva(p->control_slot, 0);
	p->c->npages = npages;
	p->c->gfn = userfault_gfn(p->s, 0);
}

void userfault_paging_destroy(struct userfault_paging *p)
{
	userfault_slot_free(p->s);
	userfault_slot_free(p->control_slot);
	kvm_vm_free(p->vm);
}

struct vcpu_thread_args {
	struct userfault_paging *p;
	int id;
};

static void *vcpu_thread(void *arg)
{
	struct vcpu_thread_args args = *(struct vcpu_thread_args *)arg;
	struct userfault_paging *p = args.p;
	struct kvm_vcpu *vcpu = p->vcpus[args.id];
	struct ucall uc;
	int ret;

	free(arg);
	for (;;) {
		__atomic_store_n(&p->entered[args.id],
				 __atomic_load_n(&p->epoch, __ATOMIC_SEQ_CST),
				 __ATOMIC_SEQ_CST);
		ret = __vcpu_run(vcpu);
		if (ret == -1 && errno == EINTR) {
			vcpu->run->immediate_exit = 0;
			continue;
		}
		if (!ret && get_ucall(vcpu, &uc) == UCALL_DONE)
			return NULL;
		TEST_ASSERT(p->on_exit, "vCPU %d: KVM_RUN: %d (%s), exit reason %u (%s)",
			    args.id, ret, strerror(errno), vcpu->run->exit_reason,
			    exit_reason_str(vcpu->run->exit_reason));
		p->on_exit(p, args.id, ret);
	}
}

static void on_kick(int signal)
{
}

void userfault_paging_start(struct userfault_paging *p)
{
	struct sigaction action = { .sa_handler = on_kick };
	int i;

	TEST_ASSERT(!sigaction(SIGUSR1, &action, NULL), "sigaction");
	p->epoch = 1;
	for (i = 0; i < p->nr_vcpus; i++) {
		struct vcpu_thread_args *args = malloc(sizeof(*args));

		TEST_ASSERT(args, "Out of memory");
		args->p = p;
		args->id = i;
		kvm_pthread_create(&p->threads[i], NULL, vcpu_thread, args);
	}
}

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* Emulated, with a debug kernel, beside other work: generous. */
#define TIMEOUT_S	(4 * USERFAULT_TIMEOUT_MS / 1000)

void userfault_paging_stop(struct userfault_paging *p)
{
	struct timespec until;
	int i;

	WRITE_ONCE(p->c->stop, 1);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += TIMEOUT_S;
	for (i = 0; i < p->nr_vcpus; i++)
		TEST_ASSERT(!pthread_timedjoin_np(p->threads[i], NULL, &until),
			    "vCPU %d does not come to its end", i);
	userfault_paging_assert_right(p);
}

void userfault_paging_assert_right(struct userfault_paging *p)
{
	char what[128];
	int i;

	for (i = 0; i < p->nr_vcpus; i++) {
		struct userfault_paging_bad *bad = &p->c->bad[i];

		if (!READ_ONCE(bad->count))
			continue;
		userfault_diagnose(p->s, bad->page, bad->generation, what, sizeof(what));
		TEST_FAIL("vCPU %d: %lu wrong, first page %lu, word %lu: 0x%lx, generation %lu.\n"
			  "That page now: %s", i, bad->count, bad->page, bad->index,
			  bad->word, bad->generation, what);
	}
}

void userfault_paging_advance(struct userfault_paging *p, u64 pages)
{
	u64 from[USERFAULT_PAGING_VCPUS];
	time_t started = now();
	int i;

	for (i = 0; i < p->nr_vcpus; i++)
		from[i] = READ_ONCE(p->c->checked[i]);
	for (i = 0; i < p->nr_vcpus; i++) {
		while (READ_ONCE(p->c->checked[i]) - from[i] < pages) {
			userfault_paging_assert_right(p);
			TEST_ASSERT(now() - started < TIMEOUT_S,
				    "vCPU %d is stuck: %lu of %lu pages, %lu bits set", i,
				    p->c->checked[i] - from[i], pages,
				    userfault_count_bits(p->s));
			usleep(1000);
		}
	}
	userfault_paging_assert_right(p);
}

void userfault_paging_reenter(struct userfault_paging *p)
{
	u64 epoch = __atomic_add_fetch(&p->epoch, 1, __ATOMIC_SEQ_CST);
	time_t started = now();
	int i;

	for (i = 0; i < p->nr_vcpus; i++) {
		while (__atomic_load_n(&p->entered[i], __ATOMIC_SEQ_CST) != epoch) {
			/* In case the signal comes right before KVM_RUN. */
			WRITE_ONCE(p->vcpus[i]->run->immediate_exit, 1);
			TEST_ASSERT(!pthread_kill(p->threads[i], SIGUSR1), "pthread_kill");
			TEST_ASSERT(now() - started < TIMEOUT_S,
				    "vCPU %d does not leave KVM_RUN", i);
			usleep(1000);
		}
	}
}

/* Neither what was there nor zeroes: the server has to overwrite it. */
static void destroy_content(struct userfault_paging *p, u64 page, bool punch)
{
	struct userfault_slot *s = p->s;

	if (punch && s->fd >= 0)
		TEST_ASSERT(!fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       page * s->page_size, s->page_size),
			    "fallocate: %s", strerror(errno));
	else
		memset(userfault_alias(s, page), 0xee, s->page_size);
}

static void rescan_page(struct userfault_paging *p, u64 page)
{
	struct kvm_userfault_range range = {
		.gpa = userfault_gpa(p->s, page),
		.size = p->s->page_size,
		.as_id = KVM_USERFAULT_AS_ALL,
	};
	int r;

	do {
		r = __vm_ioctl(p->vm, KVM_USERFAULT_RESCAN, &range);
	} while (r == -1 && errno == EINTR);
	TEST_ASSERT(!r && !range.size, "RESCAN: %d (%s)", r, strerror(errno));
}

bool userfault_paging_page_out(struct userfault_paging *p, u64 page)
{
	u32 *generation = &p->c->generation[page];
	u32 g = READ_ONCE(*generation);

	if (userfault_test_bit(p->s, page))
		return false;

	__atomic_store_n(generation, g + 1, __ATOMIC_SEQ_CST);
	userfault_set_bit(p->s, page);
	if (p->take_away) {
		p->take_away(p, page);
	} else {
		rescan_page(p, page);
		destroy_content(p, page, page & 1);
	}
	__atomic_store_n(generation, g + 2, __ATOMIC_SEQ_CST);
	p->paged_out++;
	return true;
}

static void *pager_thread(void *arg)
{
	struct userfault_paging *p = arg;
	u64 random = 0x2545f4914f6cdd1dull;

	while (!READ_ONCE(p->pager_stop)) {
		userfault_random(&random);
		userfault_paging_page_out(p, (random >> 20) % p->s->npages);
		usleep(p->pager_us);
	}
	return NULL;
}

void userfault_pager_start(struct userfault_paging *p, unsigned int us)
{
	p->pager_us = us;
	p->pager_stop = false;
	kvm_pthread_create(&p->pager, NULL, pager_thread, p);
}

void userfault_pager_stop(struct userfault_paging *p)
{
	WRITE_ONCE(p->pager_stop, true);
	kvm_pthread_join(p->pager, NULL);
}
