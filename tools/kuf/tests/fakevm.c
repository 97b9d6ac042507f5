// SPDX-License-Identifier: GPL-2.0
/*
 * VMs without KVM.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"
#include "fakevm.h"
#include "saved.h"

#define MAX_VMS		16

static struct fakevm *vms[MAX_VMS];
static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;
static char said[4096];

static void say(const char *fmt, va_list ap)
{
	/* To be looked at when a test fails. */
	if (getenv("LOUD")) {
		fprintf(stderr, "# %d: ", getpid());
		vfprintf(stderr, fmt, ap);
		fputc('\n', stderr);
	}
}

int kuf_error(int err, const char *fmt, ...)
{
	va_list ap;
	size_t len;

	pthread_mutex_lock(&said_lock);
	len = strlen(said);
	va_start(ap, fmt);
	vsnprintf(said + len, sizeof(said) - len, fmt, ap);
	va_end(ap);
	len = strlen(said);
	snprintf(said + len, sizeof(said) - len, "; ");
	pthread_mutex_unlock(&said_lock);
	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return err ?: -EINVAL;
}

void kuf_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
}

const char *fake_said(void)
{
	return said;
}

void fake_said_reset(void)
{
	pthread_mutex_lock(&said_lock);
	said[0] = '\0';
	pthread_mutex_unlock(&said_lock);
}

int fake_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static struct fakevm *vm_of(int fd)
{
	int i;

	for (i = 0; i < MAX_VMS; i++) {
		if (vms[i] && vms[i]->vm.fd == fd)
			return vms[i];
	}
	return NULL;
}

/* With the lock: all events that are due go out, as far as there is room. */
static void announce(struct fakevm *f)
{
	unsigned int i;

	for (i = 0; f->uffd >= 0 && i < FAKE_VCPUS; i++) {
		struct fake_waiter *w = &f->waiters[i];
		struct kvm_userfault_event event = {
			.gpa = w->gpa, .size = PAGE_SIZE, .vcpu_id = i, .time_ns = pager_now(),
			.type = KVM_USERFAULT_EVENT_FAULT, .seq = ++f->events,
		};

		if (w->waits && !w->told)
			w->told = send(f->uffd, &event, sizeof(event),
				       MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(event);
	}
}

static void tell_again(struct fakevm *f)
{
	unsigned int i;

	for (i = 0; i < FAKE_VCPUS; i++)
		f->waiters[i].told = false;
	pthread_cond_broadcast(&f->cond);
	announce(f);
}

static void wake(struct fakevm *f, const struct kvm_userfault_range *range)
{
	unsigned int i;

	f->wakes++;
	for (i = 0; i < FAKE_VCPUS; i++) {
		if (f->waiters[i].gpa >= range->gpa &&
		    f->waiters[i].gpa - range->gpa < range->size)
			f->waiters[i].told = false;
	}
	pthread_cond_broadcast(&f->cond);
}

/* KVM's side of the fd. */
static void *run_kvm(void *arg)
{
	struct kvm_userfault_range range;
	struct fakevm *f = arg;
	struct pollfd fd;
	ssize_t n;

	pthread_mutex_lock(&f->lock);
	while (!f->stops) {
		n = -1;
		if (f->uffd >= 0) {
			n = recv(f->uffd, &range, sizeof(range), MSG_DONTWAIT);
			if (n == sizeof(range)) {
				wake(f, &range);
			} else if (n == 1) {
				tell_again(f);
			} else if (!n || errno != EAGAIN) {
				/* The last copy was closed: who waits goes on waiting. */
				close(f->uffd);
				f->uffd = -1;
			}
			announce(f);
		}
		if (n > 0)
			continue;
		fd = (struct pollfd){ .fd = f->uffd, .events = POLLIN };
		pthread_mutex_unlock(&f->lock);
		/* Who waits, or another fd, may come without a sign. */
		poll(&fd, 1, 1);
		pthread_mutex_lock(&f->lock);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

static int create_fd(struct fakevm *f, const struct kvm_userfault_fd *args)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends))
		return -1;
	pthread_mutex_lock(&f->lock);
	if (f->uffd >= 0 && !(args->flags & KVM_USERFAULT_FD_REPLACE)) {
		close(ends[0]);
		close(ends[1]);
		errno = EBUSY;
		ends[0] = -1;
	} else {
		if (f->uffd >= 0)
			close(f->uffd);
		f->uffd = ends[1];
		f->fds++;
		tell_again(f);
	}
	pthread_mutex_unlock(&f->lock);
	return ends[0];
}

/* Whatever process has it. */
static int to_kvm(int fd, const void *message, size_t size)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };

	while (send(fd, message, size, MSG_NOSIGNAL) < 0) {
		if (errno != EAGAIN) {
			errno = EPIPE;
			return -1;
		}
		poll(&room, 1, -1);
	}
	return 0;
}

static int answer(struct fakevm *f, unsigned long request, void *arg)
{
	switch (request) {
	case KVM_CHECK_EXTENSION:
		return (uintptr_t)arg == KVM_CAP_USERFAULT ? 1 : 0x7f;
	case KVM_ENABLE_CAP:
		return 0;
	case KVM_USERFAULT_CREATE_FD:
		return create_fd(f, arg);
	default:
		if (request != KUF_SET_USER_MEMORY_REGION2) {
			errno = ENOTTY;
			return -1;
		}
		f->bitmap = (void *)(uintptr_t)((struct kuf_memory_region *)arg)->userfault_bitmap;
		return 0;
	}
}

int __real_ioctl(int fd, unsigned long request, void *arg);

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	struct fakevm *f = vm_of(fd);

	if (request == KVM_USERFAULT_WAKE)
		return to_kvm(fd, arg, sizeof(struct kvm_userfault_range));
	if (request == KVM_USERFAULT_REPLAY)
		return to_kvm(fd, "r", 1);
	return f ? answer(f, request, arg) : __real_ioctl(fd, request, arg);
}

bool fakevm_create(struct fakevm *f, const struct fakevm_options *o)
{
	pthread_condattr_t attr;
	int i;

	memset(f, 0, sizeof(*f));
	f->number = o->number;
	f->uffd = -1;
	f->vm = (struct vm){ .fd = open("/dev/null", O_RDWR | O_CLOEXEC), .kvm_fd = -1 };
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->cond, NULL);
	pthread_mutex_init(&f->vm.lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&f->vm.stopped_cond, &attr);
	pthread_condattr_destroy(&attr);
	for (i = 0; i < MAX_VMS && vms[i]; i++)
		;
	if (i == MAX_VMS || f->vm.fd < 0 || mem_create(&f->vm.mem, o->backing, MIN_MEM, -1))
		return false;
	vms[i] = f;
	/* Neither zeroes nor content. */
	memset(f->vm.mem.area, 0xee, f->vm.mem.size);
	pager_init(&f->pager);
	return !pthread_create(&f->thread, NULL, run_kvm, f);
}

int fakevm_start(struct fakevm *f, const struct fakevm_options *o)
{
	struct pager_config config = {
		.mode = PAGER_UNIX,
		.own = true,
		.policy = o->policy,
		.remote = {
			.path = o->socket,
			.timeout_s = o->timeout_s,
			.file = open(o->file, O_RDONLY | O_CLOEXEC),
		},
	};
	int err;

	saved_session(config.remote.session, o->number);
	err = pager_start(&f->pager, &f->vm, &config);
	if (err && config.remote.file >= 0)
		close(config.remote.file);
	return err;
}

int fakevm_stop(struct fakevm *f)
{
	int err;

	fakevm_let_go(f);
	err = pager_stop(&f->pager);
	if (f->pager.remote && f->pager.armed_ns)
		close(f->pager.config.remote.file);
	return err;
}

void fakevm_destroy(struct fakevm *f)
{
	int i;

	pthread_mutex_lock(&f->lock);
	f->stops = true;
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	if (f->uffd >= 0)
		close(f->uffd);
	for (i = 0; i < MAX_VMS; i++) {
		if (vms[i] == f)
			vms[i] = NULL;
	}
	pager_release(&f->pager);
	mem_destroy(&f->vm.mem);
	close(f->vm.fd);
}

bool fakevm_present(struct fakevm *f, u64 page)
{
	return !(__atomic_load_n(&f->bitmap[page / 64], __ATOMIC_ACQUIRE) >> page % 64 & 1);
}

bool fakevm_touch(struct fakevm *f, unsigned int vcpu, u64 page)
{
	struct fake_waiter *w = &f->waiters[vcpu];
	bool here;

	pthread_mutex_lock(&f->lock);
	while (!(here = fakevm_present(f, page)) && !f->ends) {
		*w = (struct fake_waiter){ .gpa = page * PAGE_SIZE, .waits = true,
					   .told = w->waits && w->told };
		announce(f);
		pthread_cond_wait(&f->cond, &f->lock);
	}
	w->waits = false;
	pthread_mutex_unlock(&f->lock);
	return here;
}

void fakevm_let_go(struct fakevm *f)
{
	pthread_mutex_lock(&f->lock);
	f->ends = true;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
	pager_cancel(&f->pager);
}

struct kuf *fakevm_context(struct fakevm *f)
{
	struct kuf_params params = {
		.size = sizeof(params), .vm_fd = f->vm.fd,
		.features = KVM_USERFAULT_FEATURE_EXIT | KVM_USERFAULT_FEATURE_ACCESS |
			    KVM_USERFAULT_FEATURE_FD,
	};
	struct kuf_region r = {
		.size = sizeof(r), .len = MIN_MEM, .hva = f->vm.mem.area, .gmem_fd = -1,
		.fd = f->vm.mem.fd,
	};
	struct kuf *k;

	if (kuf_create(&params, &k))
		return NULL;
	if (kuf_region_add(k, &r) || kuf_arm(k, r.id)) {
		kuf_destroy(k);
		return NULL;
	}
	return k;
}
