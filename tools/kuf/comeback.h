/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_COMEBACK_H
#define KUF_COMEBACK_H

#include <kuf/kuf.h>
#include <pthread.h>
#include <semaphore.h>

#include "lobby.h"
#include "mem.h"

/*
 * The source of a VM connects once more, as its connections were cut: before the
 * destination knows whether it may run the VM, or while its memory comes.
 */
struct stream_source;

struct comeback {
	struct lobby *lobby;
	/* Who it has to be: session, the token that it was told at first, the epoch of GO. */
	struct proto_hello who;
	const struct mem *mem;		/* the VM's */
	struct kuf *k;			/* of it, if libkuf has it */
	bool went;			/* GO came before; then there is no taking back */
	bool started;			/* comeback_start() */

	/* comeback_prepare() */
	pthread_t thread;
	bool has_thread;
	sem_t begin;
	int stop;			/* eventfd */
	/* comeback_start() */
	struct stream_source *source;
};

/*
 * Waits until it is there and has said GO on @main; all others are told that they are
 * wrong here.  @timeout_ms -1: for ever.  -ECONNABORTED after a message: it has taken the
 * VM back; -ETIMEDOUT and -ECANCELED.
 */
int comeback_wait(struct comeback *c, struct stream *main, struct stream *urgent,
		  int timeout_ms);

/*
 * A thread that does so again and again from comeback_start() on, which cannot fail, whether
 * or not the connections that there are were noticed to be cut, and gives them to @source.
 */
int comeback_prepare(struct comeback *c);
void comeback_start(struct comeback *c, struct stream_source *source);
/* Also for one that was never prepared, or started. */
void comeback_stop(struct comeback *c);

#endif /* KUF_COMEBACK_H */
