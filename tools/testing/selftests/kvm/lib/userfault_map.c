// SPDX-License-Identifier: GPL-2.0
/*
 * A userfault bitmap that a test can take away.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "test_util.h"
#include "userfault_map.h"

void userfault_map_alloc(struct userfault_map *m)
{
	m->page_size = getpagesize();
	m->fd = kvm_memfd_alloc(2 * m->page_size, false);
	m->area = kvm_mmap(2 * m->page_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			   m->fd);
}

void userfault_map_free(struct userfault_map *m)
{
	kvm_munmap(m->area, 2 * m->page_size);
	close(m->fd);
}

static void map_fixed(struct userfault_map *m, size_t start, off_t offset)
{
	void *p = mmap(m->area + start, 2 * m->page_size - start,
		       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, m->fd, offset);

	TEST_ASSERT(p == m->area + start, "mmap: %s", strerror(errno));
}

static void protect(struct userfault_map *m, size_t start, int prot)
{
	TEST_ASSERT(!mprotect(m->area + start, 2 * m->page_size - start, prot),
		    "mprotect: %s", strerror(errno));
}

static void break_protect(struct userfault_map *m, size_t start)
{
	protect(m, start, PROT_NONE);
}

static void mend_protect(struct userfault_map *m, size_t start)
{
	protect(m, start, PROT_READ | PROT_WRITE);
}

static void break_unmap(struct userfault_map *m, size_t start)
{
	kvm_munmap(m->area + start, 2 * m->page_size - start);
}

static void mend_map(struct userfault_map *m, size_t start)
{
	map_fixed(m, start, start);
}

static void break_truncate(struct userfault_map *m, size_t start)
{
	TEST_ASSERT(!ftruncate(m->fd, start), "ftruncate: %s", strerror(errno));
}

static void mend_truncate(struct userfault_map *m, size_t start)
{
	TEST_ASSERT(!ftruncate(m->fd, 2 * m->page_size), "ftruncate: %s",
		    strerror(errno));
}

/* Mapped, but to a part of the file that it does not have. */
static void break_beyond(struct userfault_map *m, size_t start)
{
	map_fixed(m, start, 2 * m->page_size);
}

const struct userfault_breakage userfault_breakages[NR_USERFAULT_BREAKAGES] = {
	{ "PROT_NONE", break_protect, mend_protect, true },
	{ "not mapped", break_unmap, mend_map, true },
	{ "file truncated", break_truncate, mend_truncate, false },
	{ "beyond the end of the file", break_beyond, mend_map, true },
};

void userfault_map_break(struct userfault_map *m,
			 const struct userfault_breakage *b, size_t start)
{
	memcpy(m->saved, m->area + m->page_size - sizeof(m->saved) / 2,
	       sizeof(m->saved));
	b->do_break(m, start);
}

void userfault_map_mend(struct userfault_map *m,
			const struct userfault_breakage *b, size_t start)
{
	b->mend(m, start);
	memcpy(m->area + m->page_size - sizeof(m->saved) / 2, m->saved,
	       sizeof(m->saved));
}
