/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The userfault file descriptor, and vCPUs that wait for its handler.
 */
#ifndef SELFTEST_KVM_USERFAULT_FD_H
#define SELFTEST_KVM_USERFAULT_FD_H

#include <pthread.h>

#include "userfault_util.h"

/* How long a test waits for what must happen: an emulated machine is slow. */
#define USERFAULT_TIMEOUT_MS	30000
/* How long it looks that nothing happens. */
#define USERFAULT_QUIET_MS	200

int __userfault_fd_create(struct kvm_vm *vm, u32 flags);
int userfault_fd_create(struct kvm_vm *vm, u32 flags);

/* Is there something to read (POLLIN, POLLHUP) within that time? */
short userfault_fd_poll(int fd, int timeout_ms);
/* One event; asserts that there is one in time. */
struct kvm_userfault_event userfault_fd_read(int fd);
/* Asserts that no event comes. */
void userfault_fd_assert_quiet(int fd);

int __userfault_fd_wake(int fd, gpa_t gpa, u64 size, u32 as_id);
void userfault_fd_wake(int fd, gpa_t gpa, u64 size);
void userfault_fd_replay(int fd);
/* What a handler does with an event. */
void userfault_fd_resolve(int fd, struct userfault_slot *s,
			  const struct kvm_userfault_event *event, u64 generation);

/* A thread that is in KVM_RUN once; @ret and @error are its result. */
struct userfault_runner {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	pid_t tid;
	bool done;
	int ret, error;
};

void userfault_runner_start(struct userfault_runner *r, struct kvm_vcpu *vcpu);
/* Asserts that KVM_RUN does not return. */
void userfault_runner_assert_waits(struct userfault_runner *r);
/* Waits for KVM_RUN to return. */
void userfault_runner_join(struct userfault_runner *r);
/* The same, and asserts that the guest did a ucall, and which. */
void userfault_runner_join_sync(struct userfault_runner *r);
/* Make KVM_RUN return with EINTR. */
void userfault_runner_kick(struct userfault_runner *r);

#endif /* SELFTEST_KVM_USERFAULT_FD_H */
