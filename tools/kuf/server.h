/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_SERVER_H
#define KUF_SERVER_H

#include "pager.h"

/* Serving events beside the vCPUs: in a process or a thread of its own. */
struct server {
	int socket;		/* to the process; to the thread an eventfd */
	pid_t pid;		/* 0: there is none */
	struct pager *pager;
	pthread_t thread;
	bool has_thread;
	int thread_err;
};

/* Before KVM is used: KVM's file descriptors are not for other processes. */
int server_fork(struct server *server);

/*
 * The process takes @uffd with it, so that vCPUs notice when it dies: the caller
 * closes its own.  Returns once the process serves.
 */
int server_start_process(struct server *server, struct pager *pager, int source_fd,
			 int counts_fd);
int server_start_thread(struct server *server, struct pager *pager);

/* Ends it; -EIO when it has failed.  Also for one that was never started. */
int server_stop(struct server *server);

#endif /* KUF_SERVER_H */
