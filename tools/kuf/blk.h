/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_BLK_H
#define KUF_BLK_H

#include <pthread.h>

#include "virtqueue.h"

#define BLK_GPA		0xd0000000ull
#define BLK_SIZE	0x1000ull
#define BLK_IRQ		5
/* What tells Linux where it is. */
#define BLK_CMDLINE	"virtio_mmio.device=4K@0xd0000000:5"

/* A disk: virtio-blk behind virtio-mmio (version 2), with a thread of its own. */
struct blk {
	struct vm *vm;
	const char *path;
	int fd;			/* -1: let go */
	u64 sectors;

	pthread_mutex_t lock;	/* all below */
	pthread_cond_t cond;
	pthread_t thread;
	bool has_thread;
	bool stop, kicked, broken;
	bool busy;		/* the thread works, without the lock */
	bool paused;		/* it takes no further request */
	bool more;		/* the thread's: it has left requests in the queue */
	u64 requests;
	unsigned int latency_us;	/* of each request, for the sake of it */

	/* Registers. */
	u32 status, isr, device_features_sel, driver_features_sel, queue_sel;
	u64 driver_features;
	struct virtqueue queue;
};

/* Opens @path and plugs the device in; its thread begins to wait for requests. */
int blk_start(struct blk *blk, struct vm *vm, const char *path);
/*
 * Returns when no request is at work; those that the guest has queued stay there.
 * Also for one that was never started.
 */
void blk_pause(struct blk *blk);
void blk_resume(struct blk *blk);
/* While it is paused: what was written is durable, for another host to go on with it. */
int blk_sync(struct blk *blk);
/* After that: the file is closed. */
void blk_let_go(struct blk *blk);
/* While it is paused, and was not used yet: what another host wrote is to be seen. */
int blk_reopen(struct blk *blk);
/* While it is paused: requests that the guest waits for; 0 if there is no sound queue. */
unsigned int blk_in_flight(struct blk *blk);
/* After the vCPUs; also for one that was never started. */
void blk_stop(struct blk *blk);

/* blk_mmio.c: for struct bus_range. */
void blk_access(void *dev, u64 offset, void *data, u32 len, bool write);
/* With the lock: sets interrupt bits and raises the line. */
void blk_interrupt(struct blk *blk, u32 bits);

#endif /* KUF_BLK_H */
