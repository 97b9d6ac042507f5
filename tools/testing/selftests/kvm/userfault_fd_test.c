// SPDX-License-Identifier: GPL-2.0
/*
 * The userfault file descriptor: what is read from it, what makes a vCPU that
 * waits go on, and what the rest of the VM can do in the meantime.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_fd.h"

#define SLOT		10
#define GPA		0xc0000000ul
#define GVA		GPA
#define NPAGES		128
#define GENERATION	9

#define ACCESS_READ	(KVM_MEMORY_EXIT_FLAG_USERFAULT | KVM_MEMORY_EXIT_FLAG_READ)
#define ACCESS_WRITE	(KVM_MEMORY_EXIT_FLAG_USERFAULT | KVM_MEMORY_EXIT_FLAG_WRITE)

/* Which page a vCPU is to touch, and how; its argument is its index. */
static u64 guest_page[2];
static u64 guest_write[2];

static void guest_code(u64 id)
{
	for (;;) {
		u64 page = READ_ONCE(guest_page[id]);
		u64 *p = (u64 *)(GVA + page * PAGE_SIZE);

		if (READ_ONCE(guest_write[id])) {
			u64 word = userfault_pattern_word(GPA / PAGE_SIZE + page,
							  GENERATION, 1);

			/* What is there already, if it is the right page. */
			WRITE_ONCE(p[1], word);
		}
		GUEST_ASSERT_EQ(userfault_pattern_check(p, PAGE_SIZE,
							GPA / PAGE_SIZE + page,
							GENERATION), -1);
		GUEST_SYNC(page);
	}
}

static void set_guest(struct kvm_vm *vm, int id, u64 page, bool write)
{
	guest_page[id] = page;
	guest_write[id] = write;
	sync_global_to_guest(vm, guest_page);
	sync_global_to_guest(vm, guest_write);
}

struct fixture {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[2];
	struct userfault_slot *s;
	struct userfault_runner runner[2];
};

static void create(struct fixture *f, enum userfault_backing backing)
{
	int i;

	f->vm = vm_create_with_vcpus(2, guest_code, f->vcpus);
	f->s = userfault_slot_create(f->vm, SLOT, GPA, NPAGES, backing,
				     KVM_MEM_USERFAULT);
	virt_map(f->vm, GVA, GPA, NPAGES);
	vm_enable_cap(f->vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_FD);
	for (i = 0; i < 2; i++)
		vcpu_args_set(f->vcpus[i], 1, (u64)i);
}

static void destroy(struct fixture *f)
{
	userfault_slot_free(f->s);
	kvm_vm_free(f->vm);
}

static void start(struct fixture *f, int id, u64 page, bool write)
{
	set_guest(f->vm, id, page, write);
	userfault_runner_start(&f->runner[id], f->vcpus[id]);
}

static void assert_event(const struct kvm_userfault_event *e, struct fixture *f,
			 u64 page, u64 flags, u32 vcpu_id)
{
	TEST_ASSERT_EQ(e->gpa, userfault_gpa(f->s, page));
	TEST_ASSERT_EQ(e->size, PAGE_SIZE);
	TEST_ASSERT_EQ(e->flags, flags);
	TEST_ASSERT_EQ(e->vcpu_id, vcpu_id);
	TEST_ASSERT_EQ(e->as_id, 0);
	TEST_ASSERT_EQ(e->type, KVM_USERFAULT_EVENT_FAULT);
	TEST_ASSERT(!e->reserved[0] && !e->reserved[1], "reserved is not zero");
}

static void test_arguments(void)
{
	struct kvm_userfault_fd good = { .event_size = 64 }, bad;
	struct kvm_userfault_range range = { .gpa = GPA, .size = PAGE_SIZE }, r;
	struct kvm_userfault_event event;
	struct fixture f;
	int fd, i;

	pr_info("arguments\n");

	f.vm = vm_create_barebones();
	ASSERT_FAILS(__vm_ioctl(f.vm, KVM_USERFAULT_CREATE_FD, &good), EPERM);
	vm_enable_cap(f.vm, KVM_CAP_USERFAULT_FEATURES, KVM_USERFAULT_FEATURE_EXIT);
	ASSERT_FAILS(__vm_ioctl(f.vm, KVM_USERFAULT_CREATE_FD, &good), EPERM);
	kvm_vm_free(f.vm);

	create(&f, USERFAULT_ANON);
	ASSERT_FAILS(ioctl(f.vm->fd, KVM_USERFAULT_CREATE_FD, NULL), EFAULT);
	ASSERT_FAILS(__userfault_fd_create(f.vm, KVM_USERFAULT_FD_MAY_POISON), EPERM);
	bad = good;
	/* All behind the last one. */
	for (bad.flags = KVM_USERFAULT_FD_MAY_POISON << 1; bad.flags; bad.flags <<= 1)
		ASSERT_FAILS(__vm_ioctl(f.vm, KVM_USERFAULT_CREATE_FD, &bad), EINVAL);
	bad = good;
	for (bad.event_size = 0; bad.event_size < 256; bad.event_size++) {
		if (bad.event_size != 64)
			ASSERT_FAILS(__vm_ioctl(f.vm, KVM_USERFAULT_CREATE_FD, &bad), EINVAL);
	}
	for (i = 0; i < ARRAY_SIZE(bad.reserved); i++) {
		bad = good;
		bad.reserved[i] = 1;
		ASSERT_FAILS(__vm_ioctl(f.vm, KVM_USERFAULT_CREATE_FD, &bad), EINVAL);
	}

	fd = userfault_fd_create(f.vm, KVM_USERFAULT_FD_NONBLOCK);
	TEST_ASSERT(fcntl(fd, F_GETFD) & FD_CLOEXEC, "not close-on-exec");
	ASSERT_FAILS(__userfault_fd_create(f.vm, 0), EBUSY);

	/* Without VCPU nothing of a vCPU comes here. */
	set_guest(f.vm, 0, 1, false);
	userfault_run_expect(f.vcpus[0], userfault_gpa(f.s, 1), 0);
	ASSERT_FAILS(read(fd, &event, sizeof(event)), EAGAIN);
	ASSERT_FAILS(read(fd, &event, sizeof(event) - 1), EINVAL);
	ASSERT_FAILS(read(fd, &event, 0), EINVAL);
	ASSERT_FAILS(write(fd, &event, sizeof(event)), EINVAL);

	ASSERT_FAILS(ioctl(fd, KVM_USERFAULT_WAKE, NULL), EFAULT);
	ASSERT_FAILS(ioctl(fd, KVM_USERFAULT_REPLAY, 1), EINVAL);
	ASSERT_FAILS(ioctl(fd, KVM_USERFAULT_RESCAN, &range), ENOTTY);
	ASSERT_FAILS(ioctl(fd, KVM_GET_API_VERSION, 0), ENOTTY);
#define BAD_RANGE(change)						\
	do {								\
		r = range;						\
		r.change;						\
		ASSERT_FAILS(ioctl(fd, KVM_USERFAULT_WAKE, &r), EINVAL);	\
	} while (0)
	BAD_RANGE(gpa = GPA + 1);
	BAD_RANGE(size = PAGE_SIZE - 1);
	BAD_RANGE(size = 0);
	BAD_RANGE(size = -PAGE_SIZE);
	BAD_RANGE(gpa = -PAGE_SIZE);
	BAD_RANGE(flags = 2);
	BAD_RANGE(flags = 1ull << 63);
	BAD_RANGE(pad = 1);
	BAD_RANGE(as_id = 0x10000);
	BAD_RANGE(reserved[0] = 1);
	BAD_RANGE(reserved[3] = 1);
	r = range;
	r.flags = KVM_USERFAULT_WAKE_POISON;
	ASSERT_FAILS(ioctl(fd, KVM_USERFAULT_WAKE, &r), EPERM);
	TEST_ASSERT(!ioctl(fd, KVM_USERFAULT_WAKE, &range), "WAKE of nobody");
	TEST_ASSERT(!__userfault_fd_wake(fd, 0, 1ull << 52, KVM_USERFAULT_AS_ALL),
		    "WAKE of everything");

	close(fd);
	/* The feature does not go away, and the next one is the first again. */
	fd = userfault_fd_create(f.vm, 0);
	close(fd);
	destroy(&f);
}

/* Fault, event, fill, clear, WAKE: page after page. */
static void test_serve(enum userfault_backing backing)
{
	struct kvm_userfault_event e;
	struct fixture f;
	u64 page, seq = 0;
	u64 now;
	int fd;

	pr_info("served: %s\n", userfault_backing_name(backing));

	create(&f, backing);
	fd = userfault_fd_create(f.vm, KVM_USERFAULT_FD_VCPU);
	for (page = 0; page < NPAGES; page++) {
		struct timespec ts;
		bool write = page % 2;
		int id = page / 2 % 2;

		start(&f, id, page, write);
		e = userfault_fd_read(fd);
		assert_event(&e, &f, page, write ? ACCESS_WRITE : ACCESS_READ, id);
		TEST_ASSERT(e.seq > seq, "seq %llu after %lu", e.seq, seq);
		seq = e.seq;
		clock_gettime(CLOCK_MONOTONIC, &ts);
		now = ts.tv_sec * 1000000000ull + ts.tv_nsec;
		TEST_ASSERT(e.time_ns <= now && now - e.time_ns < 60000000000ull,
			    "time_ns %llu, now %lu", e.time_ns, now);
		userfault_fd_resolve(fd, f.s, &e, GENERATION);
		userfault_runner_join_sync(&f.runner[id]);
	}
	userfault_fd_assert_quiet(fd);
	TEST_ASSERT_EQ(vcpu_get_stat(f.vcpus[0], userfault_exits), 0);
	TEST_ASSERT(vcpu_get_stat(f.vcpus[0], userfault_waits) >= NPAGES / 2, "waits");
	close(fd);
	destroy(&f);
}

/* KVM_RUN can be interrupted, and memslots be changed while it waits. */
static void test_meanwhile(void)
{
	struct userfault_slot *other;
	struct kvm_userfault_event e;
	struct fixture f;
	u64 *map;
	int fd;

	pr_info("signals and ioctls during a wait\n");

	create(&f, USERFAULT_ANON);
	fd = userfault_fd_create(f.vm, KVM_USERFAULT_FD_VCPU);

	start(&f, 0, 3, false);
	e = userfault_fd_read(fd);
	userfault_runner_assert_waits(&f.runner[0]);

	/* These wait for kvm->srcu. */
	other = userfault_slot_create(f.vm, SLOT + 1, 2 * GPA, NPAGES,
				      USERFAULT_ANON, 0);
	userfault_slot_update(other, KVM_MEM_LOG_DIRTY_PAGES, NULL);
	userfault_slot_update(other, KVM_MEM_USERFAULT, other->bitmap);
	userfault_slot_free(other);
	userfault_runner_assert_waits(&f.runner[0]);

	userfault_runner_kick(&f.runner[0]);
	userfault_runner_join(&f.runner[0]);
	TEST_ASSERT(f.runner[0].ret == -1 && f.runner[0].error == EINTR &&
		    f.vcpus[0]->run->exit_reason == KVM_EXIT_INTR,
		    "KVM_RUN: %d (%s)", f.runner[0].ret, strerror(f.runner[0].error));

	f.vcpus[0]->run->immediate_exit = 1;
	ASSERT_FAILS(__vcpu_run(f.vcpus[0]), EINTR);
	f.vcpus[0]->run->immediate_exit = 0;

	/* The wait is over, and so is the event; the next one has its own. */
	userfault_fd_assert_quiet(fd);
	start(&f, 0, 3, false);
	e = userfault_fd_read(fd);
	userfault_fd_resolve(fd, f.s, &e, GENERATION);
	userfault_runner_join_sync(&f.runner[0]);

	/* What takes the reason for waiting away ends the wait. */
	userfault_fill(f.s, 4, GENERATION);
	start(&f, 0, 4, false);
	e = userfault_fd_read(fd);
	userfault_disarm(f.s);
	userfault_runner_join_sync(&f.runner[0]);
	userfault_arm(f.s);

	/* Another bitmap, in which the page is present. */
	userfault_fill(f.s, 6, GENERATION);
	start(&f, 0, 6, false);
	e = userfault_fd_read(fd);
	map = kvm_mmap(f.s->bitmap_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1);
	userfault_slot_update(f.s, f.s->region.flags, map);
	userfault_runner_join_sync(&f.runner[0]);
	userfault_slot_update(f.s, f.s->region.flags, f.s->bitmap);
	kvm_munmap(map, f.s->bitmap_size);

	/* Off together with dirty logging, for which KVM makes a new memslot. */
	userfault_slot_update(f.s, KVM_MEM_USERFAULT | KVM_MEM_LOG_DIRTY_PAGES,
			      f.s->bitmap);
	userfault_fill(f.s, 5, GENERATION);
	start(&f, 0, 5, true);
	e = userfault_fd_read(fd);
	userfault_runner_assert_waits(&f.runner[0]);
	userfault_slot_update(f.s, 0, NULL);
	userfault_runner_join_sync(&f.runner[0]);

	close(fd);
	destroy(&f);
}

/* Two vCPUs and one page: one event, and one WAKE for both. */
static void test_one_page(void)
{
	struct kvm_userfault_event e;
	struct fixture f;
	int fd;

	pr_info("two vCPUs, one page\n");

	create(&f, USERFAULT_ANON);
	fd = userfault_fd_create(f.vm, KVM_USERFAULT_FD_VCPU);

	/* Both before the first is read, and then one after the other. */
	start(&f, 0, 3, false);
	TEST_ASSERT_EQ(userfault_fd_poll(fd, USERFAULT_TIMEOUT_MS), POLLIN);
	start(&f, 1, 3, true);
	userfault_runner_assert_waits(&f.runner[1]);
	e = userfault_fd_read(fd);
	userfault_fd_assert_quiet(fd);
	userfault_fd_resolve(fd, f.s, &e, GENERATION);
	userfault_runner_join_sync(&f.runner[0]);
	userfault_runner_join_sync(&f.runner[1]);

	start(&f, 0, 4, true);
	e = userfault_fd_read(fd);
	assert_event(&e, &f, 4, ACCESS_WRITE, 0);
	start(&f, 1, 4, false);
	userfault_fd_assert_quiet(fd);
	userfault_fd_resolve(fd, f.s, &e, GENERATION);
	userfault_runner_join_sync(&f.runner[0]);
	userfault_runner_join_sync(&f.runner[1]);

	/* Different pages are different events. */
	start(&f, 0, 5, true);
	e = userfault_fd_read(fd);
	assert_event(&e, &f, 5, ACCESS_WRITE, 0);
	start(&f, 1, 6, false);
	e = userfault_fd_read(fd);
	assert_event(&e, &f, 6, ACCESS_READ, 1);

	/* WAKE of everything, but only one bit is clear. */
	userfault_resolve(f.s, 5, GENERATION);
	userfault_fd_wake(fd, 0, 1ull << 52);
	userfault_runner_join_sync(&f.runner[0]);
	e = userfault_fd_read(fd);
	assert_event(&e, &f, 6, ACCESS_READ, 1);
	userfault_fd_resolve(fd, f.s, &e, GENERATION);
	userfault_runner_join_sync(&f.runner[1]);

	close(fd);
	destroy(&f);
}

/* A wakeup that comes early, or not at all. */
static void test_wake(void)
{
	struct kvm_userfault_event e;
	struct fixture f;
	int fd;

	pr_info("WAKE and REPLAY\n");

	create(&f, USERFAULT_ANON);
	fd = userfault_fd_create(f.vm, KVM_USERFAULT_FD_VCPU);

	/* Before anybody waits. */
	userfault_resolve(f.s, 1, GENERATION);
	userfault_fd_wake(fd, userfault_gpa(f.s, 1), PAGE_SIZE);
	start(&f, 0, 1, false);
	userfault_runner_join_sync(&f.runner[0]);
	userfault_fd_assert_quiet(fd);

	/* The bit is not clear: another event. */
	start(&f, 0, 2, false);
	e = userfault_fd_read(fd);
	userfault_fd_wake(fd, e.gpa, e.size);
	e = userfault_fd_read(fd);
	assert_event(&e, &f, 2, ACCESS_READ, 0);

	/* Neighbours and other address spaces do not count. */
	userfault_fd_wake(fd, e.gpa - PAGE_SIZE, PAGE_SIZE);
	userfault_fd_wake(fd, e.gpa + PAGE_SIZE, PAGE_SIZE);
	TEST_ASSERT(!__userfault_fd_wake(fd, e.gpa, e.size, 1), "WAKE of SMM");
	userfault_runner_assert_waits(&f.runner[0]);
	userfault_fd_assert_quiet(fd);

	/* REPLAY: what is still waited for is told again. */
	userfault_fd_replay(fd);
	e = userfault_fd_read(fd);
	assert_event(&e, &f, 2, ACCESS_READ, 0);

	/* The bit is cleared, but WAKE forgotten; REPLAY repairs it. */
	userfault_resolve(f.s, 2, GENERATION);
	userfault_fd_replay(fd);
	userfault_runner_join_sync(&f.runner[0]);
	userfault_fd_assert_quiet(fd);

	close(fd);
	destroy(&f);
}

/* The reader's buffer is not there: the event is not lost. */
static void test_bad_buffer(void)
{
	struct kvm_userfault_event e;
	struct fixture f;
	u8 *buffer;
	int fd;

	pr_info("unwritable buffers\n");

	buffer = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1);
	TEST_ASSERT(!mprotect(buffer + PAGE_SIZE, PAGE_SIZE, PROT_NONE), "mprotect");

	create(&f, USERFAULT_ANON);
	fd = userfault_fd_create(f.vm, KVM_USERFAULT_FD_VCPU);
	start(&f, 0, 7, false);
	start(&f, 1, 8, false);
	TEST_ASSERT_EQ(userfault_fd_poll(fd, USERFAULT_TIMEOUT_MS), POLLIN);
	userfault_runner_assert_waits(&f.runner[1]);

	ASSERT_FAILS(read(fd, buffer + PAGE_SIZE, 128), EFAULT);
	ASSERT_FAILS(read(fd, buffer + PAGE_SIZE - 8, 64), EFAULT);
	/* Room for one of the two: a short read. */
	TEST_ASSERT_EQ(read(fd, buffer + PAGE_SIZE - 64, 128), 64);
	memcpy(&e, buffer + PAGE_SIZE - 64, 64);
	userfault_fd_resolve(fd, f.s, &e, GENERATION);
	userfault_runner_join_sync(&f.runner[e.vcpu_id]);
	e = userfault_fd_read(fd);
	userfault_fd_resolve(fd, f.s, &e, GENERATION);
	userfault_runner_join_sync(&f.runner[e.vcpu_id]);

	close(fd);
	kvm_munmap(buffer, 2 * PAGE_SIZE);
	destroy(&f);
}

/* Last close: vCPUs exit, or, with STALL, go on waiting; a successor serves. */
static void test_close(bool stall)
{
	u32 flags = KVM_USERFAULT_FD_VCPU | (stall ? KVM_USERFAULT_FD_STALL : 0);
	struct kvm_userfault_event e;
	struct fixture f;
	int fd, dupped;

	pr_info("close%s\n", stall ? ", STALL" : "");

	create(&f, USERFAULT_ANON);
	fd = userfault_fd_create(f.vm, flags);
	start(&f, 0, 9, true);
	e = userfault_fd_read(fd);

	/* A dup keeps it alive. */
	dupped = dup(fd);
	close(fd);
	userfault_runner_assert_waits(&f.runner[0]);
	close(dupped);

	if (!stall) {
		userfault_runner_join(&f.runner[0]);
		errno = f.runner[0].error;
		userfault_assert_exit(f.vcpus[0], f.runner[0].ret,
				      userfault_gpa(f.s, 9),
				      KVM_MEMORY_EXIT_FLAG_USERFAULT);
		/* From now on as well. */
		userfault_run_expect(f.vcpus[0], userfault_gpa(f.s, 9), 0);
		userfault_runner_start(&f.runner[0], f.vcpus[0]);
		userfault_runner_join(&f.runner[0]);
		fd = userfault_fd_create(f.vm, flags);
		userfault_runner_start(&f.runner[0], f.vcpus[0]);
	} else {
		userfault_runner_assert_waits(&f.runner[0]);
		start(&f, 1, 10, false);
		userfault_runner_assert_waits(&f.runner[1]);
		fd = userfault_fd_create(f.vm, flags);
		e = userfault_fd_read(fd);
		if (e.vcpu_id != 1) {
			assert_event(&e, &f, 9, ACCESS_WRITE, 0);
			userfault_fd_replay(fd);
			while (e.vcpu_id != 1)
				e = userfault_fd_read(fd);
		}
		assert_event(&e, &f, 10, ACCESS_READ, 1);
		userfault_fd_resolve(fd, f.s, &e, GENERATION);
		userfault_runner_join_sync(&f.runner[1]);
		userfault_fd_replay(fd);
	}
	e = userfault_fd_read(fd);
	assert_event(&e, &f, 9, ACCESS_WRITE, 0);
	userfault_fd_resolve(fd, f.s, &e, GENERATION);
	userfault_runner_join_sync(&f.runner[0]);
	close(fd);
	destroy(&f);
}

/* REPLACE: the old one is at its end, and all that is waited for comes again. */
static void test_replace(void)
{
	struct kvm_userfault_event e;
	struct fixture f;
	int old, new;

	pr_info("REPLACE\n");

	create(&f, USERFAULT_ANON);
	old = userfault_fd_create(f.vm, KVM_USERFAULT_FD_VCPU);
	start(&f, 0, 11, true);
	e = userfault_fd_read(old);
	start(&f, 1, 12, false);
	TEST_ASSERT_EQ(userfault_fd_poll(old, USERFAULT_TIMEOUT_MS), POLLIN);

	new = userfault_fd_create(f.vm, KVM_USERFAULT_FD_VCPU |
				  KVM_USERFAULT_FD_REPLACE);
	TEST_ASSERT_EQ(userfault_fd_poll(old, 0), POLLIN | POLLHUP);
	TEST_ASSERT_EQ(read(old, &e, sizeof(e)), 0);
	ASSERT_FAILS(__userfault_fd_wake(old, GPA, PAGE_SIZE, 0), EPIPE);
	ASSERT_FAILS(ioctl(old, KVM_USERFAULT_REPLAY, 0), EPIPE);
	userfault_runner_assert_waits(&f.runner[0]);
	/* Closing it changes nothing for its successor. */
	close(old);
	userfault_runner_assert_waits(&f.runner[0]);

	e = userfault_fd_read(new);
	userfault_fd_resolve(new, f.s, &e, GENERATION);
	userfault_runner_join_sync(&f.runner[e.vcpu_id]);
	e = userfault_fd_read(new);
	userfault_fd_resolve(new, f.s, &e, GENERATION);
	userfault_runner_join_sync(&f.runner[e.vcpu_id]);

	close(new);
	destroy(&f);
}

static void *blocked_reader(void *arg)
{
	struct kvm_userfault_event e;
	int fd = *(int *)arg;

	return (void *)read(fd, &e, sizeof(e));
}

/* The file does not keep the VM; readers learn that it is gone. */
static void test_vm_gone(void)
{
	struct kvm_userfault_event e;
	struct epoll_event ev = { .events = EPOLLIN };
	pthread_t reader[3];
	struct fixture f;
	int fd, epfd, i;
	void *ret;

	pr_info("the VM goes\n");

	create(&f, USERFAULT_ANON);
	fd = userfault_fd_create(f.vm, KVM_USERFAULT_FD_VCPU);
	epfd = epoll_create1(0);
	TEST_ASSERT(!epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev), "epoll_ctl");
	TEST_ASSERT_EQ(epoll_wait(epfd, &ev, 1, 0), 0);

	/* Several readers, of whom one gets the event. */
	for (i = 0; i < ARRAY_SIZE(reader); i++)
		kvm_pthread_create(&reader[i], NULL, blocked_reader, &fd);
	usleep(USERFAULT_QUIET_MS * 1000);
	start(&f, 0, 13, false);
	userfault_runner_assert_waits(&f.runner[0]);
	userfault_resolve(f.s, 13, GENERATION);
	userfault_fd_wake(fd, userfault_gpa(f.s, 13), PAGE_SIZE);
	userfault_runner_join_sync(&f.runner[0]);

	destroy(&f);
	TEST_ASSERT_EQ(epoll_wait(epfd, &ev, 1, USERFAULT_TIMEOUT_MS), 1);
	TEST_ASSERT_EQ(ev.events, EPOLLIN | EPOLLHUP);
	for (i = 0; i < ARRAY_SIZE(reader); i++) {
		TEST_ASSERT(!pthread_join(reader[i], &ret), "pthread_join");
		TEST_ASSERT((ssize_t)ret == 0 || (ssize_t)ret == sizeof(e),
			    "read: %zd", (ssize_t)ret);
	}
	TEST_ASSERT_EQ(read(fd, &e, sizeof(e)), 0);
	ASSERT_FAILS(__userfault_fd_wake(fd, GPA, PAGE_SIZE, 0), EPIPE);
	close(epfd);
	close(fd);
}

int main(void)
{
	TEST_REQUIRE_USERFAULT();

	test_arguments();
	test_serve(USERFAULT_ANON);
	test_serve(USERFAULT_SHMEM);
	test_serve(USERFAULT_GMEM);
	test_meanwhile();
	test_one_page();
	test_wake();
	test_bad_buffer();
	test_close(false);
	test_close(true);
	test_replace();
	test_vm_gone();
	return 0;
}
