/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_VIRTQUEUE_H
#define KUF_VIRTQUEUE_H

#include "kuf.h"

#define VIRTQUEUE_MAX	128

struct vm;

/* A split ring of the guest's (virtio 1.1, 2.6). */
struct virtqueue {
	struct vm *vm;
	u32 size;
	bool ready;
	u64 desc, avail, used;	/* guest addresses */
	u16 next_avail;		/* what was taken */
	u16 next_used;		/* what was given back */
};

/* May it be used, as far as its numbers say? */
static inline bool virtqueue_is_sound(const struct virtqueue *q)
{
	return q->size && q->size <= VIRTQUEUE_MAX && !(q->size & (q->size - 1)) &&
	       !(q->desc % 16) && !(q->avail % 2) && !(q->used % 4);
}

/* A buffer, in this process. */
struct virtbuf {
	void *ptr;		/* NULL: a page of it is poisoned */
	u32 len;
	bool write;		/* for the device to write */
};

/* How many chains there are to be taken, or -errno. */
int virtqueue_pending(struct virtqueue *q);

/*
 * Takes the next chain of buffers: how many of @bufs it fills, 0 if there is none,
 * or -errno when the guest's ring is not sound.  @head is for virtqueue_put().
 */
int virtqueue_take(struct virtqueue *q, struct virtbuf *bufs, u16 *head);
/* Gives it back; @written bytes are new. */
int virtqueue_put(struct virtqueue *q, u16 head, u32 written);
/* Does the guest want an interrupt for that?  -errno. */
int virtqueue_wants_irq(struct virtqueue *q);

#endif /* KUF_VIRTQUEUE_H */
