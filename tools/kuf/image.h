/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_IMAGE_H
#define KUF_IMAGE_H

#include <kuf/source.h>

#include "mem.h"

/*
 * A source of pages: a file that holds an image of all memory, and perhaps the CRC32C
 * of each page.  Pages of zeroes are told as such.  A page that is not what its
 * checksum says is an error, which names the offset into memory.
 *
 * Threads: what libkuf says of sources.  image_read_page() is for any thread.
 */

#define IMAGE_QUEUE	256
#define IMAGE_BUFFER	(16 * PAGE_SIZE)

struct image_request {
	u64 gpa, len;
};

struct image_queue {
	unsigned int first, nr;
	struct image_request requests[IMAGE_QUEUE];
};

struct image {
	int fd;			/* borrowed */
	u64 data_offset;	/* where in the file memory begins */
	struct mem layout;	/* only its size */
	const void *crcs;	/* of each page, as they were saved; NULL: there are none */

	struct image_queue urgent, background;
	u64 buffered, buffered_len;	/* offset into memory of what is in buffer */
	u8 buffer[IMAGE_BUFFER];
};

void image_init(struct image *image, int fd, u64 data_offset, u64 mem_size, const void *crcs);
const struct kuf_source_ops *image_ops(const struct image *image);

/* One page at @offset of memory, checked: -EBADMSG, or -errno, after a message. */
int image_read_page(const struct image *image, u64 offset, void *page);

/* A page of zeroes? */
bool page_is_zero(const void *page);

#endif /* KUF_IMAGE_H */
