/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_SNAPSHOT_H
#define KUF_SNAPSHOT_H

#include "image.h"
#include "machine.h"
#include "state.h"

/*
 * A saved VM in a file: header, frames, and then all of memory, with holes where it is
 * zero.  The file has its name once it is complete and on the disk.
 */

/* Of a machine that is paused; all of its absent pages are made present for that. */
int snapshot_write(struct machine *m, const char *path);

struct snapshot {
	int fd;
	struct frame_file file;
	void *frames;
	struct state state;
};

/* Reads all but the memory, and checks it. */
int snapshot_open(struct snapshot *s, const char *path);
/* The same for an open file, which is the snapshot's then; @path is for messages. */
int snapshot_open_fd(struct snapshot *s, int fd, const char *path);
/*
 * As a source of pages, whose checksums are verified; until snapshot_close().  The
 * file is not to be written meanwhile.
 */
void snapshot_image(const struct snapshot *s, struct image *image);
/* All of memory at once. */
int snapshot_load_memory(const struct image *image, struct mem *mem);
/* Also after an error of snapshot_open(). */
void snapshot_close(struct snapshot *s);

#endif /* KUF_SNAPSHOT_H */
