// SPDX-License-Identifier: GPL-2.0
/*
 * The userfault file descriptor, and vCPUs that wait for its handler.
 */
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kvm_util.h"
#include "test_util.h"
#include "ucall_common.h"
#include "userfault_fd.h"

int __userfault_fd_create(struct kvm_vm *vm, u32 flags)
{
	struct kvm_userfault_fd args = {
		.flags = flags,
		.event_size = sizeof(struct kvm_userfault_event),
	};

	return __vm_ioctl(vm, KVM_USERFAULT_CREATE_FD, &args);
}

int userfault_fd_create(struct kvm_vm *vm, u32 flags)
{
	int fd = __userfault_fd_create(vm, flags);

	TEST_ASSERT(fd >= 0, KVM_IOCTL_ERROR(KVM_USERFAULT_CREATE_FD, fd));
	return fd;
}

short userfault_fd_poll(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	TEST_ASSERT(poll(&p, 1, timeout_ms) >= 0, "poll: %s", strerror(errno));
	return p.revents;
}

struct kvm_userfault_event userfault_fd_read(int fd)
{
	struct kvm_userfault_event event;
	ssize_t n;

	TEST_ASSERT_EQ(userfault_fd_poll(fd, USERFAULT_TIMEOUT_MS), POLLIN);
	n = read(fd, &event, sizeof(event));
	TEST_ASSERT(n == sizeof(event), "read: %zd (%s)", n, strerror(errno));
	return event;
}

void userfault_fd_assert_quiet(int fd)
{
	TEST_ASSERT(!userfault_fd_poll(fd, USERFAULT_QUIET_MS),
		    "There is an event too many");
}

int __userfault_fd_wake(int fd, gpa_t gpa, u64 size, u32 as_id)
{
	struct kvm_userfault_range range = {
		.gpa = gpa,
		.size = size,
		.as_id = as_id,
	};

	return ioctl(fd, KVM_USERFAULT_WAKE, &range);
}

void userfault_fd_wake(int fd, gpa_t gpa, u64 size)
{
	int r = __userfault_fd_wake(fd, gpa, size, KVM_USERFAULT_AS_ALL);

	TEST_ASSERT(!r, KVM_IOCTL_ERROR(KVM_USERFAULT_WAKE, r));
}

void userfault_fd_replay(int fd)
{
	int r = ioctl(fd, KVM_USERFAULT_REPLAY, 0);

	TEST_ASSERT(!r, KVM_IOCTL_ERROR(KVM_USERFAULT_REPLAY, r));
}

void userfault_fd_resolve(int fd, struct userfault_slot *s,
			  const struct kvm_userfault_event *event, u64 generation)
{
	userfault_resolve(s, userfault_page_of(s, event->gpa), generation);
	userfault_fd_wake(fd, event->gpa, event->size);
}

static void on_kick(int signal)
{
}

static void *run(void *arg)
{
	struct userfault_runner *r = arg;

	WRITE_ONCE(r->tid, syscall(__NR_gettid));
	r->ret = __vcpu_run(r->vcpu);
	r->error = errno;
	__atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
	return NULL;
}

void userfault_runner_start(struct userfault_runner *r, struct kvm_vcpu *vcpu)
{
	struct sigaction action = { .sa_handler = on_kick };

	TEST_ASSERT(!sigaction(SIGUSR1, &action, NULL), "sigaction");
	memset(r, 0, sizeof(*r));
	r->vcpu = vcpu;
	kvm_pthread_create(&r->thread, NULL, run, r);
}

void userfault_runner_assert_waits(struct userfault_runner *r)
{
	usleep(USERFAULT_QUIET_MS * 1000);
	TEST_ASSERT(!__atomic_load_n(&r->done, __ATOMIC_ACQUIRE),
		    "KVM_RUN should wait, but returned %d (%s), exit reason %u",
		    r->ret, strerror(r->error), r->vcpu->run->exit_reason);
}

void userfault_runner_join(struct userfault_runner *r)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += USERFAULT_TIMEOUT_MS / 1000;
	TEST_ASSERT(!pthread_timedjoin_np(r->thread, NULL, &until),
		    "KVM_RUN does not return");
}

void userfault_runner_join_sync(struct userfault_runner *r)
{
	struct ucall uc;

	userfault_runner_join(r);
	TEST_ASSERT(!r->ret, "KVM_RUN: %d (%s), exit reason %u", r->ret,
		    strerror(r->error), r->vcpu->run->exit_reason);
	if (get_ucall(r->vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT_EQ(uc.cmd, UCALL_SYNC);
}

void userfault_runner_kick(struct userfault_runner *r)
{
	while (!READ_ONCE(r->tid))
		usleep(1000);
	TEST_ASSERT(!pthread_kill(r->thread, SIGUSR1), "pthread_kill");
}
