// SPDX-License-Identifier: GPL-2.0
/*
 * Reading files that hold a saved VM.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot.h"

static int read_all(int fd, void *data, u64 size, u64 offset)
{
	ssize_t n;

	for (; size; data = (u8 *)data + n, size -= n, offset += n) {
		n = pread(fd, data, size, offset);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n < 0)
			return -errno;
		else if (!n)
			return -ENODATA;
	}
	return 0;
}

static int read_frames(struct snapshot *s, const char *path)
{
	struct stat st;
	int err;

	if (fstat(s->fd, &st))
		return kuf_error(-errno, "%s", path);
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(s->file))
		return kuf_error(0, "%s is no saved VM", path);
	err = read_all(s->fd, &s->file, sizeof(s->file), 0);
	if (err)
		return kuf_error(err, "reading %s", path);
	err = frame_file_check(&s->file, st.st_size);
	if (err)
		return err;
	s->frames = malloc(s->file.frames_size ?: 1);
	if (!s->frames)
		return kuf_error(-ENOMEM, "%llu bytes of state",
				 (unsigned long long)s->file.frames_size);
	err = read_all(s->fd, s->frames, s->file.frames_size, sizeof(s->file));
	if (err)
		return kuf_error(err, "reading %s", path);
	err = state_parse(&s->state, s->frames, s->file.frames_size, s->file.nr_frames);
	if (!err && s->file.file_size - s->file.data_offset != s->state.config.mem_size)
		err = kuf_error(0, "there is more, or less, memory in it than it says");
	return err;
}

int snapshot_open(struct snapshot *s, const char *path)
{
	int err;

	*s = (struct snapshot){};
	s->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (s->fd < 0)
		return kuf_error(-errno, "%s", path);
	err = read_frames(s, path);
	if (err)
		kuf_error(0, "%s cannot be restored", path);
	return err;
}

int snapshot_map(struct snapshot *s, struct pager_source *source)
{
	void *map = mmap(NULL, s->file.file_size, PROT_READ, MAP_SHARED, s->fd, 0);

	if (map == MAP_FAILED)
		return kuf_error(-errno, "mmap of the saved VM");
	*source = (struct pager_source){
		.map = map,
		.map_size = s->file.file_size,
		.data_offset = s->file.data_offset,
		.crc_offset = sizeof(s->file) + ((u8 *)s->state.pages - (u8 *)s->frames),
	};
	return 0;
}

static bool is_zero(const void *page)
{
	const u64 *p = page;

	return !*p && !memcmp(p, p + 1, PAGE_SIZE - sizeof(*p));
}

int snapshot_load_memory(const struct pager_source *source, struct mem *mem)
{
	const u8 *page;
	u64 offset;
	int err;

	for (offset = 0; offset < mem->size; offset += PAGE_SIZE) {
		err = pager_source_page(source, offset, &page);
		if (err)
			return err;
		/* KVM may have written there while the state was loaded. */
		if (!is_zero(page) || !is_zero(mem->area + offset))
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
