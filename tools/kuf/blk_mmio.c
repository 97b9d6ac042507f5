// SPDX-License-Identifier: GPL-2.0
/*
 * The registers of the disk: virtio over MMIO (virtio 1.1, 4.2).
 */
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <string.h>

#include "blk.h"
#include "vm.h"

#define MAGIC	0x74726976	/* "virt" */
#define VENDOR	0x2046554b	/* "KUF " */

#define FEATURES	(BIT_ULL(VIRTIO_F_VERSION_1) | BIT_ULL(VIRTIO_BLK_F_FLUSH))

void blk_interrupt(struct blk *blk, u32 bits)
{
	bool level = blk->isr;

	blk->isr |= bits;
	if (!level && blk->isr)
		vm_irq(blk->vm, BLK_IRQ, true);
}

/* The line is one of edges: bits that came since the driver looked need one of their own. */
static void acknowledge(struct blk *blk, u32 bits)
{
	if (!(blk->isr & bits))
		return;
	vm_irq(blk->vm, BLK_IRQ, false);
	blk->isr &= ~bits;
	if (blk->isr)
		vm_irq(blk->vm, BLK_IRQ, true);
}

/* With the lock.  What the thread has begun it finishes first. */
static void reset(struct blk *blk)
{
	blk->queue.ready = false;
	while (blk->busy)
		pthread_cond_wait(&blk->cond, &blk->lock);
	if (blk->isr)
		vm_irq(blk->vm, BLK_IRQ, false);
	blk->status = 0;
	blk->isr = 0;
	blk->kicked = false;
	blk->broken = false;
	blk->device_features_sel = 0;
	blk->driver_features_sel = 0;
	blk->driver_features = 0;
	blk->queue_sel = 0;
	blk->queue = (struct virtqueue){ .vm = blk->vm };
}

static void set_half(u64 *address, bool high, u32 value)
{
	if (high)
		*address = (u32)*address | (u64)value << 32;
	else
		*address = (*address & ~0xffffffffull) | value;
}

/* An unsound queue is not used: QUEUE_READY reads as 0. */
static void set_ready(struct blk *blk, u32 value)
{
	struct virtqueue *q = &blk->queue;

	q->ready = value == 1 && virtqueue_is_sound(q);
}

static void write_queue(struct blk *blk, u64 reg, u32 value)
{
	struct virtqueue *q = &blk->queue;

	if (blk->queue_sel || (q->ready && reg != VIRTIO_MMIO_QUEUE_READY))
		return;
	switch (reg) {
	case VIRTIO_MMIO_QUEUE_NUM:
		q->size = value <= VIRTQUEUE_MAX ? value : 0;
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		set_ready(blk, value);
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_half(&q->desc, reg == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_half(&q->avail, reg == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_half(&q->used, reg == VIRTIO_MMIO_QUEUE_USED_HIGH, value);
		break;
	}
}

static void write_reg(struct blk *blk, u64 reg, u32 value)
{
	switch (reg) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		blk->device_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		blk->driver_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		if (blk->driver_features_sel < 2)
			set_half(&blk->driver_features, blk->driver_features_sel, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		blk->queue_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		blk->kicked = true;
		pthread_cond_broadcast(&blk->cond);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		acknowledge(blk, value);
		break;
	case VIRTIO_MMIO_STATUS:
		if (!value) {
			reset(blk);
			break;
		}
		/* Features that were not offered: the driver sees the bit missing. */
		if (blk->driver_features & ~FEATURES ||
		    !(blk->driver_features & BIT_ULL(VIRTIO_F_VERSION_1)))
			value &= ~VIRTIO_CONFIG_S_FEATURES_OK;
		blk->status = value | (blk->broken ? VIRTIO_CONFIG_S_NEEDS_RESET : 0);
		break;
	default:
		write_queue(blk, reg, value);
		break;
	}
}

static u32 read_reg(struct blk *blk, u64 reg)
{
	switch (reg) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return 2;
	case VIRTIO_MMIO_DEVICE_ID:
		return VIRTIO_ID_BLOCK;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return blk->device_features_sel < 2 ?
		       FEATURES >> (32 * blk->device_features_sel) : 0;
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return blk->queue_sel ? 0 : VIRTQUEUE_MAX;
	case VIRTIO_MMIO_QUEUE_READY:
		return !blk->queue_sel && blk->queue.ready;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return blk->isr;
	case VIRTIO_MMIO_STATUS:
		return blk->status;
	}
	/* No shared memory regions, and a configuration that never changes. */
	return reg >= VIRTIO_MMIO_SHM_LEN_LOW && reg <= VIRTIO_MMIO_SHM_BASE_HIGH ? ~0u : 0;
}

static void read_config(struct blk *blk, u64 offset, void *data, u32 len)
{
	struct virtio_blk_config config = { .capacity = blk->sectors };

	memset(data, 0, len);
	if (offset < sizeof(config))
		memcpy(data, (u8 *)&config + offset,
		       len < sizeof(config) - offset ? len : sizeof(config) - offset);
}

void blk_access(void *dev, u64 offset, void *data, u32 len, bool write)
{
	struct blk *blk = dev;
	u32 value = 0;

	pthread_mutex_lock(&blk->lock);
	if (offset >= VIRTIO_MMIO_CONFIG) {
		if (!write)
			read_config(blk, offset - VIRTIO_MMIO_CONFIG, data, len);
	} else if (len != 4 || offset % 4) {
		/* All registers have 32 bits. */
		if (!write)
			memset(data, 0, len);
	} else if (write) {
		memcpy(&value, data, sizeof(value));
		write_reg(blk, offset, value);
	} else {
		value = read_reg(blk, offset);
		memcpy(data, &value, sizeof(value));
	}
	pthread_mutex_unlock(&blk->lock);
}
