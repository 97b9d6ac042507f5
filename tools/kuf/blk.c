// SPDX-License-Identifier: GPL-2.0
/*
 * The disk's thread: takes requests from the queue and carries them out, one after
 * the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blk.h"
#include "guard.h"
#include "poison.h"
#include "vm.h"

#define SECTOR	512ull

/* What the kernel found to be broken is found here, too. */
static int look(void *arg)
{
	const struct virtbuf *buf = arg;
	u32 at;

	for (at = 0; at < buf->len; at++)
		READ_ONCE(((u8 *)buf->ptr)[at]);
	return 0;
}

static void find_broken(struct blk *blk, const struct virtbuf *buf)
{
	void *broken;

	if (guard_call(look, (void *)buf, &broken))
		vm_lost(blk->vm, broken);
}

/* All of a buffer, to or from the file. */
static int transfer(struct blk *blk, const struct virtbuf *buf, u64 offset, bool to_file)
{
	u32 done = 0;
	ssize_t n;

	/* Poisoned. */
	if (!buf->ptr)
		return -EIO;
	while (done < buf->len) {
		if (to_file)
			n = pwrite(blk->fd, buf->ptr + done, buf->len - done, offset + done);
		else
			n = pread(blk->fd, buf->ptr + done, buf->len - done, offset + done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EFAULT)
			find_broken(blk, buf);
		if (n <= 0)
			return -EIO;
		done += n;
	}
	return 0;
}

static u8 transfer_all(struct blk *blk, const struct virtbuf *bufs, int n, u64 sector,
		       bool to_file, u32 *written)
{
	u64 size = blk->sectors * SECTOR, offset = sector * SECTOR;
	int i;

	if (sector > blk->sectors)
		return VIRTIO_BLK_S_IOERR;
	for (i = 0; i < n; i++) {
		/* A read goes to buffers for the device to write, and the other way round. */
		if (bufs[i].write == to_file || bufs[i].len > size - offset ||
		    transfer(blk, &bufs[i], offset, to_file))
			return VIRTIO_BLK_S_IOERR;
		offset += bufs[i].len;
		*written += to_file ? 0 : bufs[i].len;
	}
	return VIRTIO_BLK_S_OK;
}

static u8 get_id(const struct virtbuf *bufs, int n, u32 *written)
{
	static const char id[VIRTIO_BLK_ID_BYTES] = "kuf";
	u32 len = n == 1 && bufs[0].write ? bufs[0].len : 0;

	if (!len || !bufs[0].ptr)
		return VIRTIO_BLK_S_IOERR;
	*written = len < sizeof(id) ? len : sizeof(id);
	memcpy(bufs[0].ptr, id, *written);
	return VIRTIO_BLK_S_OK;
}

/* Header, data, status: each in buffers of its own, as Linux has them. */
static int carry_out(struct blk *blk, const struct virtbuf *bufs, int n, u32 *written)
{
	struct virtio_blk_outhdr header;
	u8 status;

	if (n < 2 || bufs[0].write || bufs[0].len != sizeof(header) ||
	    !bufs[n - 1].write || bufs[n - 1].len != 1)
		return -EPROTO;
	/* There is no place for an answer: who looks for it there meets the poison. */
	if (!bufs[n - 1].ptr)
		return 0;
	memset(&header, 0xff, sizeof(header));
	if (bufs[0].ptr)
		memcpy(&header, bufs[0].ptr, sizeof(header));
	switch (header.type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		status = transfer_all(blk, bufs + 1, n - 2, header.sector,
				      header.type == VIRTIO_BLK_T_OUT, written);
		break;
	case VIRTIO_BLK_T_FLUSH:
		status = fdatasync(blk->fd) ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
		break;
	case VIRTIO_BLK_T_GET_ID:
		status = get_id(bufs + 1, n - 2, written);
		break;
	default:
		status = bufs[0].ptr ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
		break;
	}
	*(u8 *)bufs[n - 1].ptr = status;
	*written += 1;
	return 0;
}

/* What is not taken yet when the disk is paused stays in the guest's queue. */
static bool may_take(struct blk *blk)
{
	unsigned int latency_us = READ_ONCE(blk->latency_us);

	if (latency_us && !READ_ONCE(blk->paused))
		usleep(latency_us);
	return !READ_ONCE(blk->paused);
}

/* Without the lock: registers of the queue do not change while it is ready and busy. */
static int work(struct blk *blk)
{
	struct virtbuf bufs[VIRTQUEUE_MAX];
	int n = 0, did = 0, err;
	u32 written;
	u16 head;

	blk->more = false;
	while (may_take(blk) && (n = virtqueue_take(&blk->queue, bufs, &head)) > 0) {
		written = 0;
		err = carry_out(blk, bufs, n, &written);
		if (!err)
			err = virtqueue_put(&blk->queue, head, written);
		if (err)
			return err;
		did++;
		/* A slow one tells of each when it is done. */
		blk->more = READ_ONCE(blk->latency_us);
		if (blk->more)
			break;
	}
	blk->requests += did;
	if (n < 0)
		return n;
	return did ? virtqueue_wants_irq(&blk->queue) : 0;
}

static int work_guarded(void *arg)
{
	return work(arg);
}

/* The guest's queue may be in memory that is broken. */
static int guard_work(struct blk *blk)
{
	void *broken = NULL;
	int r = guard_call(work_guarded, blk, &broken);

	if (r == -EHWPOISON && broken)
		vm_lost(blk->vm, broken);
	return r;
}

static bool may_work(const struct blk *blk)
{
	return blk->kicked && !blk->paused && blk->queue.ready && !blk->broken &&
	       blk->status & VIRTIO_CONFIG_S_DRIVER_OK;
}

static void *serve(void *arg)
{
	struct blk *blk = arg;
	int r;

	pthread_mutex_lock(&blk->lock);
	while (!blk->stop) {
		if (!may_work(blk)) {
			pthread_cond_wait(&blk->cond, &blk->lock);
			continue;
		}
		blk->kicked = false;
		blk->busy = true;
		pthread_mutex_unlock(&blk->lock);
		r = guard_work(blk);
		pthread_mutex_lock(&blk->lock);
		blk->busy = false;
		/* There may be more in the queue. */
		blk->kicked |= blk->paused || blk->more;
		pthread_cond_broadcast(&blk->cond);
		if (r < 0) {
			kuf_error(r, "the disk: the guest's queue is not sound, or not to be had");
			blk->broken = true;
			blk->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
			blk_interrupt(blk, VIRTIO_MMIO_INT_CONFIG);
		} else if (r > 0) {
			blk_interrupt(blk, VIRTIO_MMIO_INT_VRING);
		}
	}
	pthread_mutex_unlock(&blk->lock);
	return NULL;
}

int blk_start(struct blk *blk, struct vm *vm, const char *path)
{
	struct bus_range range = { BLK_GPA, BLK_SIZE, blk_access, blk };
	struct stat st;
	int err;

	*blk = (struct blk){ .vm = vm, .path = path, .queue.vm = vm };
	pthread_mutex_init(&blk->lock, NULL);
	pthread_cond_init(&blk->cond, NULL);
	blk->fd = open(path, O_RDWR | O_CLOEXEC);
	if (blk->fd < 0)
		return kuf_error(-errno, "%s", path);
	if (fstat(blk->fd, &st) || !S_ISREG(st.st_mode) || st.st_size < (off_t)SECTOR) {
		err = kuf_error(0, "%s is no regular file of at least a sector", path);
		goto err_fd;
	}
	blk->sectors = st.st_size / SECTOR;
	err = bus_add(&vm->mmio, &range);
	if (err) {
		kuf_error(err, "the disk's registers");
		goto err_fd;
	}
	err = -pthread_create(&blk->thread, NULL, serve, blk);
	if (err) {
		kuf_error(err, "a thread for the disk");
		goto err_fd;
	}
	blk->has_thread = true;
	return 0;

err_fd:
	close(blk->fd);
	return err;
}

static void set_paused(struct blk *blk, bool paused)
{
	if (!blk->has_thread)
		return;
	pthread_mutex_lock(&blk->lock);
	__atomic_store_n(&blk->paused, paused, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&blk->cond);
	while (paused && blk->busy)
		pthread_cond_wait(&blk->cond, &blk->lock);
	pthread_mutex_unlock(&blk->lock);
}

void blk_pause(struct blk *blk)
{
	set_paused(blk, true);
}

void blk_resume(struct blk *blk)
{
	set_paused(blk, false);
}

static int pending(void *arg)
{
	return virtqueue_pending(arg);
}

unsigned int blk_in_flight(struct blk *blk)
{
	int nr = 0;

	if (!blk->has_thread)
		return 0;
	pthread_mutex_lock(&blk->lock);
	if (blk->queue.ready && !blk->broken)
		nr = guard_call(pending, &blk->queue, NULL);
	pthread_mutex_unlock(&blk->lock);
	return nr > 0 ? nr : 0;
}

int blk_sync(struct blk *blk)
{
	if (!blk->has_thread || blk->fd < 0 || !fdatasync(blk->fd))
		return 0;
	return kuf_error(-errno, "%s", blk->path);
}

void blk_let_go(struct blk *blk)
{
	if (!blk->has_thread || blk->fd < 0)
		return;
	close(blk->fd);
	blk->fd = -1;
}

int blk_reopen(struct blk *blk)
{
	struct stat st;
	int fd;

	if (!blk->has_thread)
		return 0;
	fd = open(blk->path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return kuf_error(-errno, "%s", blk->path);
	if (fstat(fd, &st) || st.st_size / SECTOR != blk->sectors) {
		close(fd);
		return kuf_error(0, "%s has another size now", blk->path);
	}
	close(blk->fd);
	blk->fd = fd;
	return 0;
}

void blk_stop(struct blk *blk)
{
	if (!blk->has_thread)
		return;
	pthread_mutex_lock(&blk->lock);
	blk->stop = true;
	pthread_cond_broadcast(&blk->cond);
	pthread_mutex_unlock(&blk->lock);
	pthread_join(blk->thread, NULL);
	blk->has_thread = false;
	if (blk->fd >= 0)
		close(blk->fd);
	kuf_say("disk: %llu requests", (unsigned long long)blk->requests);
}
