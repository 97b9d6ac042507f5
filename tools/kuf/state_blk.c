// SPDX-License-Identifier: GPL-2.0
/*
 * The disk's registers and queue.  Requests that the guest has queued and the disk
 * has not begun are in the guest's memory, and are begun by whoever goes on.
 */
#include <errno.h>
#include <string.h>

#include "state.h"

struct saved {
	u64 sectors;
	u64 requests;
	u64 driver_features;
	u64 desc, avail, used;
	u32 status, isr, device_features_sel, driver_features_sel, queue_sel;
	u32 queue_size;
	u16 next_avail, next_used;
	u8 ready, kicked, broken, reserved;
};

static int save(struct machine *m, u32 instance, void *data)
{
	struct blk *blk = &m->blk;
	const struct virtqueue *q = &blk->queue;
	struct saved *s = data;

	if (!m->has_blk)
		return 0;
	pthread_mutex_lock(&blk->lock);
	*s = (struct saved){
		.sectors = blk->sectors, .requests = blk->requests,
		.driver_features = blk->driver_features,
		.desc = q->desc, .avail = q->avail, .used = q->used,
		.status = blk->status, .isr = blk->isr,
		.device_features_sel = blk->device_features_sel,
		.driver_features_sel = blk->driver_features_sel,
		.queue_sel = blk->queue_sel,
		.queue_size = q->size, .next_avail = q->next_avail, .next_used = q->next_used,
		.ready = q->ready, .kicked = blk->kicked, .broken = blk->broken,
	};
	pthread_mutex_unlock(&blk->lock);
	return sizeof(*s);
}

static int load(struct machine *m, u32 instance, const void *data, u32 length)
{
	struct blk *blk = &m->blk;
	struct saved s;

	memcpy(&s, data, sizeof(s));
	if (s.sectors != blk->sectors)
		return kuf_error(0, "the disk has %llu sectors instead of %llu",
				 (unsigned long long)blk->sectors, (unsigned long long)s.sectors);
	pthread_mutex_lock(&blk->lock);
	blk->requests = s.requests;
	blk->driver_features = s.driver_features;
	blk->status = s.status;
	blk->isr = s.isr;
	blk->device_features_sel = s.device_features_sel;
	blk->driver_features_sel = s.driver_features_sel;
	blk->queue_sel = s.queue_sel;
	blk->kicked = s.kicked;
	blk->broken = s.broken;
	blk->queue.size = s.queue_size;
	blk->queue.desc = s.desc;
	blk->queue.avail = s.avail;
	blk->queue.used = s.used;
	blk->queue.next_avail = s.next_avail;
	blk->queue.next_used = s.next_used;
	blk->queue.ready = s.ready && virtqueue_is_sound(&blk->queue);
	pthread_mutex_unlock(&blk->lock);
	if (s.ready > 1 || s.kicked > 1 || s.broken > 1 || s.reserved ||
	    s.queue_size > VIRTQUEUE_MAX || blk->queue.ready != s.ready)
		return kuf_error(0, "the disk's state does not make sense");
	return 0;
}

const struct state_group state_blk = {
	.type = STATE_BLK, .version = 1, .name = "disk",
	.min = sizeof(struct saved), .max = sizeof(struct saved), .save = save, .load = load,
};
