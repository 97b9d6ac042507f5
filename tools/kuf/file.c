// SPDX-License-Identifier: GPL-2.0
/*
 * Files: all or nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "file.h"

int file_read(int fd, void *data, u64 size, u64 offset)
{
	ssize_t n;

	for (; size; data = (u8 *)data + n, size -= n, offset += n) {
		n = pread(fd, data, size, offset);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return n ? -errno : -ENODATA;
	}
	return 0;
}

int file_write(int fd, const void *data, u64 size, u64 offset)
{
	ssize_t n;

	for (; size; data = (const u8 *)data + n, size -= n, offset += n) {
		n = pwrite(fd, data, size, offset);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return n ? -errno : -EIO;
	}
	return 0;
}

int file_new_begin(struct file_new *f, const char *path)
{
	f->path = path;
	if (snprintf(f->tmp, sizeof(f->tmp), "%s.XXXXXX", path) >= (int)sizeof(f->tmp))
		return kuf_error(-ENAMETOOLONG, "%s", path);
	f->fd = mkostemp(f->tmp, O_CLOEXEC);
	return f->fd < 0 ? kuf_error(-errno, "%s", f->tmp) : 0;
}

static int sync_directory(const char *path)
{
	char copy[PATH_MAX];
	int fd, err;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = fsync(fd) ? -errno : 0;
	close(fd);
	return err;
}

int file_new_end(struct file_new *f, int err)
{
	if (!err && fsync(f->fd))
		err = kuf_error(-errno, "fsync of %s", f->tmp);
	close(f->fd);
	if (!err && rename(f->tmp, f->path))
		err = kuf_error(-errno, "%s", f->path);
	if (err) {
		unlink(f->tmp);
		return err;
	}
	/* It is complete whether or not its name outlasts a crash of the host. */
	err = sync_directory(f->path);
	return err ? kuf_error(err, "the directory of %s", f->path) : 0;
}
