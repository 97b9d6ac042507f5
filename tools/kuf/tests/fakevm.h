/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_TESTS_FAKEVM_H
#define KUF_TESTS_FAKEVM_H

#include <pthread.h>

#include "pager.h"
#include "vm.h"

/*
 * VMs without KVM: memory, a pager as in kuf restore, and guests that are threads.  What
 * goes to KVM (--wrap=ioctl) is answered here, in whatever process it is called: a
 * userfault fd is one end of a socket pair, events come out of it, and WAKE and REPLAY
 * go into it.  As KVM, it looks at the bitmap, keeps who waits when the fd is closed
 * (STALL), and tells a new one (REPLACE) of all of them.
 */
#define FAKE_VCPUS	4

struct fake_waiter {
	u64 gpa;
	bool waits, told;
};

struct fakevm {
	unsigned int number;	/* which saved VM, saved.h */
	struct vm vm;
	struct pager pager;
	const u64 *bitmap;

	pthread_mutex_t lock;
	pthread_cond_t cond;
	pthread_t thread;	/* KVM's */
	bool ends;		/* nobody waits any more */
	bool stops;		/* the thread */
	int uffd;		/* KVM's end of what is live, or -1 */
	struct fake_waiter waiters[FAKE_VCPUS];
	u64 events, wakes, fds;
};

struct fakevm_options {
	unsigned int number;
	const char *file;	/* of saved_make() */
	const char *socket;	/* of the pager */
	enum mem_backing backing;
	unsigned int timeout_s;
	struct pager_policy policy;
};

/* Its memory, and no pager. */
bool fakevm_create(struct fakevm *f, const struct fakevm_options *o);
/* What pager_start() said. */
int fakevm_start(struct fakevm *f, const struct fakevm_options *o);
/* What pager_stop() said; it can be looked at still. */
int fakevm_stop(struct fakevm *f);
void fakevm_destroy(struct fakevm *f);

/* A vCPU touches a page, and waits for it; false: the VM ends. */
bool fakevm_touch(struct fakevm *f, unsigned int vcpu, u64 page);
bool fakevm_present(struct fakevm *f, u64 page);
/* Nobody waits any more. */
void fakevm_let_go(struct fakevm *f);

/* Regions, in a context without a pager: for those who speak for themselves. */
struct kuf *fakevm_context(struct fakevm *f);

int fake_open_fds(void);
/* What was said by kuf_error() since fake_said_reset(), as far as there is room. */
const char *fake_said(void);
void fake_said_reset(void);

#endif /* KUF_TESTS_FAKEVM_H */
