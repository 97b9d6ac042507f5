/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_REMOTE_PRIVATE_H
#define KUF_REMOTE_PRIVATE_H

#include <pthread.h>

#include "packet.h"
#include "pager.h"

/* What remote.c, which watches a kuf pager, and remote_connect.c, which gets one, share. */

#define MS			1000000ull
#define REMOTE_SILENT_MS	3000	/* so long without an answer: it does not answer */

struct remote {
	/* For the thread alone, once it is there. */
	int socket;		/* -1: there is no pager */
	u32 peer;		/* its number, of kuf_export() */
	int uffd;		/* for the next one, or -1 */
	struct kuf_export ex;	/* the same */
	int replay;		/* entries of a recording, or -1 */
	u64 pinged_ns;		/* 0: all pings were answered */
	u64 ping_ns;		/* when the next one is due */
	char why[PACKET_TEXT];	/* an attempt failed */

	pthread_mutex_t lock;	/* all below */
	enum remote_state state;
	pid_t pid;
	unsigned int pagers;
	u64 since_ns;
	struct kuf_stats past;	/* of those who are gone */
	u64 uncounted;
};

static inline const struct remote_config *remote_config_of(const struct pager *p)
{
	return &p->config.remote;
}

/*
 * One attempt to get a pager, or another one: it serves then.  -errno, and r->why; -ETIMEDOUT
 * too; -ECANCELED: the VM ends.  @timeout_ms -1: for ever.
 */
int remote_connect(struct pager *p, int timeout_ms);
/* One packet; -ECANCELED: @stop can be read; -ETIMEDOUT; -EPIPE: the end; -EPROTO. */
int remote_hear(int fd, struct packet *packet, int timeout_ms, int stop);

#endif /* KUF_REMOTE_PRIVATE_H */
