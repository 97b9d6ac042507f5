// SPDX-License-Identifier: GPL-2.0
/*
 * A handler in another process, and what becomes of the guest when it dies.
 *
 * The handler has the userfault fd, the memory, the bitmap and the generations by
 * SCM_RIGHTS and nothing else.  It is killed between any two of its steps, with
 * and without a dup of the fd elsewhere; whatever comes next, no vCPU may see
 * a page that was not filled, and none may hang.
 *
 * With -u the same is done to a userfaultfd, for comparison.  There is no right
 * or wrong in that: what happens is printed, beside what userfault does.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kvm_util.h"
#include "test_util.h"
#include "userfault_server.h"

#define NPAGES		384
#define NR_VCPUS	2

static u64 seed = 88172645463325252ull;

/* Nothing dies: all pages are checked, and paged out, many times. */
static void test_other_process(enum userfault_backing backing)
{
	struct userfault_paging p;
	int fd, status;
	pid_t pid;

	pr_info("another process: %s\n", userfault_backing_name(backing));

	userfault_paging_create(&p, NR_VCPUS, NPAGES, backing, KVM_MEM_USERFAULT);
	fd = userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU);
	pid = userfault_server_spawn(&p, fd, false, USERFAULT_STEP_NEVER, 0);
	userfault_paging_start(&p);
	userfault_pager_start(&p, 1000);
	userfault_paging_advance(&p, 2 * NPAGES);
	while (READ_ONCE(p.paged_out) < NPAGES)
		userfault_paging_advance(&p, 10);
	userfault_pager_stop(&p);
	userfault_paging_stop(&p);
	pr_info("  %lu and %lu pages checked, %lu paged out, %u served\n",
		p.c->checked[0], p.c->checked[1], p.paged_out, p.c->served);
	/* What was paged out is back, or still absent: nothing else served it. */
	TEST_ASSERT(p.c->served >= p.paged_out, "served");

	/* End of file for a handler whose fd was replaced. */
	close(fd);
	fd = userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_REPLACE);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && !status, "status 0x%x", status);
	close(fd);
	userfault_paging_destroy(&p);
}

/* Who keeps the fd alive when the handler dies, and what if nobody does. */
enum variant { EXITS, STALLS, DUP_REPLACE, DUP_REPLAY, NR_VARIANTS };

static const char * const variant_names[] = {
	[EXITS] = "none", [STALLS] = "none,STALL", [DUP_REPLACE] = "dup,REPLACE",
	[DUP_REPLAY] = "dup,REPLAY",
};

enum policy {
	FORBIDDEN,			/* there is somebody else to serve */
	SERVE,				/* nobody else: the vCPU's thread does it */
	HOLD,				/* a successor is coming */
};

struct orphans {
	pthread_mutex_t lock;
	enum policy policy;
	u64 exits, served;
	struct userfault_server server;	/* the VMM itself */
};

struct outcome {
	u64 rounds, exits, served, held, stuck, zeroes, wrong;
};

static void on_exit_orphan(struct userfault_paging *p, int id, int ret)
{
	struct kvm_vcpu *vcpu = p->vcpus[id];
	struct orphans *o = p->data;
	bool stale;

	TEST_ASSERT(__userfault_is_exit(vcpu, ret), "vCPU %d: %d (%s), exit reason %u", id,
		    ret, strerror(errno), vcpu->run->exit_reason);
	pthread_mutex_lock(&o->lock);
	/* It entered when there was no successor yet. */
	stale = p->entered[id] != __atomic_load_n(&p->epoch, __ATOMIC_SEQ_CST);
	o->exits++;
	TEST_ASSERT(stale || o->policy != FORBIDDEN,
		    "vCPU %d exits, though there is a handler", id);
	if (o->policy == SERVE) {
		userfault_server_fill(&o->server,
				      userfault_page_of(p->s, vcpu->run->memory_fault.gpa));
		o->served++;
	}
	pthread_mutex_unlock(&o->lock);
	if (!stale && o->policy == HOLD)
		usleep(1000);
}

static void set_policy(struct orphans *o, enum policy policy)
{
	pthread_mutex_lock(&o->lock);
	o->policy = policy;
	pthread_mutex_unlock(&o->lock);
}

static bool handler_ended(pid_t pid)
{
	siginfo_t info = {};

	TEST_ASSERT(!waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT), "waitid");
	return info.si_pid == pid;
}

/* Let it run into its step, or kill it, and bury it. */
static void wait_for_death(struct userfault_paging *p, pid_t pid,
			   enum userfault_step die_at)
{
	time_t started = time(NULL);

	if (die_at == USERFAULT_STEP_RANDOM) {
		usleep((userfault_random(&seed) >> 20) % 30000);
		kill(pid, SIGKILL);
	} else {
		while (!handler_ended(pid)) {
			if (READ_ONCE(p->c->waking)) {
				usleep((userfault_random(&seed) >> 20) % 5000);
				kill(pid, SIGKILL);
				break;
			}
			userfault_paging_assert_right(p);
			TEST_ASSERT(time(NULL) - started < 120,
				    "The handler gets nothing to do (step %s)",
				    userfault_step_name(die_at));
			usleep(500);
		}
	}
	userfault_server_reap(pid);
}

/* The handler is dead.  What the vCPUs do now has to fit the variant. */
static void orphaned(struct userfault_paging *p, enum variant variant, int fd,
		     struct outcome *out)
{
	struct orphans *o = p->data;
	u64 exits = READ_ONCE(o->exits);
	time_t started = time(NULL);

	if (variant == EXITS) {
		while (READ_ONCE(o->exits) == exits) {
			TEST_ASSERT(time(NULL) - started < 120,
				    "Nobody serves, and no vCPU exits");
			userfault_paging_assert_right(p);
			usleep(500);
		}
		/* They can go on for as long as they like. */
		if (o->policy == SERVE)
			userfault_paging_advance(p, 20);
		return;
	}

	if (variant == DUP_REPLACE)
		TEST_ASSERT(__userfault_fd_create(p->vm, KVM_USERFAULT_FD_VCPU) == -1 &&
			    errno == EBUSY, "two live fds");
	usleep((userfault_random(&seed) >> 20) % 20000);
	out->held++;
	userfault_paging_assert_right(p);
}

/* The userfault fd: rounds of spawn, die, and a successor. */
static void test_deaths(enum userfault_backing backing, int rounds,
			struct outcome outcomes[])
{
	struct orphans o = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct userfault_paging p;
	enum variant variant;
	int fd, last = -1;
	int i, status;
	pid_t pid;

	pr_info("killed handlers: %s, %d rounds, seed %lu\n",
		userfault_backing_name(backing), rounds, seed);

	userfault_paging_create(&p, NR_VCPUS, NPAGES, backing, KVM_MEM_USERFAULT);
	o.server = (struct userfault_server) { .s = p.s, .c = p.c };
	p.data = &o;
	p.on_exit = on_exit_orphan;

	for (i = 0; i < rounds; i++) {
		u32 flags = KVM_USERFAULT_FD_VCPU;
		enum userfault_step die_at;
		struct outcome *out;
		u64 exits;

		variant = i % NR_VARIANTS;
		die_at = USERFAULT_STEP_READ + i / NR_VARIANTS % (NR_USERFAULT_STEPS - 1);
		out = &outcomes[variant];

		/* The successor of the last one. */
		set_policy(&o, HOLD);
		if (variant == STALLS)
			flags |= KVM_USERFAULT_FD_STALL;
		if (last >= 0)
			flags |= KVM_USERFAULT_FD_REPLACE;
		fd = userfault_fd_create(p.vm, flags);
		if (last >= 0)
			close(last);
		last = -1;

		if (!i) {
			userfault_paging_start(&p);
			userfault_pager_start(&p, 1000);
		} else {
			userfault_paging_reenter(&p);
		}
		exits = READ_ONCE(o.exits);
		if (variant != EXITS)
			set_policy(&o, FORBIDDEN);
		else if (userfault_random(&seed) >> 63)
			set_policy(&o, SERVE);

		pid = userfault_server_spawn(&p, fd, false, die_at,
					     (userfault_random(&seed) >> 20) % 10);
		if (variant == EXITS || variant == STALLS)
			close(fd);
		else
			last = fd;
		wait_for_death(&p, pid, die_at);
		orphaned(&p, variant, fd, out);
		if (variant == DUP_REPLAY) {
			/* Another process goes on with the same file. */
			pid = userfault_server_spawn(&p, fd, false, USERFAULT_STEP_RANDOM, 0);
			userfault_fd_replay(fd);
			userfault_paging_advance(&p, 5);
			kill(pid, SIGKILL);
			userfault_server_reap(pid);
		}
		if (variant != EXITS)
			TEST_ASSERT_EQ(READ_ONCE(o.exits), exits);
		out->exits += READ_ONCE(o.exits) - exits;
		out->rounds++;
		userfault_paging_assert_right(&p);
	}

	/* The last one lives. */
	set_policy(&o, HOLD);
	fd = userfault_fd_create(p.vm, KVM_USERFAULT_FD_VCPU | KVM_USERFAULT_FD_REPLACE);
	if (last >= 0)
		close(last);
	userfault_paging_reenter(&p);
	set_policy(&o, FORBIDDEN);
	pid = userfault_server_spawn(&p, fd, false, USERFAULT_STEP_NEVER, 0);
	userfault_paging_advance(&p, NPAGES);
	userfault_pager_stop(&p);
	userfault_paging_stop(&p);
	pr_info("  %lu and %lu pages checked, %lu paged out, %u served by handlers, %lu by the VMM\n",
		p.c->checked[0], p.c->checked[1], p.paged_out, p.c->served, o.served);
	/*
	 * The VM goes, and with it the handler; not so if that holds a guest_memfd,
	 * which keeps the VM.
	 */
	userfault_paging_destroy(&p);
	if (backing == USERFAULT_GMEM) {
		kill(pid, SIGKILL);
		userfault_server_reap(pid);
	} else {
		TEST_ASSERT(waitpid(pid, &status, 0) == pid && !status,
			    "status 0x%x", status);
	}
	close(fd);
}

/* A missing page is only a hole to userfaultfd. */
static void punch(struct userfault_paging *p, u64 page)
{
	TEST_ASSERT(!fallocate(p->s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       page * p->s->page_size, p->s->page_size), "fallocate");
}

static int create_uffd(struct userfault_paging *p)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range.start = (uintptr_t)p->s->mem,
		.range.len = p->s->npages * p->s->page_size,
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC);

	TEST_ASSERT(fd >= 0, "userfaultfd: %s", strerror(errno));
	TEST_ASSERT(!ioctl(fd, UFFDIO_API, &api), "UFFDIO_API");
	TEST_ASSERT(!ioctl(fd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	return fd;
}

/* Do the vCPUs go on for themselves? */
static bool moves(struct userfault_paging *p, int ms)
{
	u64 from[NR_VCPUS];
	int i, moved = 0;

	for (i = 0; i < NR_VCPUS; i++)
		from[i] = READ_ONCE(p->c->checked[i]);
	for (; ms > 0 && moved < NR_VCPUS; ms -= 10) {
		usleep(10000);
		for (i = 0, moved = 0; i < NR_VCPUS; i++)
			moved += READ_ONCE(p->c->checked[i]) - from[i] > 3;
	}
	return moved == NR_VCPUS;
}

static void uffd_wake_all(struct userfault_paging *p, int fd)
{
	struct uffdio_range range = {
		.start = (uintptr_t)p->s->mem,
		.len = p->s->npages * p->s->page_size,
	};

	TEST_ASSERT(!ioctl(fd, UFFDIO_WAKE, &range), "UFFDIO_WAKE");
}

/* One handler of a userfaultfd dies, and another one gets what there is. */
static void uffd_round(enum userfault_step die_at, bool dup, struct outcome *out)
{
	struct userfault_paging p;
	u64 zeroes = 0, wrong = 0;
	pid_t pid;
	int fd, i;

	userfault_paging_create(&p, NR_VCPUS, NPAGES, USERFAULT_SHMEM, 0);
	userfault_set_all(p.s);
	p.take_away = punch;
	fd = create_uffd(&p);
	pid = userfault_server_spawn(&p, fd, true, die_at,
				     (userfault_random(&seed) >> 20) % 10);
	if (!dup)
		close(fd);
	userfault_paging_start(&p);

	if (die_at == USERFAULT_STEP_RANDOM) {
		usleep((userfault_random(&seed) >> 20) % 30000);
		kill(pid, SIGKILL);
	} else {
		/* What the guest sees is not asserted. */
		for (i = 0; i < 60000 && !handler_ended(pid); i++) {
			if (READ_ONCE(p.c->waking))
				kill(pid, SIGKILL);
			usleep(1000);
		}
	}
	userfault_server_reap(pid);

	/* With nobody to serve, a vCPU that goes on goes on unserved. */
	usleep(100000);
	if (!moves(&p, 300))
		out->held++;
	if (!dup)
		fd = create_uffd(&p);
	for (i = 0; i < NR_VCPUS; i++) {
		wrong += READ_ONCE(p.c->bad[i].count);
		zeroes += READ_ONCE(p.c->bad[i].zeroes);
	}
	out->rounds++;
	out->zeroes += !!zeroes;
	out->wrong += wrong;

	/* The successor: does it get what its predecessor read? */
	pid = userfault_server_spawn(&p, fd, true, USERFAULT_STEP_NEVER, 0);
	if (!moves(&p, 1000))
		out->stuck++;
	/* The remedy, or the test would not end. */
	do {
		uffd_wake_all(&p, fd);
	} while (!moves(&p, 500));
	WRITE_ONCE(p.c->stop, 1);
	memset(p.c->bad, 0, sizeof(p.c->bad));
	for (i = 0; i < 10; i++) {
		uffd_wake_all(&p, fd);
		usleep(10000);
	}
	memset(p.c->bad, 0, sizeof(p.c->bad));
	for (i = 0; i < NR_VCPUS; i++)
		kvm_pthread_join(p.threads[i], NULL);
	kill(pid, SIGKILL);
	userfault_server_reap(pid);
	close(fd);
	userfault_paging_destroy(&p);
}

static void report(const char *what, const char *variant, const struct outcome *o)
{
	pr_info("DATA fd=%s dup=%s rounds=%lu rounds_with_zero_pages=%lu wrong_checks=%lu exits=%lu waited=%lu stuck_with_successor=%lu\n",
		what, variant, o->rounds, o->zeroes, o->wrong, o->exits, o->held, o->stuck);
}

static void help(const char *name)
{
	printf("usage: %s [-n rounds] [-s seed] [-u]\n", name);
	puts(" -n: how many handlers are killed for each kind of memory (default 24)");
	puts(" -u: the same with userfaultfd, and a table of both");
	exit(1);
}

int main(int argc, char **argv)
{
	static const enum userfault_backing backings[] = { USERFAULT_SHMEM, USERFAULT_GMEM };
	struct outcome kuf[NR_VARIANTS] = {}, uffd[2] = {};
	int rounds = 24, opt, i;
	bool compare = false;

	userfault_server_main(argc, argv);

	while ((opt = getopt(argc, argv, "n:s:u")) != -1) {
		if (opt == 'n')
			rounds = atoi_positive("rounds", optarg);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 'u')
			compare = true;
		else
			help(argv[0]);
	}
	TEST_ASSERT(seed, "The seed must not be 0");
	TEST_REQUIRE_USERFAULT();
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_USERFAULT_FEATURES) &
		     KVM_USERFAULT_FEATURE_FD);

	for (i = 0; i < ARRAY_SIZE(backings); i++)
		test_other_process(backings[i]);
	for (i = 0; i < ARRAY_SIZE(backings); i++)
		test_deaths(backings[i], rounds, kuf);
	for (i = 0; compare && i < rounds; i++)
		uffd_round(USERFAULT_STEP_READ + i / 2 % (NR_USERFAULT_STEPS - 1), i % 2,
			   &uffd[i % 2]);

	for (i = 0; i < NR_VARIANTS; i++)
		report("userfault", variant_names[i], &kuf[i]);
	if (compare) {
		report("userfaultfd", "none", &uffd[0]);
		report("userfaultfd", "dup", &uffd[1]);
	}
	return 0;
}
