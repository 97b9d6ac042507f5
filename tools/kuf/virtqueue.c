// SPDX-License-Identifier: GPL-2.0
/*
 * Rings of buffers between the guest and a device.  The guest may write anything
 * into them at any time: each field is read once, and then checked.
 */
#include <errno.h>
#include <linux/virtio_ring.h>

#include "dma.h"
#include "virtqueue.h"

static struct vring_desc read_desc(struct vring_desc *desc)
{
	return (struct vring_desc){
		.addr = READ_ONCE(desc->addr),
		.len = READ_ONCE(desc->len),
		.flags = READ_ONCE(desc->flags),
		.next = READ_ONCE(desc->next),
	};
}

int virtqueue_pending(struct virtqueue *q)
{
	struct vring_avail *avail;
	void *p;
	u16 nr;
	int err;

	err = dma_map(q->vm, q->avail, sizeof(*avail), false, &p);
	if (err)
		return err;
	avail = p;
	/* Acquire: what the entries stand for was written before the index. */
	nr = __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE) - q->next_avail;
	return nr > q->size ? -EPROTO : nr;
}

int virtqueue_take(struct virtqueue *q, struct virtbuf *bufs, u16 *head)
{
	struct vring_avail *avail;
	struct vring_desc *table;
	void *p;
	int n, err;
	u16 index;

	n = virtqueue_pending(q);
	if (n <= 0)
		return n;
	err = dma_map(q->vm, q->avail, sizeof(*avail) + q->size * sizeof(u16), false, &p);
	if (err)
		return err;
	avail = p;
	index = READ_ONCE(avail->ring[q->next_avail % q->size]);
	*head = index;

	err = dma_map(q->vm, q->desc, q->size * sizeof(*table), false, &p);
	if (err)
		return err;
	table = p;
	for (n = 0; n < (int)q->size; n++) {
		struct vring_desc desc;

		if (index >= q->size)
			return -EPROTO;
		desc = read_desc(&table[index]);
		if (desc.flags & VRING_DESC_F_INDIRECT || !desc.len)
			return -EPROTO;
		bufs[n].len = desc.len;
		bufs[n].write = desc.flags & VRING_DESC_F_WRITE;
		bufs[n].ptr = NULL;
		err = dma_map(q->vm, desc.addr, desc.len, bufs[n].write, &bufs[n].ptr);
		/* That is this request's error alone. */
		if (err && err != -EHWPOISON)
			return err;
		if (!(desc.flags & VRING_DESC_F_NEXT)) {
			q->next_avail++;
			return n + 1;
		}
		index = desc.next;
	}
	/* A loop. */
	return -EPROTO;
}

int virtqueue_put(struct virtqueue *q, u16 head, u32 written)
{
	struct vring_used *used;
	void *p;
	int err;

	err = dma_map(q->vm, q->used, sizeof(*used) + q->size * sizeof(used->ring[0]), true, &p);
	if (err)
		return err;
	used = p;
	used->ring[q->next_used % q->size] = (struct vring_used_elem){ head, written };
	q->next_used++;
	/* The element and all data before the index. */
	__atomic_store_n(&used->idx, q->next_used, __ATOMIC_RELEASE);
	return 0;
}

int virtqueue_wants_irq(struct virtqueue *q)
{
	struct vring_avail *avail;
	void *p;
	int err;

	err = dma_map(q->vm, q->avail, sizeof(*avail), false, &p);
	if (err)
		return err;
	avail = p;
	/* The guest sets the flag, then looks at the used index; here it is the other way. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !(READ_ONCE(avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
}
