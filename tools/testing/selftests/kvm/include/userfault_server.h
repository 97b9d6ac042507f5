/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who serves the faults of a userfault_paging: threads of the VMM, or another
 * process that shares nothing with the VMM but the files it was sent.
 */
#ifndef SELFTEST_KVM_USERFAULT_SERVER_H
#define SELFTEST_KVM_USERFAULT_SERVER_H

#include "userfault_paging.h"

/* Where a server dies, or is killed. */
enum userfault_step {
	USERFAULT_STEP_NEVER,
	USERFAULT_STEP_READ,		/* after read */
	USERFAULT_STEP_HALF,		/* after half of the fill */
	USERFAULT_STEP_FILLED,		/* after the fill, before clearing the bit */
	USERFAULT_STEP_CLEARED,		/* after that, before WAKE */
	USERFAULT_STEP_WAKE,		/* in WAKE: calls it until it is killed */
	USERFAULT_STEP_RANDOM,		/* wherever a kill from outside finds it */
	NR_USERFAULT_STEPS,
};

const char *userfault_step_name(enum userfault_step step);

struct userfault_server {
	int fd;				/* userfault fd, or userfaultfd */
	bool uffd;
	u64 uffd_base;			/* the VMM's address of the first page */
	u8 *buffer;			/* for UFFDIO_COPY */

	struct userfault_slot *s;
	struct userfault_paging_control *c;
	/* For several in one process. */
	pthread_mutex_t *lock;

	enum userfault_step die_at;
	u32 die_after;			/* so many pages before */
};

/* Serve until the file is at its end. */
void userfault_server_run(struct userfault_server *server);
/* Fill a page and clear its bit, if that is still to be done. */
void userfault_server_fill(struct userfault_server *server, u64 page);

/*
 * As another process: a new program image, so nothing is inherited, with one
 * socket.  The program's main() has to begin with userfault_server_main().
 * Returns when the process has got everything.
 */
pid_t userfault_server_spawn(struct userfault_paging *p, int fd, bool uffd,
			     enum userfault_step die_at, u32 die_after);
void userfault_server_main(int argc, char **argv);
/* Wait for a process that is to die by SIGKILL. */
void userfault_server_reap(pid_t pid);

void userfault_send_fds(int sock, const void *data, size_t size, const int *fds, int nr);
/* Returns the number of files; 0 at end of file. */
int userfault_recv_fds(int sock, void *data, size_t size, int *fds, int nr);

#endif /* SELFTEST_KVM_USERFAULT_SERVER_H */
