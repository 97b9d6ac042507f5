// SPDX-License-Identifier: GPL-2.0
/*
 * Recordings of the order in which pages were needed, as files.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "mem.h"
#include "recording.h"

/* What a VM of the largest size can have, and something for its header. */
#define MAX_ENTRIES	(MAX_MEM / PAGE_SIZE)
#define MAX_SIZE	((MAX_ENTRIES + 4) * sizeof(struct kuf_trace_entry))

int recording_write(const char *path, const struct kuf_trace_entry *entries, u64 nr)
{
	struct file_new f;
	void *bytes = NULL;
	size_t size;
	int err;

	err = kuf_trace_pack(entries, nr, NULL, 0, &size);
	if (err == -ENOSPC)
		bytes = malloc(size);
	if (!bytes)
		return kuf_error(-ENOMEM, "the recording of %llu pages", (unsigned long long)nr);
	err = kuf_trace_pack(entries, nr, bytes, size, &size);
	if (!err)
		err = file_new_begin(&f, path);
	if (!err) {
		err = file_write(f.fd, bytes, size, 0);
		if (err)
			kuf_error(err, "%s", f.tmp);
		err = file_new_end(&f, err);
	}
	free(bytes);
	return err;
}

static int parse(const char *path, const void *bytes, size_t size,
		 struct kuf_trace_entry **entries, u64 *nr)
{
	int err;

	/* Each one is of the size that it has here. */
	*entries = malloc(size);
	if (!*entries)
		return kuf_error(-ENOMEM, "memory for the recording %s", path);
	err = kuf_trace_parse(bytes, size, *entries, size / sizeof(**entries), nr);
	if (!err)
		return 0;
	free(*entries);
	*entries = NULL;
	return kuf_error(err, "%s is no recording, or damaged: --record=FILE writes one", path);
}

static int read_and_parse(const char *path, int fd, struct kuf_trace_entry **entries, u64 *nr)
{
	struct stat st;
	void *bytes;
	int err;

	if (fstat(fd, &st))
		return kuf_error(-errno, "%s", path);
	if (!S_ISREG(st.st_mode) || !st.st_size || (u64)st.st_size > MAX_SIZE)
		return kuf_error(0, "%s is no recording: --record=FILE writes one", path);
	bytes = malloc(st.st_size);
	if (!bytes)
		return kuf_error(-ENOMEM, "%s", path);
	err = file_read(fd, bytes, st.st_size, 0);
	if (err)
		kuf_error(err, "reading %s", path);
	else
		err = parse(path, bytes, st.st_size, entries, nr);
	free(bytes);
	return err;
}

int recording_read(const char *path, struct kuf_trace_entry **entries, u64 *nr)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		return kuf_error(-errno, "%s", path);
	err = read_and_parse(path, fd, entries, nr);
	close(fd);
	return err;
}
