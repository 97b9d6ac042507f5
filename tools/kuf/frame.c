// SPDX-License-Identifier: GPL-2.0
/*
 * Frames: each length is checked against what is there before it is believed.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "frame.h"

static_assert(sizeof(struct frame_file) == 128, "what is in files");
static_assert(sizeof(struct frame) == 16, "what is in files");

static u32 frame_crc(const struct frame *frame, const void *data)
{
	struct frame head = *frame;

	head.crc = 0;
	return crc32c(crc32c(0, &head, sizeof(head)), data, head.length);
}

static u32 file_crc(const struct frame_file *file)
{
	struct frame_file head = *file;

	head.crc = 0;
	return crc32c(0, &head, sizeof(head));
}

int frame_add(struct frame_writer *w, u16 type, u16 version, u32 instance, const void *data,
	      u64 length)
{
	struct frame frame = { type, version, instance, length };
	u64 need = w->size + sizeof(frame) + length, room = w->room ?: PAGE_SIZE;
	u8 *p;

	if (length > FRAME_MAX || need > FRAMES_MAX)
		return -E2BIG;
	while (room < need)
		room *= 2;
	if (room != w->room) {
		p = realloc(w->data, room);
		if (!p)
			return -ENOMEM;
		w->data = p;
		w->room = room;
	}
	frame.crc = frame_crc(&frame, data);
	memcpy(w->data + w->size, &frame, sizeof(frame));
	memcpy(w->data + w->size + sizeof(frame), data, length);
	w->size = need;
	w->nr++;
	return 0;
}

void frame_writer_free(struct frame_writer *w)
{
	free(w->data);
	*w = (struct frame_writer){};
}

void frame_file_seal(struct frame_file *file, const struct frame_writer *w)
{
	memcpy(file->magic, FRAME_MAGIC, sizeof(file->magic));
	file->version = FRAME_VERSION;
	file->size = sizeof(*file);
	file->required = FRAME_REQUIRED;
	file->frames_size = w->size;
	file->nr_frames = w->nr;
	file->crc = file_crc(file);
}

int frame_file_check(const struct frame_file *file, u64 file_size)
{
	if (memcmp(file->magic, FRAME_MAGIC, sizeof(file->magic)))
		return kuf_error(0, "this is no saved VM, or one that was not written to its end");
	if (file->version != FRAME_VERSION || file->size != sizeof(*file))
		return kuf_error(0, "a saved VM of version %u; this kuf reads version %u",
				 file->version, FRAME_VERSION);
	if (file->crc != file_crc(file))
		return kuf_error(0, "the header is damaged (CRC32C)");
	if (file->required & ~FRAME_REQUIRED)
		return kuf_error(0, "needs features 0x%llx, which this kuf does not have",
				 (unsigned long long)(file->required & ~FRAME_REQUIRED));
	if (!(file->required & FRAME_REQUIRED_MEMORY))
		return kuf_error(0, "there is no memory in it");
	if (file->file_size != file_size)
		return kuf_error(0, "%llu bytes long instead of %llu: was it cut off?",
				 (unsigned long long)file_size,
				 (unsigned long long)file->file_size);
	if (file->frames_size > FRAMES_MAX || file->data_offset % PAGE_SIZE ||
	    file->data_offset > file_size ||
	    file->data_offset < sizeof(*file) + file->frames_size)
		return kuf_error(0, "the header does not make sense");
	return 0;
}

int frame_next(struct frame_reader *r, struct frame *frame, const void **data)
{
	u64 left = r->size - r->pos;

	if (!left)
		return 0;
	if (left < sizeof(*frame))
		return -EBADMSG;
	memcpy(frame, r->data + r->pos, sizeof(*frame));
	left -= sizeof(*frame);
	if (frame->length > FRAME_MAX || frame->length > left)
		return -EBADMSG;
	*data = r->data + r->pos + sizeof(*frame);
	if (frame->crc != frame_crc(frame, *data))
		return -EBADMSG;
	r->pos += sizeof(*frame) + frame->length;
	return 1;
}
