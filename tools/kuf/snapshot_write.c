// SPDX-License-Identifier: GPL-2.0
/*
 * Writing files that hold a saved VM.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc32c.h"
#include "dma.h"
#include "file.h"
#include "snapshot.h"

/* Pages to make present at once: their contents come while others are waited for. */
#define COMPLETE_SIZE	(256 * PAGE_SIZE)

/* Nothing is absent any more: what is saved does not depend on another file. */
static int complete(struct machine *m)
{
	struct mem *mem = &m->vm.mem;
	u64 offset, len;
	void *p;
	int err;

	for (offset = 0; m->vm.pager && offset < mem->size; offset += len) {
		len = mem->size - offset < COMPLETE_SIZE ? mem->size - offset : COMPLETE_SIZE;
		err = dma_map(&m->vm, mem_gpa(mem, offset), len, false, &p);
		if (err)
			return kuf_error(err, "the pages at offset 0x%llx are not to be had",
					 (unsigned long long)offset);
	}
	return 0;
}

static int write_all(int fd, const void *data, u64 size, u64 offset)
{
	int err = file_write(fd, data, size, offset);

	return err ? kuf_error(err, "writing the saved VM") : 0;
}

static const u8 zeroes[PAGE_SIZE];

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
		crcs[i] = page_is_zero(page) ? zero : crc32c(0, page, PAGE_SIZE);
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
		end = begin;
		while (end < mem->size && !page_is_zero(mem->area + end))
			end += PAGE_SIZE;
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
out:
	frame_writer_free(&w);
	return err;
}

int snapshot_write(struct machine *m, const char *path)
{
	struct file_new f;
	u64 pages = 0;
	int err;

	err = complete(m);
	if (!err)
		err = file_new_begin(&f, path);
	if (err)
		return err;
	err = file_new_end(&f, write_file(m, f.fd, &pages));
	if (err)
		return err;
	kuf_say("saved: %llu pages that are not zero, of %llu", (unsigned long long)pages,
		(unsigned long long)(m->vm.mem.size / PAGE_SIZE));
	return 0;
}
