// SPDX-License-Identifier: GPL-2.0
/*
 * Writing files that hold a saved VM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc32c.h"
#include "dma.h"
#include "snapshot.h"

static int write_all(int fd, const void *data, u64 size, u64 offset)
{
	ssize_t n;

	for (; size; data = (u8 *)data + n, size -= n, offset += n) {
		n = pwrite(fd, data, size, offset);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return kuf_error(n ? -errno : -EIO, "writing the saved VM");
	}
	return 0;
}

/* Nothing is absent any more: what is saved does not depend on another file. */
static int complete(struct machine *m)
{
	struct mem *mem = &m->vm.mem;
	u64 offset;
	void *p;
	int err;

	for (offset = 0; mem->bitmap && offset < mem->size; offset += PAGE_SIZE) {
		err = dma_map(&m->vm, mem_gpa(mem, offset), PAGE_SIZE, false, &p);
		if (err)
			return kuf_error(err, "the page at offset 0x%llx is not to be had",
					 (unsigned long long)offset);
	}
	return 0;
}

static const u8 zeroes[PAGE_SIZE];

static bool is_zero(const u8 *page)
{
	return !memcmp(page, zeroes, PAGE_SIZE);
}

static int add_pages(const struct mem *mem, struct frame_writer *w)
{
	u64 nr = mem->size / PAGE_SIZE, i;
	u32 *crcs = malloc(nr * sizeof(*crcs));
	u32 zero = crc32c(0, zeroes, PAGE_SIZE);
	const u8 *page;
	int err;

	if (!crcs)
		return kuf_error(-ENOMEM, "checksums of %llu pages", (unsigned long long)nr);
	for (i = 0; i < nr; i++) {
		page = mem->area + i * PAGE_SIZE;
		crcs[i] = is_zero(page) ? zero : crc32c(0, page, PAGE_SIZE);
	}
	err = frame_add(w, STATE_PAGES, 1, 0, crcs, nr * sizeof(*crcs));
	free(crcs);
	return err ? kuf_error(err, "checksums of %llu pages", (unsigned long long)nr) : 0;
}

/* Pages side by side in one write; zeroes stay holes. */
static int write_memory(const struct mem *mem, int fd, u64 data_offset, u64 *pages)
{
	u64 begin, end;
	int err;

	*pages = 0;
	for (begin = 0; begin < mem->size; begin = end + PAGE_SIZE) {
		for (end = begin; end < mem->size && !is_zero(mem->area + end); end += PAGE_SIZE)
			;
		err = write_all(fd, mem->area + begin, end - begin, data_offset + begin);
		if (err)
			return err;
		*pages += (end - begin) / PAGE_SIZE;
	}
	return 0;
}

/* The header at last: without it the file is nothing. */
static int write_file(struct machine *m, int fd, u64 *pages)
{
	struct frame_file file = {};
	struct frame_writer w = {};
	int err;

	err = state_save(m, &w);
	if (!err)
		err = add_pages(&m->vm.mem, &w);
	if (!err)
		err = write_all(fd, w.data, w.size, sizeof(file));
	if (err)
		goto out;
	memcpy(file.session, m->session, sizeof(file.session));
	file.data_offset = align_up(sizeof(file) + w.size, PAGE_SIZE);
	file.file_size = file.data_offset + m->vm.mem.size;
	frame_file_seal(&file, &w);
	if (ftruncate(fd, file.file_size)) {
		err = kuf_error(-errno, "%llu bytes for the saved VM",
				(unsigned long long)file.file_size);
		goto out;
	}
	err = write_memory(&m->vm.mem, fd, file.data_offset, pages);
	if (!err)
		err = write_all(fd, &file, sizeof(file), 0);
	if (!err && fsync(fd))
		err = kuf_error(-errno, "fsync of the saved VM");
out:
	frame_writer_free(&w);
	return err;
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

int snapshot_write(struct machine *m, const char *path)
{
	char tmp[PATH_MAX];
	u64 pages = 0;
	int fd, err;

	if (snprintf(tmp, sizeof(tmp), "%s.XXXXXX", path) >= (int)sizeof(tmp))
		return kuf_error(-ENAMETOOLONG, "%s", path);
	err = complete(m);
	if (err)
		return err;
	fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0)
		return kuf_error(-errno, "%s", tmp);
	err = write_file(m, fd, &pages);
	close(fd);
	if (!err && rename(tmp, path))
		err = kuf_error(-errno, "%s", path);
	if (err) {
		unlink(tmp);
		return err;
	}
	/* It is complete whether or not its name outlasts a crash of the host. */
	err = sync_directory(path);
	if (err)
		return kuf_error(err, "the directory of %s", path);
	kuf_say("saved: %llu pages that are not zero, of %llu", (unsigned long long)pages,
		(unsigned long long)(m->vm.mem.size / PAGE_SIZE));
	return 0;
}
