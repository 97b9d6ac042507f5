/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_REMOTE_H
#define KUF_REMOTE_H

#include <sys/types.h>

#include "kuf.h"

/*
 * PAGER_UNIX: another kuf, kuf pager, serves (packet.h).  When it is gone its claims are
 * taken away, vCPUs stay where they are (KVM_USERFAULT_FD_STALL), and whoever comes to
 * its socket next gets a userfault fd of his own (KVM_USERFAULT_FD_REPLACE), with all that
 * is waited for.  It is only gone when the socket is at its end: one that does not answer
 * may still be about to write to a page that it claimed.
 *
 * Threads: remote_start() is called by the one that starts the pager; then there is one
 * that connects and watches, until server_stop().  The others are for any thread.
 */
struct pager;
struct kuf_stats;

enum remote_state {
	REMOTE_NONE,		/* there is no such pager */
	REMOTE_SERVES,
	REMOTE_SILENT,		/* it is there, and does not answer */
	REMOTE_GONE,		/* another one is waited for */
};

struct remote_status {
	u32 state;		/* enum remote_state */
	s32 pid;		/* of the last one */
	u32 pagers;		/* so many so far */
	u32 reserved;
	u64 since_ns;		/* when it came, was last heard of, or went: by its state */
	char path[108];		/* as in struct sockaddr_un */
};

struct remote_config {
	const char *path;	/* of its socket */
	unsigned int timeout_s;	/* how long to wait for another one; 0: for ever */
	int file;		/* the saved VM that pages come from; borrowed */
	u8 session[16];		/* which VM that is */
};

#define REMOTE_TIMEOUT_S	60

/* Before anything else is made: is there a pager at all?  -errno after a message. */
int remote_check(const struct remote_config *config);
/* Connects, and has it serve.  -errno after a message. */
int remote_start(struct pager *p);
void remote_get_status(struct pager *p, struct remote_status *status);
/*
 * Adds what all of them counted to @stats; *uncounted are pages that were filled by
 * those who died before they said so.
 */
void remote_add_stats(struct pager *p, struct kuf_stats *stats, u64 *uncounted);
void remote_release(struct pager *p);

#endif /* KUF_REMOTE_H */
