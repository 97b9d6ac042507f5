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
#define RUN_PAGES	16
/* Memory that breaks just now. */
#define ATTEMPTS	8

/* The pages at @offset; -EHWPOISON: of them those that are not poisoned. */
static int bring(struct vm *vm, u64 offset, u64 len)
{
	u64 at;
	void *p;
	int err;

	err = dma_map(vm, mem_gpa(&vm->mem, offset), len, false, &p);
	for (at = 0; err == -EHWPOISON && at < len; at += PAGE_SIZE) {
		err = dma_map(vm, mem_gpa(&vm->mem, offset + at), PAGE_SIZE, false, &p);
		if (!err)
			err = -EHWPOISON;
	}
	return err;
}

/* Nothing is absent any more: what is saved does not depend on another file. */
static int complete(struct machine *m)
{
	struct mem *mem = &m->vm.mem;
	u64 offset, len;
	int err;

	for (offset = 0; m->vm.pager && offset < mem->size; offset += len) {
		len = mem->size - offset < COMPLETE_SIZE ? mem->size - offset : COMPLETE_SIZE;
		err = bring(&m->vm, offset, len);
		if (err && err != -EHWPOISON)
			return kuf_error(err,
					 "the pages at offset 0x%llx are needed to save it",
					 (unsigned long long)offset);
	}
	return 0;
}

static int write_all(int fd, const void *data, u64 size, u64 offset)
{
	int err = file_write(fd, data, size, offset);

	return err ? kuf_error(err, "writing the saved VM: is the disk full?") : 0;
}

static const u8 zeroes[PAGE_SIZE];

/* What is poisoned is saved as zeroes, and never read. */
static int read_page(struct machine *m, u64 offset, u8 *page)
{
	int err = dma_read_page(&m->vm, mem_gpa(&m->vm.mem, offset), page);

	if (err == -EHWPOISON) {
		memset(page, 0, PAGE_SIZE);
		return 0;
	}
	return err ? kuf_error(err, "the page at offset 0x%llx is not to be had",
			       (unsigned long long)offset) : 0;
}

static int add_pages(struct machine *m, struct frame_writer *w)
{
	u8 page[PAGE_SIZE] __attribute__((aligned(8)));
	u64 nr = m->vm.mem.size / PAGE_SIZE, i;
	u32 *crcs = malloc(nr * sizeof(*crcs));
	u32 zero = crc32c(0, zeroes, PAGE_SIZE);
	int err = 0;

	if (!crcs)
		return kuf_error(-ENOMEM, "memory for checksums of %llu pages",
				 (unsigned long long)nr);
	for (i = 0; !err && i < nr; i++) {
		err = read_page(m, i * PAGE_SIZE, page);
		crcs[i] = page_is_zero(page) ? zero : crc32c(0, page, PAGE_SIZE);
	}
	if (!err) {
		err = frame_add(w, STATE_PAGES, 1, 0, crcs, nr * sizeof(*crcs));
		if (err)
			kuf_error(err, "checksums of %llu pages", (unsigned long long)nr);
	}
	free(crcs);
	return err;
}

/* Pages side by side in one write; zeroes stay holes. */
static int write_memory(struct machine *m, int fd, u64 data_offset, u64 *pages)
{
	static u8 run[RUN_PAGES][PAGE_SIZE] __attribute__((aligned(8)));
	u64 size = m->vm.mem.size, begin, n;
	int err;

	*pages = 0;
	for (begin = 0; begin < size; begin += n * PAGE_SIZE) {
		for (n = 0; n < RUN_PAGES && begin + n * PAGE_SIZE < size; n++) {
			err = read_page(m, begin + n * PAGE_SIZE, run[n]);
			if (err)
				return err;
			if (page_is_zero(run[n]))
				break;
		}
		err = write_all(fd, run, n * PAGE_SIZE, data_offset + begin);
		if (err)
			return err;
		*pages += n;
		/* The one that is zero, or for which there was no room. */
		n += n < RUN_PAGES;
	}
	return 0;
}

/* The header at last: without it the file is nothing.  -EAGAIN: once more. */
static int write_file(struct machine *m, int fd, u64 *pages)
{
	u64 poisoned = vm_poisoned(&m->vm);
	struct frame_file file = {};
	struct frame_writer w = {};
	int err;

	err = state_save(m, &w);
	if (!err)
		err = add_pages(m, &w);
	if (!err)
		err = write_all(fd, w.data, w.size, sizeof(file));
	if (err)
		goto out;
	memcpy(file.session, m->session, sizeof(file.session));
	file.data_offset = align_up(sizeof(file) + w.size, PAGE_SIZE);
	file.file_size = file.data_offset + m->vm.mem.size;
	frame_file_seal(&file, &w);
	if (ftruncate(fd, file.file_size)) {
		err = kuf_error(-errno,
				"%llu bytes for the saved VM: the file system, or ulimit -f, does not allow it",
				(unsigned long long)file.file_size);
		goto out;
	}
	err = write_memory(m, fd, file.data_offset, pages);
	/* Pages were found to be broken that the state says are not. */
	if (!err && vm_poisoned(&m->vm) != poisoned)
		err = -EAGAIN;
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
	int err, i = 0;

	err = complete(m);
	if (err)
		return err;
	do {
		err = file_new_begin(&f, path);
		if (!err)
			err = file_new_end(&f, write_file(m, f.fd, &pages));
	} while (err == -EAGAIN && ++i < ATTEMPTS);
	if (err == -EAGAIN)
		return kuf_error(-EIO, "the guest's memory breaks faster than it can be saved");
	if (err)
		return err;
	kuf_say("saved: %llu pages that are not zero, of %llu", (unsigned long long)pages,
		(unsigned long long)(m->vm.mem.size / PAGE_SIZE));
	return 0;
}
