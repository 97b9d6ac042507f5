/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_PAGER_H
#define KUF_PAGER_H

#include <pthread.h>
#include <sys/types.h>

#include "kuf.h"
#include "mem.h"
#include "pager_config.h"

/* In shared memory: the VMM looks at them when the pager has ended. */
struct pager_counts {
	u64 events;		/* from the userfault fd */
	u64 exits;		/* of vCPUs, instead */
	u64 own;		/* of both: KVM's own accesses */
	u64 walks;		/* of both: walks of the guest's page tables */
	u64 asked;		/* by the VMM's devices */
	u64 repeated;		/* of all: the page was there already */
	u64 served;		/* pages */
	u8 times[];		/* that each page was served */
};

/* A file that holds an image of all memory. */
struct pager_source {
	void *map;		/* of the whole file */
	u64 map_size;
	u64 data_offset;	/* where in the file memory begins */
	u64 crc_offset;		/* the CRC32C of each page; 0: there are none */
};

struct pager {
	enum pager_mode mode;
	struct mem mem;		/* a view: nothing of it is the pager's */
	struct pager_source source;
	int uffd;
	/*
	 * Where the content goes when mem.area is the VMM's and this is another
	 * process: its memory as a file.  -1: into mem.area.
	 */
	int remote_fd;

	/* In the VMM, with the pager in another process: where to ask it.  Else -1. */
	int ask_fd;

	pthread_mutex_t lock;	/* whoever fills, or asks */
	struct pager_counts *counts;
};

u64 pager_counts_size(u64 mem_size);

/* The page at @offset of memory: -EBADMSG, after a message, if it is not what was saved. */
int pager_source_page(const struct pager_source *source, u64 offset, const u8 **page);

/*
 * Serves events, and what is asked for by @control_fd, until the userfault fd is at
 * its end, or @control_fd is, or can be read without being a socket.
 */
int pager_serve(struct pager *pager, int control_fd);

/* In the VMM, any thread: returns when the page at @gpa is present. */
int pager_need(struct pager *pager, u64 gpa);

/* A vCPU's exit. */
static inline bool pager_fills_exits(const struct pager *pager)
{
	return pager->mode == PAGER_EXIT;
}

int pager_exit(struct pager *pager, u64 gpa, u64 flags);

/*
 * With the pager at rest: prints what it did, and checks that the pages whose bit
 * is clear were served, just once, and no others.  -EIO if not.
 */
int pager_report(const struct pager *pager);

#endif /* KUF_PAGER_H */
