// SPDX-License-Identifier: GPL-2.0
/*
 * Random calls on the VM's, a vCPU's and userfault file descriptors from several
 * threads, beside a guest that checks its pages all the time.
 *
 * Nothing that these threads do can change what a page contains, so the guest's
 * check holds throughout; and whatever they did, the VM must work afterwards.
 *
 * With -f, and a kernel that has fault injection, allocations and copies from
 * and to userspace fail at random in these threads.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "kvm_util.h"
#include "test_util.h"
#include "userfault_server.h"

#define NPAGES		128
#define NR_THREADS	4
#define NR_FDS		6
#define EXTRA_SLOT	20
#define EXTRA_GPA	0x140000000ul
#define EXTRA_PAGES	64

static struct userfault_paging p;
static struct kvm_vcpu *idle_vcpu;
static bool stop, with_failures;
static int fds[NR_FDS];
/* What KVM is given as bitmap; the others use p.s->bitmap, which is the same. */
static u8 *kvm_map;
/* Two pages, one of them PROT_NONE, one read-only, two again. */
static u8 *buffer;
#define BUFFER_SIZE	(6 * 4096ul)
static u8 *extra_mem;
static u64 calls[NR_THREADS];
/* Of CREATE_FD. */
static u64 no_memory;
static bool poison_hit;

struct fuzzer {
	pthread_t thread;
	int id;
	u64 random;
};

static struct fuzzer fuzzers[NR_THREADS];

static u64 rnd(struct fuzzer *f)
{
	return userfault_random(&f->random) >> 16;
}

static bool one_in(struct fuzzer *f, u64 n)
{
	return rnd(f) % n == 0;
}

/* Mostly numbers that are near to something. */
static u64 number(struct fuzzer *f)
{
	static const u64 some[] = {
		0, 1, 2, 63, 64, 4095, 4096, 4097, 1ull << 21, 1ull << 31, 1ull << 32,
		1ull << 47, 1ull << 52, 1ull << 63, -1ull, -4096ull, -64ull,
		USERFAULT_PAGING_GPA, EXTRA_GPA,
	};

	switch (rnd(f) % 4) {
	case 0:
		return some[rnd(f) % ARRAY_SIZE(some)];
	case 1:
		return some[rnd(f) % ARRAY_SIZE(some)] + rnd(f) % 16 - 8;
	case 2:
		return USERFAULT_PAGING_GPA + rnd(f) % NPAGES * 4096;
	default:
		return rnd(f) << (rnd(f) % 48);
	}
}

static void *address(struct fuzzer *f)
{
	switch (rnd(f) % 8) {
	case 0:
		return (void *)number(f);
	case 1:
		return buffer + rnd(f) % BUFFER_SIZE;
	default:
		return buffer + rnd(f) % 6 * 4096 + rnd(f) % 65 * 64;
	}
}

static void range(struct fuzzer *f, struct kvm_userfault_range *r)
{
	u64 page = rnd(f) % NPAGES;

	*r = (struct kvm_userfault_range) {
		.gpa = USERFAULT_PAGING_GPA + page * 4096,
		.size = (1 + rnd(f) % (NPAGES - page)) * 4096,
		.as_id = KVM_USERFAULT_AS_ALL,
	};
	if (one_in(f, 4))
		r->as_id = one_in(f, 2) ? rnd(f) % 3 : number(f);
	if (one_in(f, 6))
		r->gpa = number(f);
	if (one_in(f, 6))
		r->size = number(f);
	if (one_in(f, 16))
		r->flags = one_in(f, 2) ? KVM_USERFAULT_WAKE_POISON : number(f);
	if (one_in(f, 16))
		((u64 *)r)[rnd(f) % (sizeof(*r) / 8)] = number(f);
}

static int any_fd(struct fuzzer *f)
{
	return __atomic_load_n(&fds[rnd(f) % NR_FDS], __ATOMIC_RELAXED);
}

static void put_fd(struct fuzzer *f, int fd)
{
	int old;

	if (fd < 0)
		return;
	old = __atomic_exchange_n(&fds[rnd(f) % NR_FDS], fd, __ATOMIC_RELAXED);
	if (old >= 0)
		close(old);
}

static void do_create(struct fuzzer *f)
{
	struct kvm_userfault_fd args = {
		.flags = rnd(f) % 32,
		.event_size = sizeof(struct kvm_userfault_event),
	};
	int fd;

	if (one_in(f, 8))
		((u32 *)&args)[rnd(f) % (sizeof(args) / 4)] = number(f);
	fd = ioctl(p.vm->fd, KVM_USERFAULT_CREATE_FD, one_in(f, 8) ? address(f) : &args);
	if (fd < 0) {
		if (errno == ENOMEM)
			__atomic_fetch_add(&no_memory, 1, __ATOMIC_RELAXED);
		return;
	}
	/* Who blocks in it sooner is woken by the next one with REPLACE. */
	fcntl(fd, F_SETFL, O_NONBLOCK);
	put_fd(f, fd);
}

static void do_vm_ioctl(struct fuzzer *f)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_USERFAULT_FEATURES,
		/* The guest has no machine checks. */
		.args[0] = (one_in(f, 4) ? number(f) : rnd(f) % 32) &
			   ~KVM_USERFAULT_FEATURE_POISON_INJECT,
	};
	struct kvm_userspace_memory_region2 region = {
		.slot = EXTRA_SLOT,
		.flags = one_in(f, 2) ? KVM_MEM_USERFAULT : 0,
		.guest_phys_addr = EXTRA_GPA,
		.memory_size = one_in(f, 4) ? 0 : EXTRA_PAGES * 4096,
		.userspace_addr = (uintptr_t)extra_mem,
		.userfault_bitmap = one_in(f, 2) ? (uintptr_t)address(f) :
						   (uintptr_t)kvm_map,
	};
	struct kvm_userfault_range r;
	u32 nr;

	switch (rnd(f) % 5) {
	case 0:
		if (one_in(f, 8))
			((u64 *)&cap)[1 + rnd(f) % 12] = number(f);
		ioctl(p.vm->fd, KVM_ENABLE_CAP, &cap);
		ioctl(p.vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_USERFAULT + rnd(f) % 3);
		break;
	case 1:
		if (one_in(f, 3))
			region.flags |= 1u << (rnd(f) % 16);
		ioctl(p.vm->fd, one_in(f, 8) ? KVM_SET_USER_MEMORY_REGION :
					       KVM_SET_USER_MEMORY_REGION2, &region);
		break;
	case 2:
		/* Any of our numbers, with any size and direction. */
		nr = 0xf0 + rnd(f) % 16;
		range(f, &r);
		if (nr != _IOC_NR(KVM_USERFAULT_CREATE_FD))
			ioctl(p.vm->fd, _IOC(rnd(f) % 4, KVMIO, nr, rnd(f) % 160), &r);
		break;
	default:
		range(f, &r);
		ioctl(p.vm->fd, KVM_USERFAULT_RESCAN, one_in(f, 8) ? address(f) : &r);
	}
}

/* Memory stays as it is, and who finds a page poisoned clears them all: on_exit_fuzz(). */
static void do_poison(struct fuzzer *f)
{
	struct kvm_userfault_poison_list list = {
		.gpa = one_in(f, 4) ? number(f) : 0,
		.size = one_in(f, 4) ? number(f) : -4096ull,
		.ranges = (uintptr_t)address(f),
		.nr = rnd(f) % 8,
	};
	struct kvm_userfault_range r;

	if (one_in(f, 4)) {
		ioctl(p.vm->fd, KVM_USERFAULT_GET_POISON, one_in(f, 8) ? address(f) : &list);
		return;
	}
	range(f, &r);
	if (one_in(f, 2))
		r.size = 4096;
	if (!one_in(f, 4))
		r.as_id = 0;
	if (!one_in(f, 8))
		r.flags = one_in(f, 2) ? KVM_USERFAULT_POISON_SET : KVM_USERFAULT_POISON_CLEAR;
	ioctl(p.vm->fd, KVM_USERFAULT_POISON, one_in(f, 8) ? address(f) : &r);
}

static void do_vcpu_ioctl(struct fuzzer *f)
{
	struct kvm_pre_fault_memory pre = {
		.gpa = USERFAULT_PAGING_GPA + rnd(f) % NPAGES * 4096,
		.size = rnd(f) % 16 * 4096,
	};
	struct kvm_userfault_range r;

	range(f, &r);
	/* Without signals this may never end: see prod(). */
	if (!with_failures && one_in(f, 2))
		ioctl(idle_vcpu->fd, KVM_PRE_FAULT_MEMORY, &pre);
	else
		ioctl(idle_vcpu->fd, _IOC(rnd(f) % 4, KVMIO, 0xf0 + rnd(f) % 16,
					  sizeof(r)), &r);
}

static void do_fd(struct fuzzer *f)
{
	struct kvm_userfault_range r;
	struct pollfd pfd = { .fd = any_fd(f), .events = rnd(f) };
	int fd = any_fd(f);

	switch (rnd(f) % 10) {
	case 0:
	case 1:
		range(f, &r);
		ioctl(fd, KVM_USERFAULT_WAKE, one_in(f, 8) ? address(f) : &r);
		break;
	case 2:
		ioctl(fd, KVM_USERFAULT_REPLAY, one_in(f, 8) ? number(f) : 0);
		break;
	case 3:
		poll(&pfd, 1, rnd(f) % 3);
		break;
	case 4:
		put_fd(f, dup(fd));
		break;
	case 5:
		fd = __atomic_exchange_n(&fds[rnd(f) % NR_FDS], -1, __ATOMIC_RELAXED);
		if (fd >= 0)
			close(fd);
		break;
	case 6:
		range(f, &r);
		ioctl(fd, _IOC(rnd(f) % 4, KVMIO, 0xf0 + rnd(f) % 16, rnd(f) % 160), &r);
		break;
	default:
		if (read(fd, address(f), one_in(f, 8) ? number(f) : rnd(f) % 10 * 64) < 0 &&
		    errno == EBADF)
			sched_yield();
	}
}

/* The bitmap that KVM reads goes and comes back, as the same memory. */
static void do_map(struct fuzzer *f)
{
	if (one_in(f, 2)) {
		mprotect(kvm_map, 4096, PROT_NONE);
		sched_yield();
		mprotect(kvm_map, 4096, PROT_READ);
	} else {
		munmap(kvm_map, 4096);
		sched_yield();
		/* With failures, until it works. */
		while (mmap(kvm_map, 4096, PROT_READ, MAP_SHARED | MAP_FIXED,
			    p.s->bitmap_fd, 0) != kvm_map)
			;
	}
}

static void fail_here(bool on)
{
	int fd = open("/proc/thread-self/make-it-fail", O_WRONLY);

	if (fd < 0)
		return;
	if (write(fd, on ? "1" : "0", 1) != 1)
		pr_info("no failures in this thread\n");
	close(fd);
}

static void *fuzz(void *arg)
{
	struct fuzzer *f = arg;

	if (with_failures)
		fail_here(true);
	while (!READ_ONCE(stop)) {
		switch (rnd(f) % 16) {
		case 0:
		case 1:
			do_create(f);
			break;
		case 2:
		case 3:
		case 4:
			do_vm_ioctl(f);
			break;
		case 5:
			do_vcpu_ioctl(f);
			break;
		case 7:
			do_poison(f);
			break;
		case 6:
			/* One thread: what another one has unmapped is nobody's. */
			if (!f->id)
				do_map(f);
			break;
		default:
			do_fd(f);
		}
		calls[f->id]++;
	}
	if (with_failures)
		fail_here(false);
	return NULL;
}

/*
 * Signals for all of them.  Besides being a case of its own: KVM_PRE_FAULT_MEMORY
 * never ends, up to a signal, when a memslot is deleted meanwhile.  It goes on
 * trying with a root that is obsolete, and with kvm->srcu held.
 *
 * Not with failures: a signal whose frame cannot be written is a SIGSEGV.
 */
static void prod(void)
{
	int i;

	if (with_failures)
		return;

	for (i = 0; i < NR_THREADS; i++)
		pthread_kill(fuzzers[i].thread, SIGUSR1);
}

/* Who reads events does not act on them, so this one fills, and wakes. */
static void *janitor(void *arg)
{
	struct userfault_server server = { .s = p.s, .c = p.c };
	struct kvm_userfault_range all = {
		.size = 1ull << 52, .as_id = KVM_USERFAULT_AS_ALL,
	};
	int i, fd, round = 0;
	u64 page;

	while (!READ_ONCE(stop)) {
		for (page = 0; page < NPAGES; page++)
			userfault_server_fill(&server, page);
		for (i = 0; i < NR_FDS; i++)
			ioctl(__atomic_load_n(&fds[i], __ATOMIC_RELAXED),
			      KVM_USERFAULT_WAKE, &all);
		/* Who waits for a successor, or for a file that nobody has any more. */
		if (round++ % 8 == 0) {
			fd = __userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU |
							 KVM_USERFAULT_FD_REPLACE |
							 KVM_USERFAULT_FD_NONBLOCK);
			if (fd >= 0) {
				ioctl(fd, KVM_USERFAULT_WAKE, &all);
				close(fd);
			}
		}
		if (round % 128 == 0)
			prod();
		usleep(2000);
	}
	return NULL;
}

static void clear_poison(void)
{
	struct kvm_userfault_range all = {
		.flags = KVM_USERFAULT_POISON_CLEAR | KVM_USERFAULT_POISON_ALL,
	};

	vm_ioctl(p.vm, KVM_USERFAULT_POISON, &all);
}

/* There may be nobody to wait for, or no bitmap. */
static void on_exit_fuzz(struct userfault_paging *paging, int id, int ret)
{
	if (ret == -1 && errno == EHWPOISON) {
		WRITE_ONCE(poison_hit, true);
		clear_poison();
		return;
	}
	TEST_ASSERT(ret == -1 && errno == EFAULT, "vCPU %d: %d (%s), exit reason %u (%s)",
		    id, ret, strerror(errno), p.vcpus[id]->run->exit_reason,
		    exit_reason_str(p.vcpus[id]->run->exit_reason));
	usleep(500);
}

/* Drops the page's mapping also where RESCAN finds no bitmap. */
static void take_away(struct userfault_paging *paging, u64 page)
{
	struct kvm_userfault_range r = {
		.gpa = userfault_gpa(p.s, page), .size = 4096,
	};
	int ret = ioctl(p.vm->fd, KVM_USERFAULT_RESCAN, &r);

	TEST_ASSERT(!ret || errno == EFAULT, "RESCAN: %s", strerror(errno));
	memset(userfault_alias(p.s, page), 0xee, 4096);
}

static bool put(const char *dir, const char *name, const char *value)
{
	char path[128];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", dir, name);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return false;
	ok = write(fd, value, strlen(value)) == (ssize_t)strlen(value);
	close(fd);
	return ok;
}

static void setup_failures(void)
{
	static const char * const kinds[] = { "failslab", "fail_usercopy" };
	int i;

	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	TEST_REQUIRE(!access("/proc/thread-self/make-it-fail", W_OK));
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		/* Nothing but the threads that want it, before anything else. */
		TEST_ASSERT(put(kinds[i], "task-filter", "Y") &&
			    put(kinds[i], "verbose", "0") &&
			    put(kinds[i], "times", "-1") &&
			    put(kinds[i], "probability", "5"), "%s: %s", kinds[i],
			    strerror(errno));
	}
	put("failslab", "ignore-gfp-wait", "N");
}

static void setup(void)
{
	int i;

	userfault_paging_create(&p, 2, NPAGES, USERFAULT_SHMEM, KVM_MEM_USERFAULT);
	vm_enable_cap(p.vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_POISON);
	p.on_exit = on_exit_fuzz;
	p.take_away = take_away;
	kvm_map = kvm_mmap(4096, PROT_READ, MAP_SHARED, p.s->bitmap_fd);
	userfault_slot_update(p.s, KVM_MEM_USERFAULT, (u64 *)kvm_map);
	idle_vcpu = __vm_vcpu_add(p.vm, 5);

	buffer = kvm_mmap(BUFFER_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1);
	TEST_ASSERT(!mprotect(buffer + 2 * 4096, 4096, PROT_NONE) &&
		    !mprotect(buffer + 3 * 4096, 4096, PROT_READ), "mprotect");
	extra_mem = kvm_mmap(EXTRA_PAGES * 4096, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);
	for (i = 0; i < NR_FDS; i++)
		fds[i] = -1;
}

static void *serve(void *arg)
{
	userfault_server_run(arg);
	return NULL;
}

/* Every page once more, served as usual. */
static void final_round(void)
{
	struct userfault_server server = { .s = p.s, .c = p.c };
	pthread_t thread;
	u64 page, out;

	clear_poison();
	server.fd = userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU |
					      KVM_USERFAULT_FD_REPLACE);
	kvm_pthread_create(&thread, NULL, serve, &server);
	userfault_paging_reenter(&p);
	p.on_exit = NULL;
	p.take_away = NULL;
	out = p.paged_out;
	for (page = 0; page < NPAGES; page++)
		userfault_paging_page_out(&p, page);
	TEST_ASSERT(p.paged_out > out, "Nothing was there");
	userfault_paging_advance(&p, 4 * NPAGES);
	userfault_paging_stop(&p);
	userfault_paging_destroy(&p);
	kvm_pthread_join(thread, NULL);
	close(server.fd);
}

int main(int argc, char **argv)
{
	u64 seed = 20261121, total = 0;
	struct timespec ts;
	pthread_t cleaner;
	int opt, i, fd, seconds = 10;
	time_t until;

	while ((opt = getopt(argc, argv, "t:s:f")) != -1) {
		if (opt == 't') {
			seconds = atoi_positive("seconds", optarg);
		} else if (opt == 's') {
			seed = strtoull(optarg, NULL, 0);
		} else if (opt == 'f') {
			with_failures = true;
		} else {
			printf("usage: %s [-t seconds] [-s seed] [-f]\n", argv[0]);
			return 1;
		}
	}
	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_USERFAULT_FEATURES) &
		     KVM_USERFAULT_FEATURE_FD);
	pr_info("seed %lu\n", seed);
	if (with_failures)
		setup_failures();

	setup();
	userfault_paging_start(&p);
	userfault_pager_start(&p, 1000);
	for (i = 0; i < NR_THREADS; i++) {
		fuzzers[i] = (struct fuzzer) {
			.id = i,
			.random = (seed + i + 1) * 0x9e3779b97f4a7c15ull | 1,
		};
		kvm_pthread_create(&fuzzers[i].thread, NULL, fuzz, &fuzzers[i]);
	}
	kvm_pthread_create(&cleaner, NULL, janitor, NULL);

	clock_gettime(CLOCK_MONOTONIC, &ts);
	until = ts.tv_sec + seconds;
	while (ts.tv_sec < until) {
		userfault_paging_advance(&p, 5);
		clock_gettime(CLOCK_MONOTONIC, &ts);
	}

	WRITE_ONCE(stop, true);
	kvm_pthread_join(cleaner, NULL);
	/* For who blocks in a read. */
	fd = userfault_fd_create(p.vm, KVM_USERFAULT_FD_REPLACE);
	for (i = 0; i < NR_THREADS; i++) {
		int tries = 0;

		while (pthread_tryjoin_np(fuzzers[i].thread, NULL)) {
			TEST_ASSERT(tries++ < 6000, "Thread %d hangs", i);
			if (!with_failures)
				pthread_kill(fuzzers[i].thread, SIGUSR1);
			usleep(10000);
		}
		total += calls[i];
	}
	for (i = 0; i < NR_FDS; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	userfault_pager_stop(&p);
	pr_info("%lu calls, %lu and %lu pages checked, %lu paged out\n", total,
		p.c->checked[0], p.c->checked[1], p.paged_out);
	TEST_ASSERT(poison_hit, "Nobody has met poison");
	TEST_ASSERT(!!no_memory == with_failures, "CREATE_FD had no memory %lu times",
		    no_memory);
	/* The file above may have been replaced; this one takes over from all. */
	final_round();
	close(fd);
	return 0;
}
