/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_FRAME_H
#define KUF_FRAME_H

#include "kuf.h"

/*
 * What a saved VM is packed in: a header, and then frames, each of a type, with a
 * checksum.  All numbers are little endian.
 */
#define FRAME_MAGIC	"KUFSTATE"
#define FRAME_VERSION	1

/* Features that a reader has to know, or else it must not read on. */
#define FRAME_REQUIRED_MEMORY	BIT_ULL(0)	/* pages, and a frame with their checksums */
#define FRAME_REQUIRED		FRAME_REQUIRED_MEMORY

struct frame_file {
	u8 magic[8];
	u32 version;
	u32 size;		/* of this header */
	u64 required;
	u64 optional;		/* features that a reader may ignore */
	u8 session[16];		/* of the VM, from its boot on */
	u64 frames_size;	/* from the header's end on */
	u64 data_offset;	/* of guest memory, a multiple of PAGE_SIZE */
	u64 file_size;
	u32 nr_frames;
	u32 crc;		/* of all this, with 0 here */
	u8 reserved[48];
};

struct frame {
	u16 type;
	u16 version;		/* of what it holds */
	u32 instance;		/* which vCPU */
	u32 length;		/* without this */
	u32 crc;		/* of this, with 0 here, and then what it holds */
};

/* A reader that does not know the type goes on. */
#define FRAME_OPTIONAL	0x8000

/* Caps: on all frames together, and on one of them. */
#define FRAMES_MAX	(160u << 20)
#define FRAME_MAX	(128u << 20)

/* Frames to be written, in memory that grows. */
struct frame_writer {
	u8 *data;
	u64 size, room;
	u32 nr;
};

/* -ENOMEM, or -E2BIG: beyond the caps. */
int frame_add(struct frame_writer *w, u16 type, u16 version, u32 instance, const void *data,
	      u64 length);
void frame_writer_free(struct frame_writer *w);

/* Fills in all of @file but what the caller knows: session, data_offset, file_size. */
void frame_file_seal(struct frame_file *file, const struct frame_writer *w);

/*
 * Is this a header to be read on from, of a file of @file_size bytes?  -EINVAL
 * after an error message.
 */
int frame_file_check(const struct frame_file *file, u64 file_size);

/* Frames to be read. */
struct frame_reader {
	const u8 *data;
	u64 size, pos;
};

/*
 * The next one: 1, and @frame and @data say what it is; 0 at the end; -EBADMSG,
 * without a message, when it is damaged, or beyond the caps.
 */
int frame_next(struct frame_reader *r, struct frame *frame, const void **data);

#endif /* KUF_FRAME_H */
