/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KUF_FILE_H
#define KUF_FILE_H

#include <limits.h>

#include "kuf.h"

/* All of it, or -errno: -ENODATA at the end of the file; without a message. */
int file_read(int fd, void *data, u64 size, u64 offset);
int file_write(int fd, const void *data, u64 size, u64 offset);

/*
 * A file that gets its name once it is complete and on the disk; until then there is
 * what there was before.
 */
struct file_new {
	const char *path;
	char tmp[PATH_MAX];
	int fd;
};

/* -errno after a message. */
int file_new_begin(struct file_new *f, const char *path);
/*
 * @err: of whoever wrote it; unless it is 0 the file is dropped, and @err returned.
 * -errno after a message.
 */
int file_new_end(struct file_new *f, int err);

#endif /* KUF_FILE_H */
