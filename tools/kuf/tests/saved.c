// SPDX-License-Identifier: GPL-2.0
/*
 * Saved VMs for tests.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "saved.h"
#include "state.h"

static const struct state_group * const groups[] = {
	&state_cpuid, &state_sregs, &state_regs, &state_xcrs, &state_xsave, &state_msrs,
	&state_lapic, &state_events, &state_mp, &state_debug, &state_irqchip, &state_pit,
	&state_uart, &state_time,
};

static void make_page(unsigned int number, u64 page, u64 *to)
{
	u64 i;

	memset(to, 0, PAGE_SIZE);
	/* In runs of several lengths. */
	if (page % 9 < 2 || page / 64 % 8 == 5)
		return;
	for (i = 0; i < PAGE_SIZE / sizeof(*to); i++)
		to[i] = (page + number * 1000003ull) * 0x9e3779b97f4a7c15 + i;
}

bool saved_page_is(unsigned int number, u64 page, const void *content)
{
	u64 want[PAGE_SIZE / sizeof(u64)];

	make_page(number, page, want);
	return !memcmp(content, want, PAGE_SIZE);
}

void saved_session(u8 session[16], unsigned int number)
{
	memset(session, 0x40 + number, 16);
}

static bool write_pages(int fd, u64 offset, unsigned int number)
{
	u64 content[PAGE_SIZE / sizeof(u64)], page;

	for (page = 0; page < SAVED_PAGES; page++) {
		make_page(number, page, content);
		if (content[0] && pwrite(fd, content, PAGE_SIZE, offset + page * PAGE_SIZE) !=
		    (ssize_t)PAGE_SIZE)
			return false;
	}
	return true;
}

static void add_frames(struct frame_writer *w, unsigned int number)
{
	static const u8 nothing[64 << 10];
	struct state_config config = { .mem_size = MIN_MEM, .nr_cpus = 1 };
	u64 content[PAGE_SIZE / sizeof(u64)];
	static u32 crcs[SAVED_PAGES];
	size_t i;

	frame_add(w, STATE_CONFIG, 1, 0, &config, sizeof(config));
	for (i = 0; i < ARRAY_SIZE(groups); i++)
		frame_add(w, groups[i]->type, groups[i]->version, 0, nothing, groups[i]->min);
	for (i = 0; i < SAVED_PAGES; i++) {
		make_page(number, i, content);
		crcs[i] = crc32c(0, content, PAGE_SIZE);
	}
	frame_add(w, STATE_PAGES, 1, 0, crcs, sizeof(crcs));
}

bool saved_make(const char *path, unsigned int number)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct frame_writer w = {};
	struct frame_file file = {};
	bool ok;

	add_frames(&w, number);
	saved_session(file.session, number);
	file.data_offset = align_up(sizeof(file) + w.size, PAGE_SIZE);
	file.file_size = file.data_offset + MIN_MEM;
	frame_file_seal(&file, &w);
	ok = fd >= 0 && !ftruncate(fd, file.file_size) &&
	     pwrite(fd, w.data, w.size, sizeof(file)) == (ssize_t)w.size &&
	     write_pages(fd, file.data_offset, number) &&
	     pwrite(fd, &file, sizeof(file), 0) == sizeof(file);
	frame_writer_free(&w);
	close(fd);
	return ok;
}

off_t saved_page_at(const char *path, u64 page)
{
	int fd = open(path, O_RDONLY);
	struct frame_file file = {};

	if (pread(fd, &file, sizeof(file), 0) != sizeof(file))
		file.data_offset = 0;
	close(fd);
	return file.data_offset + page * PAGE_SIZE;
}

bool saved_directory(const char *path, const char *socket)
{
	unlink(socket);
	return (!mkdir(path, 0777) || errno == EEXIST) && !chmod(path, 01777);
}
