// SPDX-License-Identifier: GPL-2.0
/*
 * Reading files that hold a saved VM.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "snapshot.h"

static int read_frames(struct snapshot *s, const char *path)
{
	struct stat st;
	int err;

	if (fstat(s->fd, &st))
		return kuf_error(-errno, "the saved VM %s", path);
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(s->file))
		return kuf_error(0, "%s is no saved VM: a file that kuf save wrote is needed",
				 path);
	err = file_read(s->fd, &s->file, sizeof(s->file), 0);
	if (err)
		return kuf_error(err, "reading %s: was it cut off, is its disk in order?", path);
	err = frame_file_check(&s->file, st.st_size);
	if (err)
		return err;
	s->frames = malloc(s->file.frames_size ?: 1);
	if (!s->frames)
		return kuf_error(-ENOMEM, "memory for %llu bytes of state of %s",
				 (unsigned long long)s->file.frames_size, path);
	err = file_read(s->fd, s->frames, s->file.frames_size, sizeof(s->file));
	if (err)
		return kuf_error(err, "reading %s: was it cut off, is its disk in order?", path);
	err = state_parse(&s->state, s->frames, s->file.frames_size, s->file.nr_frames);
	if (!err && !s->state.pages)
		err = kuf_error(0, "there is no list of pages");
	if (!err && s->file.file_size - s->file.data_offset != s->state.config.mem_size)
		err = kuf_error(0, "there is more, or less, memory in it than it says");
	return err;
}

int snapshot_open(struct snapshot *s, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	*s = (struct snapshot){ .fd = -1 };
	return fd < 0 ? kuf_error(-errno, "the saved VM %s", path) : snapshot_open_fd(s, fd, path);
}

int snapshot_open_fd(struct snapshot *s, int fd, const char *path)
{
	int err;

	*s = (struct snapshot){ .fd = fd };
	err = read_frames(s, path);
	if (err)
		kuf_error(0, "%s cannot be restored: use another copy, or the kuf that wrote it",
			  path);
	return err;
}

void snapshot_image(const struct snapshot *s, struct image *image)
{
	image_init(image, s->fd, s->file.data_offset, s->state.config.mem_size, s->state.pages);
}

int snapshot_load_memory(const struct image *image, struct mem *mem)
{
	u8 page[PAGE_SIZE] __attribute__((aligned(8)));
	u64 offset;
	int err;

	for (offset = 0; offset < mem->size; offset += PAGE_SIZE) {
		err = image_read_page(image, offset, page);
		if (err)
			return err;
		/* KVM may have written there while the state was loaded. */
		if (!page_is_zero(page) || !page_is_zero(mem->area + offset))
			memcpy(mem->area + offset, page, PAGE_SIZE);
	}
	return 0;
}

void snapshot_close(struct snapshot *s)
{
	free(s->frames);
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct snapshot){ .fd = -1 };
}
