/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_PAGERD_H
#define KUF_PAGERD_H

#include "bucket.h"
#include "packet.h"
#include "pager.h"
#include "snapshot.h"

/*
 * kuf pager: a process that gives VMs of others their pages, from the files that they
 * were saved to.  It keeps nothing that its successor would need: which pages are
 * absent, and who waits for one, is in memory that the VMs have, and in KVM.
 *
 * One thread, in rounds.  In each round every VM gets what it waits for, up to a budget,
 * whoever is first changing from round to round; and after all of them at most
 * PAGERD_CHUNK pages that nobody waits for go to the VM that had the fewest of those.
 * So a page that somebody waits for waits itself for no more than
 *	PAGERD_CHUNK + (VMs - 1) * PAGERD_URGENT
 * pages of others, and those of its own VM that were needed before it.  --bandwidth is
 * for all that nobody waits for.
 *
 * Memory: struct pagerd_vm for each VM that there may be, allocated at the beginning;
 * for each VM that there is, the state frames of its file, with 4 bytes a page of its
 * memory (FRAMES_MAX at most), and libkuf's context.  The guest's memory is mapped,
 * and the VM's.
 */
#define PAGERD_VMS		64	/* unless --max-vms says otherwise */
#define PAGERD_VMS_MAX		1024
#define PAGERD_LOBBY		8	/* who has come, and not said what he wants */
#define PAGERD_TURN		(IMAGE_BUFFER / PAGE_SIZE)
#define PAGERD_CHUNK		(2 * PAGERD_TURN - 1)	/* the last reply may be a whole one */
#define PAGERD_URGENT		64	/* pages for one VM in a round */
#define PAGERD_HELLO_MS		10000	/* to say it, and then to say GO */

enum pagerd_state {
	PAGERD_FREE,
	PAGERD_CAME,		/* HELLO is awaited */
	PAGERD_READY,		/* GO is */
	PAGERD_SERVED,
};

struct pagerd;

struct pagerd_vm {
	enum pagerd_state state;
	int socket;
	pid_t pid;
	u64 came_ns;
	bool ended;		/* it is to be dropped */

	struct pager pager;	/* policy, and what is shared: as in a forked process */
	struct kuf *k;
	int uffd;
	u32 dead;		/* whose userfault fd this was, or 0 */
	struct snapshot snapshot;
	struct image image;
	void *replay;
	size_t replay_size;

	bool work;		/* it has some, whatever poll() says */
	bool turn;		/* it may have what nobody waits for, */
	u64 turn_bytes;		/* and had so much */
	u64 background_bytes;	/* all in all, and what it did not ask for when others did */
	unsigned int first_fd, nr_fds;
};

struct pagerd_options {
	const char *path;
	u64 bandwidth;		/* 0: no limit */
	unsigned int max_vms;
};

struct pagerd {
	struct pagerd_options options;
	int listen_fd;
	int signals;		/* signalfd, or -1 */
	int spare;		/* to be closed when there are too many files */
	u64 dev, ino;		/* of the socket */
	struct pagerd_vm *vms;
	unsigned int nr_slots;
	struct pollfd *fds;
	unsigned int max_fds;
	struct bucket bucket;
	unsigned int first;	/* who is first in this round */
	u64 background_bytes;	/* of whoever had a turn last */
};

/* -errno after a message; pagerd_close() is right after that, too. */
int pagerd_open(struct pagerd *d, const struct pagerd_options *options);
/* Has SIGTERM and SIGINT end it. */
int pagerd_catch_signals(struct pagerd *d);
/*
 * A round, which begins with waiting for something to be done, up to @timeout_ms (-1: for
 * ever).  1: a signal came.  -errno after a message: it cannot go on.
 */
int pagerd_round(struct pagerd *d, int timeout_ms);
/* VMs that are there are told to wait for another pager. */
void pagerd_close(struct pagerd *d);

/* pagerd_admit.c: takes HELLO.  -errno: it was refused, after a message on both sides. */
int pagerd_admit(struct pagerd *d, struct pagerd_vm *vm);
/* What it has of the VM; not the socket. */
void pagerd_vm_release(struct pagerd_vm *vm);

/* pagerd_serve.c: what is asked of it, in @vm's name. */
extern const struct kuf_source_ops pagerd_ops;
/*
 * What it waits for; with @background a turn of what nobody waits for.  -errno: it cannot
 * be served, and neither could it by another pager.  Sets vm->ended when it is not there
 * any more.
 */
int pagerd_serve(struct pagerd_vm *vm, bool background);
/*
 * Calls @f.  The VM may take memory away that it had shared: -EFAULT then (SIGBUS), and
 * the context is only good to be destroyed.
 */
int pagerd_guard(int (*f)(struct pagerd_vm *vm, void *arg), struct pagerd_vm *vm, void *arg);

#endif /* KUF_PAGERD_H */
