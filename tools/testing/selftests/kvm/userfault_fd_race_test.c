// SPDX-License-Identifier: GPL-2.0
/*
 * The userfault file descriptor in races: waits that begin while the page comes,
 * readers, successors and memslots that come and go, and ends of all kinds.
 *
 * Nothing is asserted on how long something takes, only that it happens at all.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "userfault_server.h"

#define NPAGES		256

static int scale = 1;
static u64 seed = 1442695040888963407ull;

static u64 now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

/* Short, but not always the same; mostly without giving the CPU away. */
static void dawdle(void)
{
	u64 r = userfault_random(&seed) >> 20;
	u64 i, n = r % 4096;

	if (!(r & 0xf0000)) {
		usleep(r % 1500);
		return;
	}
	for (i = 0; i < n; i++)
		asm volatile("" ::: "memory");
}

#define TIMEOUT_US	(4000ull * USERFAULT_TIMEOUT_MS)

#define wait_for(condition)						\
do {									\
	u64 __started = now_us();					\
									\
	while (!(condition)) {						\
		TEST_ASSERT(now_us() - __started < TIMEOUT_US,		\
			    "This never comes: %s", #condition);	\
		usleep(200);						\
	}								\
} while (0)

/*
 * Fill absent pages without reading an event, so around the time that somebody
 * begins to wait, and call WAKE exactly once, or not WAKE but REPLAY.  If that
 * does not reach the waiter, it is there for ever, as nobody reads.
 */
static void test_lost_wakeup(bool replay)
{
	struct userfault_paging p;
	struct userfault_server server = {};
	u64 rounds, page;
	int fd;

	pr_info("%s against the beginning of a wait\n", replay ? "REPLAY" : "WAKE");

	userfault_paging_create(&p, 2, 4, USERFAULT_ANON, KVM_MEM_USERFAULT);
	server = (struct userfault_server) { .s = p.s, .c = p.c };
	fd = userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU);
	userfault_paging_start(&p);
	for (rounds = 0; rounds < 400 * scale; rounds++) {
		for (page = 0; page < 4; page++)
			userfault_paging_page_out(&p, page);
		dawdle();
		for (page = 0; page < 4; page++) {
			userfault_server_fill(&server, page);
			if (!replay)
				userfault_fd_wake(fd, userfault_gpa(p.s, page), PAGE_SIZE);
		}
		if (replay)
			userfault_fd_replay(fd);
		/* Now: the next round would wake them, too. */
		userfault_paging_advance(&p, 1);
	}
	userfault_paging_stop(&p);
	TEST_ASSERT(vcpu_get_stat(p.vcpus[0], userfault_waits), "nobody ever waited");
	pr_info("  %lu and %lu waits\n", vcpu_get_stat(p.vcpus[0], userfault_waits),
		vcpu_get_stat(p.vcpus[1], userfault_waits));
	close(fd);
	userfault_paging_destroy(&p);
}

static void *server_thread(void *arg)
{
	userfault_server_run(arg);
	return NULL;
}

/* Three readers for four vCPUs, and a pager. */
static void test_readers(enum userfault_backing backing)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct userfault_server server[3];
	pthread_t threads[ARRAY_SIZE(server)];
	struct userfault_paging p;
	int fd, i;

	pr_info("several readers: %s\n", userfault_backing_name(backing));

	userfault_paging_create(&p, 4, NPAGES, backing, KVM_MEM_USERFAULT);
	fd = userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU);
	for (i = 0; i < ARRAY_SIZE(server); i++) {
		server[i] = (struct userfault_server) {
			.fd = fd, .s = p.s, .c = p.c, .lock = &lock,
		};
		kvm_pthread_create(&threads[i], NULL, server_thread, &server[i]);
	}
	userfault_paging_start(&p);
	userfault_paging_advance(&p, NPAGES);
	userfault_pager_start(&p, 300);
	for (i = 0; i < 4 * scale; i++)
		userfault_paging_advance(&p, 100);
	wait_for(READ_ONCE(p.paged_out) >= 100 * scale);
	userfault_pager_stop(&p);
	userfault_paging_stop(&p);
	pr_info("  %u served, %lu paged out\n", p.c->served, p.paged_out);
	userfault_paging_destroy(&p);
	for (i = 0; i < ARRAY_SIZE(server); i++)
		kvm_pthread_join(threads[i], NULL);
	close(fd);
}

/* Pages of one huge mapping go, while vCPUs fault on its other ones. */
static void test_huge(void)
{
	const u64 npages = USERFAULT_PAGING_PAGES;
	struct userfault_server server;
	struct userfault_paging p;
	pthread_t thread;
	u64 i, page, huge = 0;
	int tries;
	int fd;

	if (!thp_configured())
		return;
	pr_info("RESCAN below a huge mapping\n");

	userfault_paging_create(&p, 4, npages, USERFAULT_ANON_THP, KVM_MEM_USERFAULT);
	fd = userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU);
	server = (struct userfault_server) { .fd = fd, .s = p.s, .c = p.c };
	for (page = 0; page < npages; page++)
		userfault_server_fill(&server, page);
	kvm_pthread_create(&thread, NULL, server_thread, &server);
	userfault_paging_start(&p);
	for (i = 0; i < 15 * scale; i++) {
		/* Who faults on the last of them may map all of it again. */
		for (page = 0; page < 3; page++) {
			userfault_paging_page_out(&p, (userfault_random(&seed) >> 20) % npages);
			dawdle();
		}
		wait_for(!userfault_count_bits(p.s));
		/*
		 * Unless a fault was under way that had found one of the others
		 * absent: it makes the mapping small again, and nobody faults.
		 */
		for (tries = 0; tries < 50 && !vm_get_stat(p.vm, pages_2m); tries++)
			usleep(10000);
		huge += !!vm_get_stat(p.vm, pages_2m);
	}
	pr_info("  huge again %lu times of %lu\n", huge, i);
	if (kvm_is_tdp_enabled())
		TEST_ASSERT(huge, "There never was a huge mapping");
	userfault_paging_advance(&p, 20);
	userfault_paging_stop(&p);
	userfault_paging_destroy(&p);
	kvm_pthread_join(thread, NULL);
	close(fd);
}

#define NR_WAITERS	4

/* A reader that only notes what it is told. */
struct noter {
	pthread_t thread;
	int fd;
	u32 *told;			/* by page, for this fd */
	bool replaced;			/* REPLACE has returned */
};

static void *noter_thread(void *arg)
{
	struct kvm_userfault_event events[2];
	struct noter *n = arg;
	ssize_t size, i;
	bool late;

	for (;;) {
		late = __atomic_load_n(&n->replaced, __ATOMIC_SEQ_CST);
		size = read(n->fd, events, sizeof(events));
		TEST_ASSERT(size >= 0, "read: %s", strerror(errno));
		if (!size)
			return NULL;
		TEST_ASSERT(!late, "A file that was replaced gives an event");
		for (i = 0; i < size / (ssize_t)sizeof(events[0]); i++)
			__atomic_fetch_add(&n->told[(events[i].gpa - USERFAULT_PAGING_GPA) /
						    PAGE_SIZE], 1, __ATOMIC_SEQ_CST);
	}
}

static int nr_told(const u32 *told)
{
	int page, nr = 0;

	for (page = 0; page < NPAGES; page++)
		nr += !!READ_ONCE(told[page]);
	return nr;
}

/*
 * REPLACE under readers: whatever the old ones have taken, the new file gives
 * each outstanding page; nothing is resolved in between, so these are known.
 */
static void test_replace(void)
{
	static u32 told[2][NPAGES];
	struct noter noters[2][2] = {};
	struct userfault_server server = {};
	struct userfault_paging p;
	int round, i, fd = -1, new;

	pr_info("REPLACE under readers\n");

	userfault_paging_create(&p, NR_WAITERS, NPAGES, USERFAULT_ANON, KVM_MEM_USERFAULT);
	server = (struct userfault_server) { .s = p.s, .c = p.c };
	for (round = 0; round < 150 * scale; round++) {
		struct noter *n = noters[round % 2], *old = noters[!(round % 2)];

		memset(told[round % 2], 0, sizeof(told[0]));
		new = userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU |
						KVM_USERFAULT_FD_REPLACE);
		for (i = 0; round && i < 2; i++)
			__atomic_store_n(&old[i].replaced, true, __ATOMIC_SEQ_CST);
		for (i = 0; i < 2; i++) {
			n[i] = (struct noter) { .fd = new, .told = told[round % 2] };
			kvm_pthread_create(&n[i].thread, NULL, noter_thread, &n[i]);
		}
		for (i = 0; round && i < 2; i++)
			kvm_pthread_join(old[i].thread, NULL);
		if (fd >= 0)
			close(fd);
		fd = new;
		if (!round) {
			userfault_paging_start(&p);
			wait_for(nr_told(told[0]) == NR_WAITERS);
		}

		/* At times let them all be told, at times be in between. */
		if (round % 3 == 0)
			wait_for(nr_told(told[round % 2]) == NR_WAITERS);
		else
			dawdle();
	}
	round--;
	wait_for(nr_told(told[round % 2]) == NR_WAITERS);

	/* Everything is filled: the bits are clear before the vCPUs look again. */
	for (i = 0; i < NPAGES; i++)
		userfault_server_fill(&server, i);
	userfault_fd_wake(fd, 0, 1ull << 52);
	userfault_paging_advance(&p, 10);
	userfault_paging_stop(&p);
	userfault_paging_destroy(&p);
	for (i = 0; i < 2; i++)
		kvm_pthread_join(noters[round % 2][i].thread, NULL);
	close(fd);
}

static void *block_in_read(void *arg)
{
	struct kvm_userfault_event event;
	int fd = *(int *)arg;
	ssize_t n;

	while ((n = read(fd, &event, sizeof(event))) == sizeof(event))
		;
	TEST_ASSERT(!n, "read: %s", strerror(errno));
	return NULL;
}

static void *block_in_poll(void *arg)
{
	struct pollfd pfd = { .fd = *(int *)arg, .events = POLLIN };

	do {
		TEST_ASSERT(poll(&pfd, 1, -1) == 1, "poll");
	} while (!(pfd.revents & POLLHUP));
	return NULL;
}

static void *wake_all_the_time(void *arg)
{
	int r;

	while (!(r = __userfault_fd_wake(*(int *)arg, 0, 1ull << 52, KVM_USERFAULT_AS_ALL)))
		;
	TEST_ASSERT(errno == EPIPE, "WAKE: %s", strerror(errno));
	return NULL;
}

static void *replay_all_the_time(void *arg)
{
	int r;

	while (!(r = ioctl(*(int *)arg, KVM_USERFAULT_REPLAY, 0)))
		;
	TEST_ASSERT(errno == EPIPE, "REPLAY: %s", strerror(errno));
	return NULL;
}

/* The VM goes while its fd is in use in every way. */
static void test_vm_gone(void)
{
	void *(*const users[])(void *) = {
		block_in_read, block_in_read, block_in_poll, wake_all_the_time,
		replay_all_the_time,
	};
	pthread_t threads[ARRAY_SIZE(users)];
	struct userfault_runner runner;
	struct userfault_paging p;
	int round, i, fd;

	pr_info("the VM goes\n");

	for (round = 0; round < 10 * scale; round++) {
		userfault_paging_create(&p, 1, NPAGES, USERFAULT_ANON, KVM_MEM_USERFAULT);
		fd = userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU);
		/* With a vCPU that waits until right before the end. */
		userfault_runner_start(&runner, p.vcpus[0]);
		for (i = 0; i < ARRAY_SIZE(users); i++)
			kvm_pthread_create(&threads[i], NULL, users[i], &fd);
		wait_for(vcpu_get_stat(p.vcpus[0], userfault_waits) > 0);
		userfault_runner_kick(&runner);
		userfault_runner_join(&runner);
		TEST_ASSERT(runner.ret == -1 && runner.error == EINTR, "KVM_RUN: %d (%s)",
			    runner.ret, strerror(runner.error));
		userfault_paging_destroy(&p);
		for (i = 0; i < ARRAY_SIZE(users); i++)
			kvm_pthread_join(threads[i], NULL);
		close(fd);
	}
}

/* The VMM, in the child: it waits for ever. */
static void vmm_child(int sock)
{
	struct userfault_paging p;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	userfault_paging_create(&p, 2, NPAGES, USERFAULT_ANON, KVM_MEM_USERFAULT);
	fd = userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_STALL);
	userfault_send_fds(sock, "", 1, &fd, 1);
	userfault_paging_start(&p);
	pause();
	exit(1);
}

/* The VMM is killed with a vCPU waiting; the fd is elsewhere. */
static void test_vmm_killed(void)
{
	struct kvm_userfault_event event;
	struct pollfd pfd = { .events = POLLIN };
	int round, sock[2], fd;
	char byte;
	pid_t pid;

	pr_info("the VMM is killed\n");

	for (round = 0; round < 5 * scale; round++) {
		TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock),
			    "socketpair");
		pid = fork();
		TEST_ASSERT(pid >= 0, "fork");
		if (!pid) {
			close(sock[0]);
			vmm_child(sock[1]);
		}
		close(sock[1]);
		TEST_ASSERT(userfault_recv_fds(sock[0], &byte, 1, &fd, 1) == 1, "no fd");
		event = userfault_fd_read(fd);
		if (round % 2)
			event = userfault_fd_read(fd);
		kill(pid, SIGKILL);
		userfault_server_reap(pid);

		/* A second vCPU's event may still have been there. */
		pfd.fd = fd;
		wait_for(poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLHUP));
		TEST_ASSERT_EQ(pfd.revents, POLLIN | POLLHUP);
		TEST_ASSERT_EQ(read(fd, &event, sizeof(event)), 0);
		TEST_ASSERT(__userfault_fd_wake(fd, 0, PAGE_SIZE, 0) == -1 && errno == EPIPE,
			    "WAKE of a VM that is gone");
		close(fd);
		close(sock[0]);
	}
}

/* Two vCPUs meet at one page, one reading, one writing, over and over. */
static void test_one_page(void)
{
	pthread_t thread;
	struct userfault_paging p;
	struct userfault_server server;
	int fd;

	pr_info("one page\n");

	userfault_paging_create(&p, 2, 1, USERFAULT_SHMEM, KVM_MEM_USERFAULT);
	fd = userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU);
	server = (struct userfault_server) { .fd = fd, .s = p.s, .c = p.c };
	kvm_pthread_create(&thread, NULL, server_thread, &server);
	userfault_paging_start(&p);
	userfault_pager_start(&p, 200);
	wait_for(READ_ONCE(p.paged_out) >= 200 * scale);
	userfault_paging_advance(&p, 20);
	userfault_pager_stop(&p);
	userfault_paging_stop(&p);
	userfault_paging_destroy(&p);
	kvm_pthread_join(thread, NULL);
	close(fd);
}

/* A page is not in any memslot for a while: what the guest would read there. */
static void on_exit_mmio(struct userfault_paging *p, int id, int ret)
{
	struct kvm_run *run = p->vcpus[id]->run;
	u64 word, page;

	TEST_ASSERT(!ret && run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write &&
		    run->mmio.len == 8, "vCPU %d: %d (%s), exit reason %u", id, ret,
		    strerror(errno), run->exit_reason);
	page = userfault_page_of(p->s, run->mmio.phys_addr);
	word = userfault_pattern_word(userfault_gfn(p->s, page), 0,
				      run->mmio.phys_addr % PAGE_SIZE / 8);
	memcpy(run->mmio.data, &word, sizeof(word));
}

/* The memslot changes in every way while vCPUs wait for its pages. */
static void test_memslots(void)
{
	struct userfault_server server = {};
	struct userfault_paging p;
	pthread_t thread;
	u64 page;
	int i, fd;

	pr_info("memslots come and go\n");

	userfault_paging_create(&p, 2, NPAGES, USERFAULT_SHMEM, KVM_MEM_USERFAULT);
	p.on_exit = on_exit_mmio;
	p.c->reads_only = 1;
	/* Without the flag the page has to be there, too. */
	for (page = 0; page < NPAGES; page++)
		userfault_fill(p.s, page, 0);
	fd = userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU);
	server = (struct userfault_server) { .fd = fd, .s = p.s, .c = p.c };
	userfault_paging_start(&p);
	for (i = 0; i < 60 * scale; i++) {
		/* Nobody serves yet: only these changes let the vCPUs go on. */
		userfault_set_all(p.s);
		userfault_disarm(p.s);
		userfault_arm(p.s);
		dawdle();
		if (i % 3 == 0) {
			userfault_disarm(p.s);
		} else if (i % 3 == 1) {
			p.s->region.memory_size = 0;
			TEST_ASSERT(!__userfault_slot_set(p.s), "delete");
		} else {
			userfault_slot_update(p.s, KVM_MEM_LOG_DIRTY_PAGES, NULL);
		}
		userfault_paging_advance(&p, 1);
		p.s->region.memory_size = NPAGES * PAGE_SIZE;
		userfault_slot_update(p.s, KVM_MEM_USERFAULT, p.s->bitmap);
	}
	/* And now somebody does. */
	kvm_pthread_create(&thread, NULL, server_thread, &server);
	userfault_fd_replay(fd);
	userfault_paging_advance(&p, NPAGES);
	userfault_paging_stop(&p);
	userfault_paging_destroy(&p);
	kvm_pthread_join(thread, NULL);
	close(fd);
}

static int compare(const void *a, const void *b)
{
	return *(const u64 *)a > *(const u64 *)b ? 1 : -1;
}

/* A signal, with immediate_exit set or not, ends the wait within 5 s. */
static void test_kick(bool immediate_exit)
{
	u64 us[30], started;
	struct userfault_runner runner;
	struct userfault_paging p;
	int fd, i;

	userfault_paging_create(&p, 1, NPAGES, USERFAULT_ANON, KVM_MEM_USERFAULT);
	fd = userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU);
	for (i = 0; i < ARRAY_SIZE(us); i++) {
		u64 waits = vcpu_get_stat(p.vcpus[0], userfault_waits);

		userfault_runner_start(&runner, p.vcpus[0]);
		wait_for(vcpu_get_stat(p.vcpus[0], userfault_waits) > waits);
		if (i % 2)
			usleep(2000);
		started = now_us();
		p.vcpus[0]->run->immediate_exit = immediate_exit;
		userfault_runner_kick(&runner);
		userfault_runner_join(&runner);
		us[i] = now_us() - started;
		p.vcpus[0]->run->immediate_exit = 0;
		TEST_ASSERT(runner.ret == -1 && runner.error == EINTR &&
			    p.vcpus[0]->run->exit_reason == KVM_EXIT_INTR,
			    "KVM_RUN: %d (%s)", runner.ret, strerror(runner.error));
		TEST_ASSERT(us[i] < 5000000, "%lu us until KVM_RUN returned", us[i]);
	}
	qsort(us, ARRAY_SIZE(us), sizeof(us[0]), compare);
	pr_info("DATA kick immediate_exit=%d median_us=%lu max_us=%lu\n", immediate_exit,
		us[ARRAY_SIZE(us) / 2], us[ARRAY_SIZE(us) - 1]);
	close(fd);
	userfault_paging_destroy(&p);
}

int main(int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "n:s:")) != -1) {
		if (opt == 'n') {
			scale = atoi_positive("times as many rounds", optarg);
		} else if (opt == 's') {
			seed = strtoull(optarg, NULL, 0) ?: 1;
		} else {
			printf("usage: %s [-n times as many rounds] [-s seed]\n", argv[0]);
			return 1;
		}
	}
	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_USERFAULT_FEATURES) &
		     KVM_USERFAULT_FEATURE_FD);
	pr_info("seed %lu\n", seed);

	test_lost_wakeup(false);
	test_lost_wakeup(true);
	test_one_page();
	test_readers(USERFAULT_GMEM);
	test_readers(USERFAULT_SHMEM);
	test_huge();
	test_replace();
	test_memslots();
	test_vm_gone();
	test_vmm_killed();
	test_kick(false);
	test_kick(true);
	return 0;
}
