/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_SERVER_H
#define KUF_SERVER_H

#include <pthread.h>
#include <sys/types.h>

#include "kuf.h"

/*
 * Serving beside the vCPUs: in a thread, or in a process of its own, which a thread
 * here then watches.  When it fails the VM is stopped with KUF_EXIT_PAGER.
 */
struct pager;
struct kuf_export;

struct server {
	pid_t pid;		/* 0: no process */
	int socket;		/* to the process, or -1 */
	int stop;		/* eventfd that ends the thread */
	pthread_t thread;
	bool has_thread;
	int err;		/* the thread's, once it has ended */
};

void server_init(struct server *server);
/* The process serves with @pager as it is now, once it gets what KVM has to do with. */
int server_fork(struct server *server, struct pager *pager);
/* The process takes @ex with it.  Returns once it serves. */
int server_start_process(struct server *server, struct pager *pager,
			 const struct kuf_export *ex);
int server_start_thread(struct server *server, struct pager *pager);

/*
 * The same for whoever serves in another way: @serve runs until @stop can be read, or
 * until it fails.
 */
int server_start(struct server *server, struct pager *pager, void *(*serve)(void *));

/* Ends it; -EIO when it has failed.  Also for one that was never started. */
int server_stop(struct server *server);

#endif /* KUF_SERVER_H */
